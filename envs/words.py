"""Words for the two ways in which an episode ends, by game, for pages and figures."""

from typing import NamedTuple


class EndWords(NamedTuple):
    """rewarded: an end with a reward at the last step; unrewarded: any other end; reward: what earns one."""

    rewarded: str
    unrewarded: str
    reward: str


_OWN = {"coinrun": EndWords("coin", "death", "coin")}
"""Games in which the reward determines how an episode ended; in others an end without reward may be a death,
a time-out or a finished level.
"""
_NEUTRAL = EndWords("end with a reward", "end without a reward", "reward")


def end_words(game: str | None) -> EndWords:
    """The game's words, or neutral ones."""
    return _OWN.get(game, _NEUTRAL)
