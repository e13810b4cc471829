"""A straight line through points whose coordinates are both noisy means over repeated draws."""

from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
    """A fitted line; each field is [R], one entry per row of bootstrap weights.

    NaN where the errors leave no variance of x (for the correlation: of x or y). Errors estimated too large
    can push the correlation beyond 1 in size; it is then clipped.
    """

    slope: np.ndarray
    intercept: np.ndarray
    correlation: np.ndarray
    """Of the error-free coordinates (disattenuated)."""
    reliability: np.ndarray
    """Share of the variance of x that is not measurement error."""


def fit_line(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> Line:
    """Regression of y on x that corrects for measurement error in both (method of moments, Fuller 1987,
    "Measurement error models", ch. 2).

    The error covariance is estimated from the spread of a point's D draws and subtracted from the sample
    covariances. The errors of x and y may be correlated, as when draw d shares its noise. With D = 1 nothing
    is known of the errors and the fit is ordinary least squares.

    Args:
        weights: [R, n] bootstrap weights (`common.stats.level_weights`).
        x: [n, D], D repeated draws of each point.
        y: [n, D].
    """
    total = weights.sum(1)
    mean_x, mean_y = (weights @ values.mean(1) / total for values in (x, y))
    var_x, raw_var_x = _error_free_covariance(weights, x, x)
    var_y, _ = _error_free_covariance(weights, y, y)
    covariance, _ = _error_free_covariance(weights, x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(var_x > 0, covariance / var_x, np.nan)
        clipped = np.clip(covariance / np.sqrt(var_x * var_y), -1, 1)
        correlation = np.where((var_x > 0) & (var_y > 0), clipped, np.nan)
        reliability = np.where(raw_var_x > 0, var_x / raw_var_x, np.nan)
    return Line(slope, mean_y - slope * mean_x, correlation, reliability)


def _error_free_covariance(
    weights: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance [R] of a and b [n, D] without their errors, and with them."""
    total = weights.sum(1)
    mean_a = a.mean(1)
    mean_b = b.mean(1)
    product = weights @ (mean_a * mean_b) - total * (weights @ mean_a / total) * (weights @ mean_b / total)
    raw = product / (total - 1)
    return raw - weights @ _error_covariance(a, b) / total, raw


def _error_covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Covariance [n] of the errors of two means over draws [n, D]; 0 for a single draw."""
    draws = a.shape[1]
    if draws == 1:
        return np.zeros(len(a))
    return ((a - a.mean(1, keepdims=True)) * (b - b.mean(1, keepdims=True))).sum(1) / (draws - 1) / draws
