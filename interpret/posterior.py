"""How far a Gaussian bottleneck is from the N(0, I) that it is drawn towards: each window's posterior, and
all of them together.
"""

from dataclasses import dataclass

import numpy as np

ACTIVE = 0.01
"""Variance of its mean over windows from which on a dimension counts as active (Burda et al. 2016)."""


@dataclass(frozen=True)
class AggregatePosterior:
    """Of every dimension [Z], over n windows; nats. The moments are those of the mixture of all windows'
    posteriors, worked out, not drawn.
    """

    kl: np.ndarray
    """Mean KL from a window's posterior to N(0, 1): the rate, what it costs to tell the window. NaN for
    posteriors without variance.
    """
    mean: np.ndarray
    variance: np.ndarray
    kurtosis: np.ndarray
    """Excess: 0 for a normal distribution."""
    of_means: np.ndarray
    """Variance of the posteriors' means: 0 for a dimension that says nothing of the window."""

    @property
    def marginal_kl(self) -> np.ndarray:
        """KL [Z] from a normal distribution with the mixture's mean and variance to N(0, 1): the part of the
        rate that is no information on the window but the distance of all of them from the prior (Hoffman &
        Johnson 2016).
        """
        return 0.5 * (self.variance + self.mean**2 - 1 - np.log(self.variance))

    @property
    def active(self) -> np.ndarray:
        """[Z] bool."""
        return self.of_means > ACTIVE


def aggregate_posterior(mean: np.ndarray, log_variance: np.ndarray | None) -> AggregatePosterior:
    """Of the posteriors N(mean, exp(log_variance)) [n, Z] of n windows; log_variance None where they are
    points.
    """
    mean = np.asarray(mean, np.float64)
    own = np.zeros_like(mean) if log_variance is None else np.exp(np.asarray(log_variance, np.float64))
    kl = (
        np.full(mean.shape[1], np.nan)
        if log_variance is None
        else 0.5 * (mean**2 + own - 1 - log_variance).mean(0)
    )
    off = mean - mean.mean(0)
    variance = (off**2 + own).mean(0)
    fourth = (off**4 + 6 * off**2 * own + 3 * own**2).mean(0)
    return AggregatePosterior(kl, mean.mean(0), variance, fourth / variance**2 - 3, off.var(0))
