"""How runs from the same fork points with the same noise end in two worlds: event rates by step, time to an
event, and the share of equal outcomes.

An outcome is a run's first event within the horizon: death, coin, or none. A simulated run has a probability
of each instead of one drawn end (`world_comparison.survival_weight`), so a share of equal outcomes is the
probability that the simulator gives to what happened in the game.
"""

import numpy as np

from common.stats import mean, ratio
from interpret.forks.world_comparison import Runs, event_probabilities, event_rates, survival_weight

OUTCOMES = ("death", "coin", "none")


def outcome_probabilities(runs: Runs) -> np.ndarray:
    """Probability [3, M, D] of each of OUTCOMES within the horizon."""
    events = event_probabilities(runs)
    death, coin = (events[name].sum(0) for name in ("death", "coin"))
    return np.stack([death, coin, 1 - death - coin])


def outcome_table(real: Runs, simulated: Runs, weights: np.ndarray) -> np.ndarray:
    """Share [R, 3, 3] of paired runs by the outcome in the game and in the simulator. weights [R, M]."""
    joint = np.einsum("imd,jmd->mij", *map(outcome_probabilities, (real, simulated))) / real.done.shape[2]
    return mean(weights, joint)


def equal_outcomes(real: Runs, simulated: Runs, weights: np.ndarray) -> np.ndarray:
    """Share [R] of paired runs with the same outcome in both worlds."""
    return np.trace(outcome_table(real, simulated, weights), axis1=1, axis2=2)


def mismatched_outcomes(real: Runs, simulated: Runs, weights: np.ndarray) -> np.ndarray:
    """`equal_outcomes` [R] of each fork point's runs with the next one's: what base rates alone give."""
    return equal_outcomes(real, Runs(*(_next_fork_point(x) for x in simulated)), weights)


def rates_by_step(runs: Runs, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Probability [R, T] of each of OUTCOMES at each step, given that the run reaches it."""
    reached = survival_weight(runs).sum(2).T
    events = {name: mass.sum(2).T for name, mass in event_probabilities(runs).items()}
    rates = {name: ratio(weights, events[name], reached) for name in ("death", "coin")}
    return rates | {"none": ratio(weights, reached - events["end"], reached)}


def time_to_event(runs: Runs, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Mean number of steps [R] to a death and to a coin, of runs in which it happens within the horizon."""
    events = event_probabilities(runs)
    steps = np.arange(1, len(runs.done) + 1)[:, None, None]
    return {
        name: ratio(weights, (events[name] * steps).sum((0, 2)), events[name].sum((0, 2)))
        for name in ("death", "coin")
    }


def rate_ratios(real: Runs, simulated: Runs, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Events per step in the simulator over those in the game [R]; NaN where the game has none."""
    there, here = (event_rates(runs, weights) for runs in (real, simulated))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: np.where(there[name] > 0, here[name] / there[name], np.nan) for name in there}


def _next_fork_point(x: np.ndarray) -> np.ndarray:
    return np.roll(x, 1, axis=1) if np.ndim(x) > 1 else x
