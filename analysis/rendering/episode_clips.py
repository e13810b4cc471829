"""Whole episodes of an agent with its observations, logits, values and outcome, for rendering."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agents.evaluate import OUTCOMES
from common.policy import Policy
from rollouts.play import EpisodeSpec, play


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Args:
        spec: level and repeat.
        obs: [T, H, W, C] uint8.
        action: [T].
        logits: of the agent itself, before any behaviour [T, A].
        value: [T], NaN for an agent without a value head.
        reward: of the action taken at each step [T].
        outcome: one of agents.evaluate.OUTCOMES, or the name given to truncation.
    """

    spec: EpisodeSpec
    obs: np.ndarray
    action: np.ndarray
    logits: np.ndarray
    value: np.ndarray
    reward: np.ndarray
    outcome: str

    @property
    def length(self) -> int:
        return len(self.action)

    def summary(self) -> dict:
        """Level, repeat, length, return, outcome, and a hash of the frames."""
        total = float(self.reward.sum())
        frames = hashlib.sha256(self.obs.tobytes()).hexdigest()[:16]
        spec = {"level": self.spec.level, "repeat": self.spec.repeat}
        return spec | {"length": self.length, "return": total, "outcome": self.outcome, "frames": frames}


def play_episodes(
    env, policy: Policy, specs: Sequence[EpisodeSpec], seed: int, device="cpu", truncated: str = OUTCOMES[2]
) -> Iterator[Episode]:
    """Plays each episode to its end and yields it, in order.

    Args:
        env: environment with one slot.
        policy: that acts.
        specs: levels and repeats.
        seed: of the action noise, as in `rollouts.play.play`.
        device: of the policy.
        truncated: outcome of a truncated episode.

    Raises:
        ValueError: the environment has several slots.
    """
    if env.num != 1:
        raise ValueError(f"playing episodes in order takes an environment with one slot, not {env.num}")
    steps = []
    for played in play(env, policy, specs, seed, device):
        steps.append(played)
        if played.ended[0]:
            yield _episode(specs[played.job[0]], steps, truncated)
            steps = []


def _episode(spec: EpisodeSpec, steps: list, truncated: str) -> Episode:
    def concatenated(name: str) -> np.ndarray:
        return np.concatenate([getattr(played, name) for played in steps])

    last = steps[-1]
    outcome = OUTCOMES[0] if last.complete[0] else truncated if last.truncated[0] else OUTCOMES[1]
    return Episode(
        spec, *(concatenated(name) for name in ("obs", "action", "logits", "value", "reward")), outcome
    )
