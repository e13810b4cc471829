"""Plays the arms of an experiment in a world, from the same fork points with the same noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.policy import Policy
from common.progress import progress_bar
from interpret.forks.fork_points import ForkPoints
from interpret.forks.world_comparison import Runs
from interpret.forks.worlds import World, run_in_batches
from interpret.interventions.arms import Arm
from interpret.interventions.effects import EVENTS, events_by_point
from interpret.interventions.intervened import Intervened
from interpret.interventions.nulls import StateSample
from rollouts.segment import Segment
from rollouts.store import Rollouts

SAMPLED_STATES = 1024
"""States of the control arm on which null edits are matched, at most."""
REAL_STATES = 8000
"""States of the store that say where real states lie, at most."""


@dataclass(frozen=True)
class Experiment:
    """What all arms of a world share. world_of: the world in which a policy plays."""

    world_of: Callable[[Policy], World]
    agent: Policy
    action_names: Sequence[str]
    points: ForkPoints
    steps: int
    seed: int
    draws: int
    batch: int

    def play(self, policy: Policy, keep: Callable[[Segment], dict], bar=None) -> dict[str, np.ndarray]:
        world = self.world_of(policy)
        return run_in_batches(
            world, self.points, self.steps, self.seed, self.draws, self.batch, keep, bar=bar
        )


def _ends(segment: Segment) -> dict[str, np.ndarray]:
    """What events are computed from, [T, B]."""
    return {
        "action": segment.action.numpy().astype(np.uint8),
        "done": segment.extra["done_prob"].numpy(),
        "coin": segment.extra["reward_prob"].numpy(),
        "running": segment.mask.numpy(),
    }


def _ends_and_states(segment: Segment) -> dict[str, np.ndarray]:
    """Also the hidden states [T + 1, B, D]."""
    return _ends(segment) | {"hidden": segment.hidden.float().numpy()}


def _events(experiment: Experiment, kept: dict[str, np.ndarray]) -> np.ndarray:
    """EVENTS by fork point [5, M]."""
    runs = Runs(*(kept[name] for name in ("done", "coin", "running", "action")), *[None] * 3)
    return events_by_point(runs, experiment.action_names)


def play_control(experiment: Experiment) -> dict[str, np.ndarray]:
    """The agent without edits: outcomes [5, M], and running, done, coin, action [T, M, D], hidden [T + 1, M,
    D, W].
    """
    kept = experiment.play(experiment.agent, _ends_and_states)
    return kept | {"outcomes": _events(experiment, kept)}


def play_outcomes(experiment: Experiment) -> dict[str, np.ndarray]:
    """The agent without edits: outcomes [5, M] alone."""
    return {"outcomes": _events(experiment, experiment.play(experiment.agent, _ends))}


def play_tested(experiment: Experiment, arms: Sequence[Arm]) -> dict[str, np.ndarray]:
    """The tested arms, stacked [S, ...]; arrays as those of `play_control`."""
    parts = []
    total = len(arms) * len(experiment.points) * experiment.draws
    with progress_bar(total=total, unit="fork", desc="strengths") as bar:
        for arm in arms:
            policy = Intervened(experiment.agent, arm.interventions)
            kept = experiment.play(policy, _ends_and_states, bar)
            parts.append(kept | {"outcomes": _events(experiment, kept), "strength": np.array(arm.strength)})
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def play_nulls(experiment: Experiment, arms: Sequence[Arm], family: str) -> dict[str, np.ndarray]:
    """The null arms of a family: outcomes [K, 5, M], strength and whether matched [K]. Arms without a match
    are not played; their outcomes are NaN.
    """
    arms = [arm for arm in arms if arm.family == family]
    outcomes = np.full((len(arms), len(EVENTS), len(experiment.points)), np.nan)
    total = sum(arm.matched for arm in arms) * len(experiment.points) * experiment.draws
    with progress_bar(total=total, unit="fork", desc=family) as bar:
        for i, arm in enumerate(arms):
            if arm.matched:
                policy = Intervened(experiment.agent, arm.interventions)
                outcomes[i] = _events(experiment, experiment.play(policy, _ends, bar))
    return {
        "outcomes": outcomes,
        "strength": np.array([arm.strength for arm in arms]),
        "matched": np.array([arm.matched for arm in arms]),
    }


def state_sample(control: dict[str, np.ndarray], seed: int, device) -> StateSample:
    """Up to SAMPLED_STATES states of the control arm before and after an observation."""
    running, hidden = control["running"], control["hidden"]
    before, after = hidden[:-1][running], hidden[1:][running]
    rows = np.random.default_rng([seed, 3]).permutation(len(after))[:SAMPLED_STATES]
    return StateSample(*(torch.from_numpy(x[rows]).to(device) for x in (before, after)))


def real_states(rollouts: Rollouts, seed: int) -> np.ndarray:
    """Up to REAL_STATES states of the store, from random episodes."""
    rng = np.random.default_rng([seed, 4])
    found, count = [], 0
    for episode in rng.permutation(len(rollouts)):
        states = rollouts.episode(int(episode))["hidden"][1:]
        found.append(states[rng.permutation(len(states))[:40]])
        count += len(found[-1])
        if count >= REAL_STATES:
            break
    return np.concatenate(found)[:REAL_STATES]
