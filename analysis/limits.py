"""Sizes that a store carries: those that were asked for are lowered to them, all in one line, before any work."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import NamedTuple

from common.runs import UsageError
from rollouts.growth import RECORD_MORE

GROUPS_PER_DIRECTION = 4
"""Levels (or source episodes) for each direction: fewer leave its stability untested (interpret.stability.fewest_levels)."""
GROUPS_PER_CLUSTER = 2
"""Levels (or source episodes) for each cluster."""


class Limit(NamedTuple):
    """most: the largest size that the data carry. because: what there is of it, such as "225 levels". least: with less, there is no analysis."""

    most: int
    because: str
    least: int = 1


def check_least(args, **least: int) -> None:
    """Raises UsageError for sizes below their least, all of them named at once. A tuple of sizes holds one or more."""
    wrong = [f"--{name} is {_words(getattr(args, name)) or 'empty'}: give {size} or more" for name, size in least.items() if _below(getattr(args, name), size)]
    if wrong:
        raise UsageError("; ".join(wrong))


def fit_sizes(args, limits: Mapping[str, Limit]):
    """A copy of `args` (a dataclass) whose fields are at most their limits; a warning names all that were lowered.

    A tuple of sizes keeps those within the limit, or becomes the limit alone. Raises UsageError, naming every shortage, where data carry
    less than the least.
    """
    short = [f"--{name} takes {limit.least} or more, and {limit.because} carry {max(limit.most, 0)}" for name, limit in limits.items() if limit.most < limit.least]
    if short:
        raise UsageError(f"too little data: {'; '.join(short)}: {RECORD_MORE}")
    lowered = {name: _within(getattr(args, name), limit.most) for name, limit in limits.items()}
    lowered = {name: size for name, size in lowered.items() if size != getattr(args, name)}
    if lowered:
        told = (f"--{name} {_words(getattr(args, name))} to {_words(size)} ({limits[name].because})" for name, size in lowered.items())
        logging.warning("sizes are lowered to what the data carry: %s", ", ".join(told))
    return dataclasses.replace(args, **lowered)


def _below(size: int | tuple[int, ...], least: int) -> bool:
    return min(size, default=least - 1) < least if isinstance(size, tuple) else size < least


def _within(size: int | tuple[int, ...], most: int) -> int | tuple[int, ...]:
    if isinstance(size, tuple):
        return tuple(one for one in size if one <= most) or (most,)
    return min(size, most)


def _words(size: int | tuple[int, ...]) -> str:
    return " ".join(map(str, size)) if isinstance(size, tuple) else str(size)
