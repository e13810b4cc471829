"""Effects of edits on what happens within a horizon: paired differences to the control arm, against nulls."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from common.stats import Estimate, estimate, mean
from interpret.forks.paired_outcomes import OUTCOMES, outcome_probabilities
from interpret.forks.world_comparison import Runs, survival_weight

EQUIVALENCE = 0.03
"""An effect whose interval lies within this of zero is called none."""
MIN_LAYOUTS = 30
"""From fewer layouts no interval is read: where an event is rare, resamples of them hardly differ."""
EVENTS = (*OUTCOMES, "jump", "left")
"""Outcomes of a fork, and the shares of its steps with an action that goes up, and one that goes left."""


def outcomes_by_point(runs: Runs) -> np.ndarray:
    """Probability [3, M] of each of OUTCOMES within the horizon, by fork point."""
    return outcome_probabilities(runs).mean(2)


def events_by_point(runs: Runs, action_names: Sequence[str]) -> np.ndarray:
    """Of each fork point [5, M], EVENTS: the probability of OUTCOMES within the horizon, and the share of its
    steps at which the action is up (`jump`) or left. A step counts as far as the run is still going.
    """
    weight = survival_weight(runs)
    words = [name.split("-") for name in action_names]
    pressed = [np.array([word in name for name in words])[runs.action] for word in ("up", "left")]
    shares = [(weight * one).sum((0, 2)) / weight.sum((0, 2)) for one in pressed]
    return np.concatenate([outcomes_by_point(runs), np.stack(shares)])


def paired_difference(arm: np.ndarray, control: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Change of the probability of each outcome [3, R]: arm minus control, [3, M] each; weights [R, M]."""
    return np.stack([mean(weights, change) for change in arm - control])


class NullTest(NamedTuple):
    """An effect among null effects.

    low, high: between which 95% of the nulls lie. p: two-sided, of an effect as far from the nulls' median
    if the tested edit were one of them.
    """

    low: float
    high: float
    p: float

    def holds(self, effect: float) -> bool:
        """Whether the effect lies beyond the nulls."""
        return not self.low <= effect <= self.high


def null_test(effect: float, nulls: np.ndarray) -> NullTest:
    """Where an effect lies among n exchangeable null effects.

    The interval has the quantiles i / (n + 1) at the i-th smallest null, so that one more null lies in it
    with probability 0.95 for n = 39, 79, 119, ... and nearly so for others.
    """
    low, high = np.quantile(nulls, [0.025, 0.975], method="weibull")
    middle = np.median(nulls)
    beyond = np.sum(np.abs(nulls - middle) >= abs(effect - middle) - 1e-12)
    return NullTest(float(low), float(high), float((1 + beyond) / (1 + len(nulls))))


def no_effect(effect: Estimate, layouts: int, equivalence: float = EQUIVALENCE) -> bool:
    """Whether the interval lies within `equivalence` of zero, and enough layouts were seen that a change at
    none of them says as much: if n of n are without one, up to 3 / n of all may have it ("rule of three").
    """
    return max(-effect.low, effect.high, 3 / layouts) <= equivalence


def verdict(effect: Estimate, nulls: Mapping[str, NullTest], layouts: int) -> str:
    """In words: whether there is an effect, whether it is more than that of any edit that moves the policy as
    far (KL-matched), and whether other fitted directions have it too.

    Args:
        effect: with its interval.
        nulls: by family; a family without a matched edit is missing.
        layouts: that the interval is from.
    """
    if layouts < MIN_LAYOUTS:
        return "too few to say"
    if effect.low <= 0 <= effect.high:
        return "no effect" if no_effect(effect, layouts) else "undecided"
    if "KL-matched" not in nulls:
        return "without a null"
    if not nulls["KL-matched"].holds(effect.value):
        return "like any edit of that size"
    if "fitted" not in nulls:
        return "beyond any edit of that size"
    return "specific" if nulls["fitted"].holds(effect.value) else "not specific"


def effect_summary(arm: np.ndarray, control: np.ndarray, weights: np.ndarray) -> dict[str, Estimate]:
    """Paired difference of every outcome, and event where given, with its interval by layout."""
    return dict(zip(EVENTS, map(estimate, paired_difference(arm, control, weights))))


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjusted p-values of a family (Holm 1979): those at most 0.05 are rejected with 5% errors in all."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted
