"""Sizes that cannot be had: one line, and nothing is made."""

import re
from pathlib import Path

import pytest

from common.runs import UsageError

HUGE = 10**12


def refused_at_once(main, args, out: Path, message: str) -> None:
    """Asserts that main(args) is refused with a message of one line that matches, before anything lies at `out`."""
    with pytest.raises(UsageError) as refused:
        main(args)
    assert re.search(message, str(refused.value)) and "\n" not in str(refused.value)
    assert not out.exists() or not any(out.iterdir())
