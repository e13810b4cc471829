"""How far a Gaussian bottleneck is from its prior N(0, I): each window's posterior, and their aggregate."""

from dataclasses import dataclass

import numpy as np

ACTIVE = 0.01
"""A latent dimension is active if its mean varies by more than this over windows (Burda et al. 2016)."""


@dataclass(frozen=True)
class AggregatePosterior:
    """The aggregate posterior of n windows, by latent dimension [Z]; in nats.

    Moments are those of the mixture of all windows' posteriors, in closed form.
    """

    kl: np.ndarray
    """Mean KL from a window's posterior to N(0, 1) (the rate); NaN for posteriors without variance."""
    mean: np.ndarray
    variance: np.ndarray
    kurtosis: np.ndarray
    """Excess: 0 for a normal distribution."""
    of_means: np.ndarray
    """Variance of the posterior means: 0 for a dimension that carries no information."""

    @property
    def marginal_kl(self) -> np.ndarray:
        """KL [Z] to N(0, 1) from the normal distribution with the mixture's mean and variance: the part of
        the rate that is distance from the prior rather than information about the window (Hoffman &
        Johnson 2016).
        """
        return 0.5 * (self.variance + self.mean**2 - 1 - np.log(self.variance))

    @property
    def active(self) -> np.ndarray:
        """[Z] bool."""
        return self.of_means > ACTIVE


def aggregate_posterior(mean: np.ndarray, log_variance: np.ndarray | None) -> AggregatePosterior:
    """The aggregate of N(mean, exp(log_variance)) [n, Z]; log_variance None for point posteriors."""
    mean = np.asarray(mean, np.float64)
    own = np.zeros_like(mean) if log_variance is None else np.exp(np.asarray(log_variance, np.float64))
    kl = (
        np.full(mean.shape[1], np.nan)
        if log_variance is None
        else 0.5 * (mean**2 + own - 1 - log_variance).mean(0)
    )
    centred = mean - mean.mean(0)
    variance = (centred**2 + own).mean(0)
    fourth = (centred**4 + 6 * centred**2 * own + 3 * own**2).mean(0)
    return AggregatePosterior(kl, mean.mean(0), variance, fourth / variance**2 - 3, centred.var(0))
