"""Scores of episodes as numbers and as a table: return, outcomes, difficulty, causes of death."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from agents.evaluate import OUTCOMES, Episodes
from common.stats import Interval, cluster_bootstrap, json_number
from common.words import with_interval


def score(
    episodes: Episodes, difficulty: np.ndarray | None = None, causes: Sequence[str] | None = None
) -> dict:
    """JSON-able scores; intervals are [mean, low, high], bootstrapped by level, low and high None where there
    are too few levels.

    Args:
        episodes: the episodes.
        difficulty: of each episode's level, if the game has one.
        causes: of each death, in the order of episodes.

    Returns:
        Scores per group of episodes; outcomes are shares of the group's episodes, causes shares of all.
    """
    groups = {"all": np.ones(len(episodes.level), bool)}
    if difficulty is not None:
        groups |= {f"difficulty {d}": difficulty == d for d in np.unique(difficulty)}
    scores = {"groups": {name: _group(episodes, chosen) for name, chosen in groups.items()}}
    if causes is not None:
        scores["causes"] = _causes(episodes, causes)
    return scores


def _group(episodes: Episodes, chosen: np.ndarray) -> dict:
    """Scores of the episodes where `chosen` [n] is True."""
    level = episodes.level[chosen]
    outcome = episodes.outcome[chosen]
    shares = {name: _plain(cluster_bootstrap(outcome == i, level)) for i, name in enumerate(OUTCOMES)}
    returns = _plain(cluster_bootstrap(episodes.total_reward[chosen], level))
    counts = {"episodes": len(level), "levels": len(np.unique(level))}
    return {**counts, "return": returns, "length": float(episodes.length[chosen].mean()), **shares}


def _causes(episodes: Episodes, causes: Sequence[str]) -> dict:
    cause_of = np.full(len(episodes.level), "", dtype=object)
    cause_of[episodes.outcome == OUTCOMES.index("died")] = causes
    return {
        name: _plain(cluster_bootstrap(cause_of == name, episodes.level))
        for name, _ in Counter(causes).most_common()
    }


def _plain(interval: Interval) -> list[float | None]:
    return [interval.mean, json_number(interval.low), json_number(interval.high)]


def table(scores: dict) -> str:
    """Scores as text: means with 95% intervals by level, shares in percent."""
    head = f"{'':14}{'episodes':>9}{'return':>22}{'solved %':>21}{'died %':>21}{'timed out %':>21}"
    lines = [head]
    for name, group in scores["groups"].items():
        shares = "".join(f"{_cell(group[outcome], 100, 1):>21}" for outcome in OUTCOMES)
        lines.append(f"{name:14}{group['episodes']:>9}{_cell(group['return'], 1, 2):>22}{shares}")
    for name, share in scores.get("causes", {}).items():
        lines.append(f"killed by {name}: {_cell(share, 100, 1)} % of episodes")
    return "\n".join(lines)


def _cell(interval: Sequence[float | None], times: float, digits: int) -> str:
    return with_interval(*(None if x is None else times * x for x in interval), f".{digits}f")
