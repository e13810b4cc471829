"""Intervals that respect how the data came about: resampled by level, not by step."""

from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean with a 95% percentile-bootstrap interval, over n episodes in `clusters` levels."""

    mean: float
    low: float
    high: float
    n: int
    clusters: int


def cluster_bootstrap(
    values: np.ndarray, clusters: np.ndarray, seed: int = 0, resamples: int = 2000
) -> Interval:
    """The mean of `values` [n], its interval bootstrapped over whole `clusters` [n] (Davison & Hinkley 1997,
    ch. 3.8).

    Raises ValueError when there is nothing to average.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise ValueError("no values to average: zero episodes")
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, values)
    counts = np.bincount(index)
    draws = np.random.default_rng(seed).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=resamples
    )
    means = (draws @ sums) / (draws @ counts)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), len(values), len(sums))
