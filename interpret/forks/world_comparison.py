"""Runs from the same fork points in two worlds compared: event rates, agreement of actions, distance of
states.

Arrays are [T, M, D]: steps, fork points, noise draws. Paired runs are compared over the first PAIRED_STEPS
steps only; later, distributions are.
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
    """What is kept of a world's runs, [T, M, D, ...]."""

    done: np.ndarray
    """Probability that the action ended the episode."""
    coin: np.ndarray
    """Probability that it earned a reward, if so."""
    running: np.ndarray
    """Whether the step took place."""
    action: np.ndarray
    value: np.ndarray
    hidden: np.ndarray
    """State after the observation; of the first PAIRED_STEPS steps only, as logits."""
    logits: np.ndarray


def run_arrays(segment: Segment) -> dict[str, np.ndarray]:
    """The arrays of Runs from a Segment, [T, B, ...]."""
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
    """Probability [T, M, D] that a run is still going when each step begins.

    Simulated runs are weighted by it, so that their ends need not be sampled.
    """
    survived = np.cumprod(1 - runs.done.astype(np.float64), axis=0)
    return np.concatenate([np.ones_like(survived[:1]), survived[:-1]]) * runs.running


def event_probabilities(runs: Runs) -> dict[str, np.ndarray]:
    """Probability [T, M, D] of each of EVENTS at each step. An end without a coin is a death."""
    end = survival_weight(runs) * runs.done
    return {"end": end, "coin": end * runs.coin, "death": end * (1 - runs.coin)}


def event_rates(runs: Runs, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Events per step [R], over all steps that took place. weights [R, M]."""
    exposed = survival_weight(runs).sum((0, 2))
    return {
        name: ratio(weights, mass.sum((0, 2)), exposed) for name, mass in event_probabilities(runs).items()
    }


def cumulative_incidence(runs: Runs, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Share of runs [R, T] in which each event has happened by each step (survival: 1 - `end`)."""
    return {name: mean(weights, mass.cumsum(0).mean(2).T) for name, mass in event_probabilities(runs).items()}


def restricted_mean_survival(runs: Runs, weights: np.ndarray) -> np.ndarray:
    """Mean number of steps [R] that a run lasts within the horizon."""
    return mean(weights, survival_weight(runs).sum(0).mean(1))


def effect_classes_of(action: np.ndarray, effect_classes) -> np.ndarray:
    """Actions as numbers of their effect classes, 0 to classes - 1."""
    return np.unique(effect_classes, return_inverse=True)[1][action]


def action_agreement(real: Runs, other: Runs, effect_classes, weights: np.ndarray) -> np.ndarray:
    """Share [R, PAIRED_STEPS] of paired runs that take the same effect class at each step, while both run."""
    both = (survival_weight(real) * survival_weight(other))[:PAIRED_STEPS]
    left, right = (effect_classes_of(runs.action[:PAIRED_STEPS], effect_classes) for runs in (real, other))
    return ratio(weights, (both * (left == right)).sum(2).T, both.sum(2).T)


def mismatched_baseline(real: Runs, points: ForkPoints, seed: int) -> Runs:
    """Real runs with the actions that this fork point's noise gives on the next fork point's logits.

    A baseline for `action_agreement`: agreement beyond it is not explained by shared noise. Runs count while
    both fork points' runs do.
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
    """Distance of the agent's hidden states in two worlds at each of the first PAIRED_STEPS steps.

    Half the mean squared difference in whitened coordinates of the real states (principal axes with more than
    1% of the largest variance): about 1 for unrelated states.

    Returns:
        Two [R, T]: of paired runs, and of runs from different fork points.
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
    """Share [R, classes] of each effect class among the steps from `first` on."""
    effect = effect_classes_of(runs.action[first:], effect_classes)
    weight = survival_weight(runs)[first:]
    count = len(np.unique(effect_classes))
    shares = np.stack([(weight * (effect == c)).sum((0, 2)) for c in range(count)], -1)
    return ratio(weights, shares, np.broadcast_to(weight.sum((0, 2))[:, None], shares.shape))


def value_distribution(
    runs: Runs, weights: np.ndarray, edges: np.ndarray, first: int = PAIRED_STEPS
) -> np.ndarray:
    """Share [R, bins] of steps from `first` on whose value lies between consecutive `edges`."""
    weight = survival_weight(runs)[first:]
    index = np.digitize(runs.value[first:], edges[1:-1])
    shares = np.stack([(weight * (index == i)).sum((0, 2)) for i in range(len(edges) - 1)], -1)
    return ratio(weights, shares, np.broadcast_to(weight.sum((0, 2))[:, None], shares.shape))


def _whitening(states: np.ndarray) -> np.ndarray:
    """[D, K]: whitens states [n, D], onto their K leading principal axes."""
    variance, axes = np.linalg.eigh(np.cov(states.T))
    kept_axes = variance > 0.01 * variance.max()
    return axes[:, kept_axes] / np.sqrt(variance[kept_axes])


def _distance(left: np.ndarray, right: np.ndarray, both: np.ndarray, weights: np.ndarray) -> np.ndarray:
    square = ((left - right) ** 2).mean(-1) / 2
    return ratio(weights, (both * square).sum(2).T, both.sum(2).T)
