"""Lists of levels to evaluate on, without the layouts that an agent was trained on."""

import logging

from common.runs import UsageError
from common.words import counted
from envs.layouts import first_states, layout_hash

MAX_SEARCH_FACTOR = 10
"""Levels opened at most, relative to those requested, in search of layouts that are not excluded."""


def unseen_layouts(env, start: int, num: int, excluded: tuple[int, int] | None) -> list[int]:
    """The first `num` levels from `start` on whose layout occurs in none of the excluded levels.

    Raises:
        UsageError: MAX_SEARCH_FACTOR times as many levels do not contain them.
    """
    if excluded is None:
        return list(range(start, start + num))
    return levels_without(
        env,
        start,
        num,
        {layout_hash(state) for state in first_states(env, range(excluded[0], sum(excluded)))},
    )


def levels_without(env, start: int, num: int, known: set[str]) -> list[int]:
    """The first `num` levels from `start` on whose layout is not in `known`; raises as `unseen_layouts`."""
    kept = []
    at = start
    while len(kept) < num and at < start + MAX_SEARCH_FACTOR * num:
        levels = range(at, at + num - len(kept))
        kept += [
            level
            for level, state in zip(levels, first_states(env, levels))
            if layout_hash(state) not in known
        ]
        at = levels.stop
    if len(kept) < num:
        shortfall = (
            f"only {len(kept)} of the {counted(at - start, 'level')} from {start} on have a layout that"
            " is not excluded"
        )
        raise UsageError(
            f"{shortfall}: ask for no more --num_levels than that, or choose another --start_level"
        )
    logging.info(
        "passed over %d of the levels %d to %d: they have an excluded layout", at - start - num, start, at - 1
    )
    return kept
