"""The same fork points played on in the real game and in the simulator: how often what happens, and how long runs
stay together.

Arrays are [T, M, D]: steps, fork points, draws of the noise. What single runs share is asked of the first
TOGETHER steps only; beyond, distributions are compared.
"""

from typing import NamedTuple

import numpy as np

from common.noise import gumbel_noise
from common.stats import mean, ratio
from interpret.forks.fork_points import ForkPoints
from rollouts.segment import Segment

PAIRED_STEPS = 12
EVENTS = ("end", "coin", "death")
STRIP_STEPS = (0, 1, 2, 4, 8, 12)
"""Steps whose frames are shown side by side."""


class Runs(NamedTuple):
    """What is kept of a world's runs: arrays [T, M, D, ...]. done: probability that the action ended the
    episode; coin: that it earned a reward if so; running: whether the step took place; action, value. Of the
    first TOGETHER steps also hidden, the state after the observation, and logits.
    """

    done: np.ndarray
    coin: np.ndarray
    running: np.ndarray
    action: np.ndarray
    value: np.ndarray
    hidden: np.ndarray
    logits: np.ndarray


def run_arrays(segment: Segment) -> dict[str, np.ndarray]:
    """A Segment's share of Runs, [T, B, ...]."""
    return {
        "done": segment.extra["done_prob"].numpy(),
        "coin": segment.extra["reward_prob"].numpy(),
        "running": segment.mask.numpy(),
        "action": segment.action.numpy().astype(np.uint8),
        "value": segment.value.float().numpy(),
        "hidden": segment.hidden_after()[:PAIRED_STEPS].float().numpy(),
        "logits": segment.logits[:PAIRED_STEPS].float().numpy(),
    }


def survival_weight(runs: Runs) -> np.ndarray:
    """Probability [T, M, D] that a run still goes on when each step begins. The simulator's runs are weighted
    by it, so that its coins and deaths need no dice.
    """
    survived = np.cumprod(1 - runs.done.astype(np.float64), axis=0)
    return np.concatenate([np.ones_like(survived[:1]), survived[:-1]]) * runs.running


def event_probabilities(runs: Runs) -> dict[str, np.ndarray]:
    """Probability [T, M, D] that a run ends at each step, and how: EVENTS. An end without a coin is a death."""
    end = survival_weight(runs) * runs.done
    return {"end": end, "coin": end * runs.coin, "death": end * (1 - runs.coin)}


def event_rates(runs: Runs, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Events per step, [R] each: over all steps that took place. weights [R, M]."""
    exposed = survival_weight(runs).sum((0, 2))
    return {
        name: ratio(weights, mass.sum((0, 2)), exposed) for name, mass in event_probabilities(runs).items()
    }


def cumulative_incidence(runs: Runs, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Share of runs [R, T] in which each event has happened by the end of each step. Survival is 1 minus that
    of `end`.
    """
    return {name: mean(weights, mass.cumsum(0).mean(2).T) for name, mass in event_probabilities(runs).items()}


def restricted_mean_survival(runs: Runs, weights: np.ndarray) -> np.ndarray:
    """Mean number of steps [R] that a run takes within the horizon (restricted mean survival time)."""
    return mean(weights, survival_weight(runs).sum(0).mean(1))


def effect_classes_of(action: np.ndarray, effect_classes) -> np.ndarray:
    """Actions as the number of their effect class, 0 .. classes - 1."""
    return np.unique(effect_classes, return_inverse=True)[1][action]


def action_agreement(real: Runs, other: Runs, effect_classes, weights: np.ndarray) -> np.ndarray:
    """Share [R, TOGETHER] of pairs that take the same effect class at each of the first steps, while both
    still run.
    """
    both = (survival_weight(real) * survival_weight(other))[:PAIRED_STEPS]
    left, right = (effect_classes_of(runs.action[:PAIRED_STEPS], effect_classes) for runs in (real, other))
    return ratio(weights, (both * (left == right)).sum(2).T, both.sum(2).T)


def mismatched_baseline(real: Runs, points: ForkPoints, seed: int) -> Runs:
    """The real runs with actions that the agent would take, by each fork point's own noise, where the next
    fork point's run is.

    What agreement with these leaves unexplained is not the noise that runs share. They run while both
    fork points' runs do.
    """
    shape = real.logits.shape[:3]
    action = np.zeros_like(real.action)
    running = real.running & np.roll(real.running, 1, axis=1)
    logits = np.roll(real.logits, 1, axis=1)
    for draw in range(shape[2]):
        keys = points.keys(seed, draw)
        for t in range(shape[0]):
            noise = gumbel_noise(
                keys.seed, keys.stream, keys.repeat, np.asarray(keys.step) + t, logits.shape[-1]
            )
            action[t, :, draw] = (logits[t, :, draw] + noise).argmax(-1)
    return real._replace(action=action, running=running)


def hidden_distance(real: Runs, simulated: Runs, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far apart the agent's hidden states are at each of the first TOGETHER steps: [R, T] for pairs, and
    for pairs of other fork points.

    The distance is the mean square of the difference in whitened coordinates of the real states (principal
    axes above 1% of the largest variance), over 2: about 1 for two states that have nothing to do with each
    other.
    """
    both = (survival_weight(real) * survival_weight(simulated))[:PAIRED_STEPS]
    white = _whitening(real.hidden[real.running[:PAIRED_STEPS]])
    left, right = (runs.hidden @ white for runs in (real, simulated))
    return _distance(left, right, both, weights), _distance(
        left, np.roll(right, 1, axis=1), both * np.roll(both, 1, axis=1), weights
    )


def action_distribution(
    runs: Runs, effect_classes, weights: np.ndarray, first: int = PAIRED_STEPS
) -> np.ndarray:
    """How runs are distributed from step `first` on: the share [R, classes] of each effect class among their
    steps.
    """
    act = effect_classes_of(runs.action[first:], effect_classes)
    here = survival_weight(runs)[first:]
    count = len(np.unique(effect_classes))
    shares = np.stack([(here * (act == c)).sum((0, 2)) for c in range(count)], -1)
    return ratio(weights, shares, np.broadcast_to(here.sum((0, 2))[:, None], shares.shape))


def value_distribution(
    runs: Runs, weights: np.ndarray, edges: np.ndarray, first: int = PAIRED_STEPS
) -> np.ndarray:
    """How the agent's value is distributed from step `first` on: the share [R, bins] of steps between the
    `edges`.
    """
    here = survival_weight(runs)[first:]
    index = np.digitize(runs.value[first:], edges[1:-1])
    shares = np.stack([(here * (index == i)).sum((0, 2)) for i in range(len(edges) - 1)], -1)
    return ratio(weights, shares, np.broadcast_to(here.sum((0, 2))[:, None], shares.shape))


def _whitening(states: np.ndarray) -> np.ndarray:
    """[D, K]: states [n, D] into uncorrelated coordinates of variance 1; K of their principal axes."""
    variance, axes = np.linalg.eigh(np.cov(states.T))
    kept_axes = variance > 0.01 * variance.max()
    return axes[:, kept_axes] / np.sqrt(variance[kept_axes])


def _distance(left: np.ndarray, right: np.ndarray, both: np.ndarray, weights: np.ndarray) -> np.ndarray:
    square = ((left - right) ** 2).mean(-1) / 2
    return ratio(weights, (both * square).sum(2).T, both.sum(2).T)
