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
    """First level for tests of an agent trained on a range, after VALIDATION_LEVELS kept for choices."""
    return start_level + num_levels + VALIDATION_LEVELS


def jobs_over(levels: Sequence[int], episodes: int) -> list[EpisodeSpec]:
    """`episodes` episodes over the levels in order; levels repeat with other action noise."""
    return [EpisodeSpec(levels[i % len(levels)], i // len(levels)) for i in range(episodes)]


def fixed_jobs(first_level: int, num_levels: int, episodes: int) -> list[EpisodeSpec]:
    """`jobs_over` for levels first_level to first_level + num_levels - 1."""
    return jobs_over(range(first_level, first_level + num_levels), episodes)


@dataclass(frozen=True)
class Episodes:
    """Results of every episode, arrays [n] in the order of jobs; outcome indexes OUTCOMES."""

    level: np.ndarray
    repeat: np.ndarray
    total_reward: np.ndarray
    length: np.ndarray
    outcome: np.ndarray

    def interval(self, of: str = "total_reward") -> Interval:
        """Mean of a column with its interval by level."""
        return cluster_bootstrap(getattr(self, of), self.level)

    def share(self, outcome: str) -> Interval:
        """Share of episodes with that outcome, with its interval by level."""
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
    """Plays all episodes under the policy's own action choice.

    Args:
        env: VecEnv, see `play`.
        policy: the policy.
        jobs: episodes to play.
        seed: of the action noise.
        device: where the policy runs.
        progress: whether to show a progress bar.
        watch: called with every step.

    Raises:
        ValueError: there are no episodes.
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
