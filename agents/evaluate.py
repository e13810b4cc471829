"""Scores a policy on a fixed list of (level, repeat) pairs, each episode to its end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.progress import progress_bar
from common.stats import Interval, cluster_bootstrap
from rollouts.play import EpisodeSpec, StepBatch, play

OUTCOMES = ("solved", "died", "timed out")
VALIDATION_LEVELS = 50


def first_unseen_level(start_level: int, num_levels: int) -> int:
    """Where levels begin that an agent trained on a range never saw: the VALIDATION_LEVELS after the range
    are for choices.
    """
    return start_level + num_levels + VALIDATION_LEVELS


def jobs_over(levels: Sequence[int], episodes: int) -> list[EpisodeSpec]:
    """`episodes` jobs over the levels in order, repeats as they run out."""
    return [EpisodeSpec(levels[i % len(levels)], i // len(levels)) for i in range(episodes)]


def fixed_jobs(first_level: int, num_levels: int, episodes: int) -> list[EpisodeSpec]:
    """`jobs_over` the levels first_level .. first_level + num_levels - 1."""
    return jobs_over(range(first_level, first_level + num_levels), episodes)


@dataclass(frozen=True)
class Episodes:
    """What became of each job, arrays [n] in job order. outcome indexes OUTCOMES."""

    level: np.ndarray
    repeat: np.ndarray
    total_reward: np.ndarray
    length: np.ndarray
    outcome: np.ndarray

    def interval(self, of: str = "total_reward") -> Interval:
        """The mean of a column with its interval by level."""
        return cluster_bootstrap(getattr(self, of), self.level)

    def share(self, outcome: str) -> Interval:
        """The share of episodes that ended so, with its interval by level."""
        return cluster_bootstrap(self.outcome == OUTCOMES.index(outcome), self.level)


def evaluate(
    policy,
    env,
    jobs: Sequence[EpisodeSpec],
    seed: int,
    device="cpu",
    progress: bool = False,
    watch: Callable[[StepBatch], None] | None = None,
) -> Episodes:
    """Plays all jobs in `env` (its slots share them) under the policy's own action choice, showing each step
    to `watch`.

    Raises ValueError for no jobs.
    """
    if not jobs:
        raise ValueError("zero episodes asked: nothing to evaluate")
    total = np.zeros(len(jobs))
    length = np.zeros(len(jobs), np.int64)
    outcome = np.zeros(len(jobs), np.int64)
    with progress_bar(total=len(jobs), unit="episode", desc="evaluate", disable=not progress) as bar:
        for played in play(env, policy, jobs, seed, device):
            total[played.job] += played.reward
            length[played.job] += 1
            outcome[played.job] = np.where(played.complete, 0, np.where(played.truncated, 2, 1))
            if watch is not None:
                watch(played)
            bar.update(int(played.ended.sum()))
    level, repeat = np.array(jobs, np.int64).T
    return Episodes(level, repeat, total, length, outcome)
