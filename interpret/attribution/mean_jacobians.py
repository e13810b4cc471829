"""Mean Jacobians over samples: intervals, a test of each entry, and a test of a subset against the others.

A mean of gradients pairs nothing with anything, so that a null by pairing different episodes, which suits
correlations, would leave it as it is. Its null is that an earlier score pushes a later one up in some samples
and down in others, without preference: the sign of each group's samples is flipped at random. Whether a
subset has a Jacobian of its own is tested against as many samples drawn at random.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from common.runs import UsageError
from common.stats import level_weights, percentile_interval, ratio
from common.words import counted

MIN_GROUPS = 20
"""With fewer groups the normal approximation of the sign flips is too coarse, and no subset is tested."""


class MeanJacobian(NamedTuple):
    """Mean [L, K, K] over samples, by lag, and its 95% interval; p-values of the two tests.

    At lag 0 the Jacobian is that of the scores with respect to themselves and is not tested (NaN). `differs`
    is NaN where the subset is all samples.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    differs: np.ndarray
    samples: int
    groups: int


def mean_jacobian(
    jacobian: np.ndarray, groups: np.ndarray, member: np.ndarray, resamples: int = 1000, seed: int = 0
) -> MeanJacobian:
    """Mean over the members of a subset.

    Args:
        jacobian: of all samples [n, L, K, K].
        groups: of all samples [n]; resamples and sign flips take whole groups.
        member: [n] bool.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UsageError: for fewer than MIN_GROUPS groups.
    """
    chosen = jacobian[member]
    index = np.unique(groups[member], return_inverse=True)[1]
    count = index.max(initial=-1) + 1
    if count < MIN_GROUPS:
        raise UsageError(
            f"{counted(count, 'start episode')} are too few for a mean Jacobian: {MIN_GROUPS} or more"
        )
    sums = group_sums(chosen, index)
    sizes = np.bincount(index).reshape(-1, 1, 1, 1)
    weights = level_weights(np.arange(count), resamples, seed=seed)
    low, high = percentile_interval(ratio(weights, sums, sizes))
    p, differs = sign_flip_p(sums), difference_p(jacobian, member)
    p[0] = differs[0] = np.nan
    return MeanJacobian(chosen.mean(0), low, high, p, differs, len(chosen), int(count))


def limit_norms(jacobian: np.ndarray, quantile: float) -> np.ndarray:
    """Jacobians [n, L, K, K] of which none is larger, at any lag, than this quantile of their norms.

    Larger ones are scaled down to it: straight-through gradients through many simulated steps are now and
    then a hundred times as large as the rest, and would be the mean.
    """
    norms = np.linalg.norm(jacobian, axis=(2, 3), keepdims=True)
    limit = np.quantile(norms, quantile, axis=0, keepdims=True)
    return jacobian * np.minimum(1, limit / np.where(norms > 0, norms, 1)).astype(jacobian.dtype)


def group_sums(jacobian: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Sums [G, L, K, K] of jacobian [n, L, K, K] over groups numbered index [n]."""
    sums = np.zeros((index.max() + 1, *jacobian.shape[1:]))
    np.add.at(sums, index, jacobian)
    return sums


def sign_flip_p(sums: np.ndarray) -> np.ndarray:
    """Two-sided p-values [...] of the sum of group sums [G, ...] when each group's sign is flipped at random.

    Under flips the sum has mean 0 and the sum of squares as variance. It is nearly normal: its tails are
    within a factor of 4.5 of the normal's, however heavy those of the gradients (Pinelis 1994). 1 where all
    sums are 0.
    """
    spread = np.sqrt(np.square(sums).sum(0))
    return 2 * norm.sf(np.abs(sums.sum(0)) / np.where(spread > 0, spread, 1))


def difference_p(jacobian: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Two-sided p-values [...] of the mean over members [n] bool among all subsets of that size.

    Normal, with the mean and variance of samples drawn without replacement. NaN if all are members, or none,
    or nothing varies.
    """
    n = len(jacobian)
    m = int(member.sum())
    if not 0 < m < n:
        return np.full(jacobian.shape[1:], np.nan)
    variance = jacobian.var(0, ddof=1, dtype=np.float64) * (1 / m - 1 / n)
    off = np.abs(jacobian[member].mean(0, dtype=np.float64) - jacobian.mean(0, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * norm.sf(off / np.where(variance > 0, np.sqrt(variance), np.nan))


def extreme_samples(scores: np.ndarray, quantile: float) -> dict[str, np.ndarray]:
    """{"low", "high": [n, K] bool}: samples beyond a quantile of each score, scores [n, K].

    Beyond means strictly below the lower quantile, or above the upper one.
    """
    low, high = np.quantile(scores, [quantile, 1 - quantile], axis=0)
    return {"low": scores < low, "high": scores > high}
