"""Whole episodes of an agent to look at: what it saw, what it thought, what it did, how it ended."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agents.evaluate import OUTCOMES
from common.policy import Policy
from rollouts.play import EpisodeSpec, play


@dataclass(frozen=True)
class Episode:
    """One episode of T steps. obs [T, H, W, C] uint8; action [T]; logits [T, A], the agent's own; value [T],
    NaN without one; reward [T], of the action taken at that step; outcome: one of agents.evaluate.OUTCOMES,
    or what `watch` calls a cut.
    """

    job: EpisodeSpec
    obs: np.ndarray
    action: np.ndarray
    logits: np.ndarray
    value: np.ndarray
    reward: np.ndarray
    outcome: str

    @property
    def length(self) -> int:
        return len(self.action)

    def record(self) -> dict:
        """The episode in one line: level, repeat, length, return, how it ended, and a hash of the frames that
        the agent saw.
        """
        total = float(self.reward.sum())
        frames = hashlib.sha256(self.obs.tobytes()).hexdigest()[:16]
        asked = {"level": self.job.level, "repeat": self.job.repeat}
        return asked | {"length": self.length, "return": total, "outcome": self.outcome, "frames": frames}


def watch(
    env, policy: Policy, jobs: Sequence[EpisodeSpec], seed: int, device="cpu", cut: str = OUTCOMES[2]
) -> Iterator[Episode]:
    """Plays each job to its end and yields it, in order. env needs one slot, so that no episode waits for
    another.

    seed: of the action noise, as in `rollouts.play.play`. cut: the outcome of an episode that ran out of
    time. Raises ValueError for more slots.
    """
    if env.num != 1:
        raise ValueError(f"watching takes an environment with one slot, not {env.num}")
    steps = []
    for played in play(env, policy, jobs, seed, device):
        steps.append(played)
        if played.ended[0]:
            yield _episode(jobs[played.job[0]], steps, cut)
            steps = []


def _episode(job: EpisodeSpec, steps: list, cut: str) -> Episode:
    def stacked(name):
        return np.concatenate([getattr(played, name) for played in steps])

    last = steps[-1]
    outcome = OUTCOMES[0] if last.complete[0] else cut if last.truncated[0] else OUTCOMES[1]
    return Episode(job, *(stacked(name) for name in ("obs", "action", "logits", "value", "reward")), outcome)


def class_probabilities(logits: np.ndarray, effect_classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities summed over actions that are the same act: ([T, K], the K classes by their
    representative).

    logits [T, A]; effect_classes: for each of the A actions the representative of its effect.
    """
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    classes, member = np.unique(effect_classes, return_inverse=True)
    summed = weights @ np.eye(len(classes))[member]
    return summed / weights.sum(-1, keepdims=True), classes
