"""Numbers of samples, as --sample_ids gives them. Imports nothing slow."""

from collections.abc import Sequence
from pathlib import Path

from common.errors import UsageError
from common.words import counted

MOST_DIGITS = 9


def parse_sample_ids(words: Sequence[str]) -> Sequence[int]:
    """Numbers of samples, from numbers or from "a to b": a, ..., b - 1, as the original system counts.

    Raises:
        UsageError: for anything else, and for no numbers.
    """
    if "to" in words:
        ends = [_number(word) for word in words if word != "to"]
        if len(words) != 3 or words[1] != "to":
            raise UsageError(
                f"--sample_ids {' '.join(words)} is no range: give two numbers, such as 0 to 100"
            )
        ids = range(*ends)
    else:
        ids = list(dict.fromkeys(_number(word) for word in words))
    if not ids:
        raise UsageError(
            f"--sample_ids {' '.join(words)} names no sample: give numbers, or a range such as 0 to 100, "
            "whose end is left out"
        )
    return ids


def _number(word: str) -> int:
    if not word.isdecimal():
        raise UsageError(f"--sample_ids takes numbers from 0 on, or a range such as 0 to 100, not {word!r}")
    if len(word) > MOST_DIGITS:
        raise UsageError(f"--sample_ids has a number of {len(word)} digits: give numbers below a billion")
    return int(word)


def check_ids(ids: Sequence[int], count: int, path: Path) -> None:
    """Raises UsageError for numbers beyond the starting points of a store."""
    beyond = next((one for one in ids if one >= count), None)
    if beyond is not None:
        raise UsageError(
            f"there is no sample {beyond}: {path} has {counted(count, 'starting point')}, "
            f"0 to {count - 1}; give smaller --sample_ids"
        )
