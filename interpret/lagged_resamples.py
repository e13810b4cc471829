"""Lagged correlations under bootstrap weights of episodes, from sums over each episode."""

from typing import NamedTuple

import numpy as np


class EpisodeSums(NamedTuple):
    """Sums over the pairs of each of E episodes at L lags.

    Numbers of pairs [E, L]; sums, and sums of squares, of the earlier and later scores [E, L, K]; sums of
    their products [E, L, K, K].
    """

    pairs: np.ndarray
    earlier: np.ndarray
    later: np.ndarray
    earlier_squared: np.ndarray
    later_squared: np.ndarray
    products: np.ndarray


def episode_sums(scores: np.ndarray, length: np.ndarray, lags: int) -> EpisodeSums:
    """Sums at lags 0 to `lags` of scores [n, K], episode after episode of length [E]."""
    centred = scores.astype(np.float64) - scores.mean(0)
    shape = (len(length), lags + 1, scores.shape[1])
    sums = EpisodeSums(
        np.maximum(length[:, None] - np.arange(lags + 1), 0),
        *(np.zeros(shape) for _ in range(4)),
        np.zeros((*shape, shape[-1])),
    )
    first = np.cumsum(length) - length
    for e, (at, steps) in enumerate(zip(first, length)):
        for lag in range(min(lags + 1, steps)):
            x, y = centred[at : at + steps - lag], centred[at + lag : at + steps]
            sums.earlier[e, lag], sums.later[e, lag] = x.sum(0), y.sum(0)
            sums.earlier_squared[e, lag], sums.later_squared[e, lag] = (x**2).sum(0), (y**2).sum(0)
            sums.products[e, lag] = x.T @ y
    return sums


def resampled_correlations(sums: EpisodeSums, weights: np.ndarray) -> np.ndarray:
    """Correlations [R, L, K, K], rows earlier and columns later, under weights [R, E] of the episodes.

    Row 0 of bootstrap weights gives those of `lagged_correlations`. NaN where a score does not vary.
    """
    pairs, *means, products = (np.tensordot(weights, x, 1) for x in sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y, xx, yy = (mean / pairs[..., None] for mean in means)
        covariance = products / pairs[..., None, None] - x[..., None] * y[..., None, :]
        scale_x, scale_y = (
            np.sqrt(np.where(variance > 1e-12 * square, variance, np.nan))
            for variance, square in ((xx - x**2, xx), (yy - y**2, yy))
        )
        return covariance / scale_x[..., None] / scale_y[..., None, :]
