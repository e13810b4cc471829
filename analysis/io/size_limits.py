"""Limits of sizes given as flags: too large ones are lowered to what the data allow, before any work."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import NamedTuple

from common.runs import UsageError
from rollouts.growth import RECORD_MORE

GROUPS_PER_DIRECTION = 4
"""Levels (or source episodes) per direction; with fewer, stability is untested (see `fewest_levels` in
interpret.directions.stability).
"""
GROUPS_PER_CLUSTER = 2
"""Levels (or source episodes) per cluster."""

Size = int | tuple[int, ...]


class Limit(NamedTuple):
    """Limit of a size.

    Args:
        most: largest size that the data allow.
        because: what limits it, such as "225 levels".
        least: smallest useful size.
    """

    most: int
    because: str
    least: int = 1


def check_least(args, **least: int) -> None:
    """Raises UsageError that names all sizes below their minimum; a tuple needs one size or more."""
    wrong = [
        f"--{name} is {_words(getattr(args, name)) or 'empty'}: give {size} or more"
        for name, size in least.items()
        if _below(getattr(args, name), size)
    ]
    if wrong:
        raise UsageError("; ".join(wrong))


def fit_sizes(args, limits: Mapping[str, Limit]):
    """A copy of a dataclass whose sizes are at most their limits; one warning names all that are lowered.

    A tuple of sizes keeps those within the limit, or becomes the limit alone.

    Raises:
        UsageError: the data allow less than the smallest useful size; the message names every such size.
    """
    short = [
        f"--{name} needs {limit.least} or more, and {limit.because} allow {max(limit.most, 0)}"
        for name, limit in limits.items()
        if limit.most < limit.least
    ]
    if short:
        raise UsageError(f"too little data: {'; '.join(short)}: {RECORD_MORE}")
    fitted = {name: _within(getattr(args, name), limit.most) for name, limit in limits.items()}
    lowered = {name: size for name, size in fitted.items() if size != getattr(args, name)}
    if lowered:
        changes = (
            f"--{name} {_words(getattr(args, name))} to {_words(size)} ({limits[name].because})"
            for name, size in lowered.items()
        )
        logging.warning("sizes are lowered to what the data allow: %s", ", ".join(changes))
    return dataclasses.replace(args, **lowered)


def _within(size: Size, most: int) -> Size:
    if isinstance(size, tuple):
        return tuple(item for item in size if item <= most) or (most,)
    return min(size, most)


def _below(size: Size, least: int) -> bool:
    return min(size, default=least - 1) < least if isinstance(size, tuple) else size < least


def _words(size: Size) -> str:
    return " ".join(map(str, size)) if isinstance(size, tuple) else str(size)
