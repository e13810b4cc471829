"""What pages and pictures call the two ways in which an episode ends, game by game."""

from typing import NamedTuple


class EndWords(NamedTuple):
    """rewarded: an end whose last step earned a reward; unrewarded: any other end; reward: what earns one."""

    rewarded: str
    unrewarded: str
    reward: str


_OWN = {"coinrun": EndWords("coin", "death", "coin")}
"""Games in which the reward settles how an episode ended; in others an end without a reward may be a death, a
time-out or a finished level.
"""
_NEUTRAL = EndWords("end with a reward", "end without a reward", "reward")


def end_words(game: str | None) -> EndWords:
    """The game's own words, or neutral ones."""
    return _OWN.get(game, _NEUTRAL)
