"""Effects of edits on what happens within a horizon: paired differences to the control arm, against nulls."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from common.stats import Estimate, estimate, mean
from interpret.forks.paired_outcomes import OUTCOMES, outcome_probabilities
from interpret.forks.world_comparison import Runs

EQUIVALENCE = 0.03
"""An effect whose interval lies within this of zero is called none."""


def outcomes_by_point(runs: Runs) -> np.ndarray:
    """Probability [3, M] of each of OUTCOMES within the horizon, by fork point."""
    return outcome_probabilities(runs).mean(2)


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


def verdict(effect: Estimate, nulls: Mapping[str, NullTest]) -> str:
    """In words: whether there is an effect, whether it is more than that of any edit that moves the policy as
    far (KL-matched), and whether other fitted directions have it too.

    nulls: by family; a family without a matched edit is missing.
    """
    if effect.low <= 0 <= effect.high:
        within = max(-effect.low, effect.high) < EQUIVALENCE
        return "no effect" if within else "undecided"
    if "KL-matched" not in nulls:
        return "without a null"
    if not nulls["KL-matched"].holds(effect.value):
        return "like any edit of that size"
    if "fitted" not in nulls:
        return "beyond any edit of that size"
    return "specific" if nulls["fitted"].holds(effect.value) else "not specific"


def effect_summary(arm: np.ndarray, control: np.ndarray, weights: np.ndarray) -> dict[str, Estimate]:
    """Paired difference of every outcome with its interval by layout."""
    return dict(zip(OUTCOMES, map(estimate, paired_difference(arm, control, weights))))
