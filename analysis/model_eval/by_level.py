"""Every statistic of a report with its 95% interval: computed anew with whole levels drawn with repetition.

A resample is a weight for each window, how often its level was drawn; the first row of weights is all ones
and gives the estimate itself, the others its interval (percentile bootstrap, Davison & Hinkley 1997, ch.
3.8).
"""

import numpy as np

RESAMPLES = 1000


def level_weights(levels: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Weights [1 + resamples, n] of windows whose levels are `levels` [n]. Raises ValueError where there are
    none.
    """
    unique, index = np.unique(levels, return_inverse=True)
    if not len(unique):
        raise ValueError("no windows to score")
    draws = np.random.default_rng(seed).multinomial(
        len(unique), np.full(len(unique), 1 / len(unique)), size=resamples
    )
    return np.concatenate([np.ones((1, len(unique))), draws])[:, index]


def ratio(weights: np.ndarray, total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Sum of totals over sum of counts: weights [R, n]; total, count [n] or [..., n] -> [R, ...]; NaN where
    nothing counts.
    """
    total, count = np.broadcast_arrays(np.where(count > 0, total, 0.0), np.asarray(count, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.moveaxis((total @ weights.T) / (count @ weights.T), -1, 0)


def psnr(weights: np.ndarray, error: np.ndarray, count: np.ndarray) -> np.ndarray:
    """PSNR in dB of squared errors (in [0, 1] units) pooled over all pixels: shapes as in `ratio`."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(ratio(weights, error, count))


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b in dB, of the same resamples; NaN where both are infinite, for two exact predictions have no
    distance.
    """
    with np.errstate(invalid="ignore"):
        return a - b


def interval(values: np.ndarray, n) -> dict:
    """Estimate values[0] and the middle 95% of its resamples values[1:] as JSON: value, low, high, n; None
    for what is not finite.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return {"value": number(values[0]), "low": number(low), "high": number(high), "n": int(n)}


def intervals(values: np.ndarray, n) -> list[dict]:
    """`interval` for every step: values [R, S], n [S]."""
    return [interval(values[:, s], n[s]) for s in range(values.shape[1])]


def number(x) -> float | None:
    """A float for JSON, which knows neither NaN nor infinity."""
    return float(x) if np.isfinite(x) else None
