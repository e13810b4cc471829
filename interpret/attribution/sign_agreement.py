"""Do mean Jacobians and lagged correlations agree in sign and in order of size, beyond chance?

Chance is not one half: if most entries of both are positive, most agree whatever they mean. The null relabels
the directions of the Jacobian, rows and columns alike (Mantel 1967; "quadratic assignment"): it keeps how
many entries of each sign there are at each lag, and which of them share a direction, and breaks only which
pair of directions is which. Pairs of a direction with itself are left out: they stay such pairs under any
relabelling, and both are nearly always positive.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


class WithNull(NamedTuple):
    """A statistic of each of L lags and, last, of all lags together [L + 1]; and the same under the null.

    n: entries that count. null [P, L + 1]: under P relabellings. NaN where no entry counts.
    """

    value: np.ndarray
    n: np.ndarray
    null: np.ndarray

    @property
    def null_mean(self) -> np.ndarray:
        return np.array([np.nanmean(x) if np.isfinite(x).any() else np.nan for x in self.null.T])

    @property
    def null_interval(self) -> np.ndarray:
        """[L + 1, 2]: 2.5th and 97.5th percentile."""
        known = [x[np.isfinite(x)] for x in self.null.T]
        return np.array([np.quantile(x, [0.025, 0.975]) if len(x) else [np.nan, np.nan] for x in known])

    @property
    def p(self) -> np.ndarray:
        """[L + 1]: two-sided; a relabelling in which nothing counts is as extreme as can be."""
        high = (~(self.null < self.value - 1e-12)).sum(0)
        low = (~(self.null > self.value + 1e-12)).sum(0)
        p = np.minimum(2 * (1 + np.minimum(high, low)) / (1 + len(self.null)), 1.0)
        return np.where(np.isfinite(self.value), p, np.nan)


def relabellings(count: int, draws: int, seed: int = 0) -> np.ndarray:
    """Random permutations [P, K] of K directions."""
    rng = np.random.default_rng([seed, 18])
    return np.stack([rng.permutation(count) for _ in range(draws)])


def signs(values: np.ndarray, significant: np.ndarray) -> np.ndarray:
    """Signs [L, K, K], 0 where a value is not significant or unknown, and for pairs of a direction with
    itself.
    """
    apart = ~np.eye(values.shape[-1], dtype=bool)
    return np.where(significant & apart & np.isfinite(values), np.sign(np.nan_to_num(values)), 0)


def sign_agreement(jacobian: np.ndarray, correlation: np.ndarray, orders: np.ndarray) -> WithNull:
    """Share of entries with the same sign among those where neither is 0.

    Args:
        jacobian: signs [L, K, K] of mean Jacobians, from `signs`.
        correlation: likewise, of correlations.
        orders: relabellings [P, K].
    """
    observed = _agreeing(jacobian, correlation)
    null = np.stack([_agreeing(_relabelled(jacobian, order), correlation) for order in orders])
    return WithNull(_share(observed), observed[:, 1], _share(null))


def _agreeing(jacobian: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Numbers [L + 1, 2] of entries that agree and of those that count."""
    product = jacobian * correlation
    counts = np.stack([(product > 0).sum((1, 2)), (product != 0).sum((1, 2))], 1)
    return np.concatenate([counts, counts.sum(0, keepdims=True)])


def _share(counts: np.ndarray) -> np.ndarray:
    return counts[..., 0] / np.where(counts[..., 1] > 0, counts[..., 1], np.nan)


def _relabelled(matrices: np.ndarray, order: np.ndarray) -> np.ndarray:
    return matrices[:, order][:, :, order]


def magnitude_agreement(jacobian: np.ndarray, correlation: np.ndarray, orders: np.ndarray) -> WithNull:
    """Spearman's correlation of the magnitudes over all pairs of two directions, at each lag; for all lags
    together its mean, because magnitudes of both fall with the lag.

    Args:
        jacobian: [L, K, K].
        correlation: [L, K, K].
        orders: relabellings [P, K].
    """
    a, b = (_centred_ranks(np.abs(x)) for x in (jacobian, correlation))
    apart = a.shape[1] * (a.shape[1] - 1)
    null = np.stack([_correlate(_relabelled(a, order), b) for order in orders])
    n = np.append(np.full(len(a), apart), apart * len(a))
    return WithNull(_correlate(a, b), n, null)


def resampled_magnitudes(jacobian: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Correlations of magnitudes [1 + R, L + 1], as in `magnitude_agreement`, in bootstrap resamples.

    Args:
        jacobian: resampled mean Jacobians [1 + R, L, K, K].
        correlation: resampled correlations, likewise.
    """
    ranks = ((_centred_ranks(np.abs(a)), _centred_ranks(np.abs(b))) for a, b in zip(jacobian, correlation))
    return np.stack([_correlate(a, b) for a, b in ranks])


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks [L, K, K] of different directions' entries at each lag, less their mean; 0 for all others and for
    unknown values.
    """
    apart = ~np.eye(values.shape[-1], dtype=bool)
    ranks = np.zeros(values.shape)
    for out, matrix in zip(ranks, values):
        known = apart & np.isfinite(matrix)
        found = rankdata(matrix[known])
        out[known] = found - found.mean() if len(found) else 0
    return ranks


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlations [L + 1] of centred ranks at each lag, and their mean; NaN where ranks do not vary."""
    scale = np.sqrt((a**2).sum((1, 2)) * (b**2).sum((1, 2)))
    found = (a * b).sum((1, 2)) / np.where(scale > 0, scale, np.nan)
    return np.append(found, np.nanmean(found) if np.isfinite(found).any() else np.nan)


def resampled_agreement(jacobian: np.ndarray, correlation: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Share of equal signs [1 + R, L + 1] in bootstrap resamples, among the entries that count in the data.

    Args:
        jacobian: resampled mean Jacobians [1 + R, L, K, K].
        correlation: resampled correlations, likewise.
        counted: [L, K, K] bool.
    """
    agree = (np.sign(jacobian) * np.sign(correlation) > 0) & counted
    counts = np.stack([agree.sum((2, 3)), np.broadcast_to(counted.sum((1, 2)), agree.shape[:2])], -1)
    return _share(np.concatenate([counts, counts.sum(1, keepdims=True)], 1))
