"""Intervals for any weighted statistic: levels are drawn again, and every moment counts as often as its level
was drawn.
"""

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A number with its 95% percentile-bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]" if np.isfinite(self.value) else "undefined"
        )


def level_weights(levels: np.ndarray, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """[1 + resamples, n]: how often each of n moments counts. Row 0 is the data as they are; in the others
    levels are drawn with repetition, a level's moments together (Davison & Hinkley 1997, ch. 3.8). Raises
    ValueError for no moments.
    """
    if not len(levels):
        raise ValueError("nothing to resample: zero moments")
    _, index = np.unique(levels, return_inverse=True)
    count = index.max() + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.concatenate([np.ones((1, len(index))), draws[:, index]])


def estimate(draws: np.ndarray) -> Estimate:
    """The statistic of the data, row 0 of draws [1 + resamples], with the interval of the other rows;
    resamples in which it is not defined (NaN) are left out.
    """
    known = draws[1:][np.isfinite(draws[1:])]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return Estimate(float(draws[0]), float(low), float(high))


def ratio(weights: np.ndarray, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Sum over sum, by row of weights [R, n]: numerator and denominator [n, ...] -> [R, ...]. NaN where there
    is nothing below.
    """
    above, below = (np.tensordot(weights, np.asarray(x, np.float64), 1) for x in (numerator, denominator))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of values [n, ...] by row of weights [R, n]: [R, ...]."""
    return ratio(weights, values, np.ones_like(values, np.float64))


class Line(NamedTuple):
    """A straight line through noisy points, each field [R], by row of weights.

    slope, intercept and correlation are those of the points' true places; reliability is the share of the
    variance of x that is not its own error. NaN where the errors leave no variance of x (of either, for the
    correlation). A correlation beyond 1, which errors estimated too large can give, is set to 1.
    """

    slope: np.ndarray
    intercept: np.ndarray
    correlation: np.ndarray
    reliability: np.ndarray


def line(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> Line:
    """y against x, both known only as means of D draws: x [n, D], y [n, D], weights [R, n] -> Line.

    Errors in both, which may be correlated as draw d is in both, are estimated from the spread among a
    point's draws and taken out of the covariances (method of moments, Fuller 1987, "Measurement error
    models", ch. 2). With D = 1 nothing is known of the errors, and none are taken out.
    """
    total = weights.sum(1)
    sx = x.mean(1)
    sy = y.mean(1)
    mx, my = (weights @ s / total for s in (sx, sy))

    def true_covariance(a, b):
        across = (
            weights @ (a.mean(1) * b.mean(1))
            - total * (weights @ a.mean(1) / total) * (weights @ b.mean(1) / total)
        ) / (total - 1)
        return across - weights @ _error(a, b) / total, across

    (vx, raw), (vy, _), (cxy, _) = true_covariance(x, x), true_covariance(y, y), true_covariance(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(vx > 0, cxy / vx, np.nan)
        correlation = np.where((vx > 0) & (vy > 0), np.clip(cxy / np.sqrt(vx * vy), -1, 1), np.nan)
        return Line(slope, my - slope * mx, correlation, np.where(raw > 0, vx / raw, np.nan))


def _error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Covariance [n] of the errors of two means over draws [n, D]."""
    draws = a.shape[1]
    if draws == 1:
        return np.zeros(len(a))
    return ((a - a.mean(1, keepdims=True)) * (b - b.mean(1, keepdims=True))).sum(1) / (draws - 1) / draws
