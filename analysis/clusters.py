"""Clusters of points, to which further points can be assigned, and whether they come back when episodes are drawn again."""

from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from analysis.points import subsample
from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from rollouts.growth import RECORD_MORE

MOST_ROWS = 100_000
"""More points than this are thinned out, stratified, before the fit; all of them are assigned."""
STABLE = 0.75
"""Mean Jaccard overlap from which on a cluster counts as stable (Hennig 2007)."""
_CHUNK = 65_536


class Clusters(NamedTuple):
    """centres [C, D], those of the largest clusters first."""

    centres: np.ndarray

    def assign(self, points: np.ndarray) -> np.ndarray:
        """The cluster [n] of points [n, D]: that of the nearest centre, whether they were part of the fit or not."""
        half = (self.centres**2).sum(1) / 2
        chunks = (points[at : at + _CHUNK] for at in range(0, len(points), _CHUNK))
        return np.concatenate([(half - chunk @ self.centres.T).argmin(1) for chunk in chunks])


def fit_clusters(points: np.ndarray, groups: np.ndarray, count: int, seed: int = 0, starts: int = 3) -> Clusters:
    """`count` clusters of points [n, D] by k-means (Lloyd; k-means++ starts, the best of `starts`); groups [n]: level or episode of each.

    Scale the features first: `principal_space` does. Raises UsageError for fewer levels than clusters.
    """
    if count < 1 or count > len(np.unique(groups)):
        raise UsageError(f"{counted(count, 'cluster')} of {counted(len(np.unique(groups)), 'level or episode', 'levels or episodes')}: ask for fewer, or {RECORD_MORE}")
    taken = points[subsample(groups, MOST_ROWS, seed)]
    centres = KMeans(count, n_init=starts, random_state=seed).fit(taken).cluster_centers_.astype(np.float32)
    sizes = np.bincount(Clusters(centres).assign(taken), minlength=count)
    return Clusters(centres[np.argsort(-sizes, kind="stable")])


class ClusterStability(NamedTuple):
    """How well clusters were found again: rand [draws], the adjusted Rand index of all labels; jaccard [draws, C], of each cluster with its best partner."""

    rand: np.ndarray
    jaccard: np.ndarray

    @property
    def stable(self) -> np.ndarray:
        """[C] bool."""
        return self.jaccard.mean(0) >= STABLE


def cluster_stability(points: np.ndarray, groups: np.ndarray, count: int, draws: int = 20, seed: int = 0) -> ClusterStability:
    """Fits again to `draws` samples of episodes with repetition, assigns all points each time, and compares (Hennig 2007, "Cluster-wise
    assessment of cluster stability"). points [n, D], groups [n]. Each fit has one start."""
    reference = fit_clusters(points, groups, count, seed).assign(points)
    order = np.argsort(groups, kind="stable")
    rows_of = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    rng, rand, jaccard = np.random.default_rng([seed, 8]), [], []
    for draw in progress_bar(range(draws), desc="cluster stability", unit="fit", leave=False):
        rows = np.concatenate([rows_of[group] for group in rng.integers(len(rows_of), size=len(rows_of))])
        again = KMeans(count, n_init=1, random_state=seed + 1 + draw).fit(points[rows]).cluster_centers_.astype(np.float32)
        labels = Clusters(again).assign(points)
        rand.append(adjusted_rand_score(reference, labels))
        jaccard.append(best_jaccard(reference, labels, count))
    return ClusterStability(np.array(rand), np.stack(jaccard))


def best_jaccard(labels: np.ndarray, others: np.ndarray, count: int) -> np.ndarray:
    """Of each cluster of labels [n], the largest overlap with one of others [n]: [count], points in both over points in either."""
    both = np.zeros((count, count))
    np.add.at(both, (labels, others), 1)
    either = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    return (both / np.maximum(either, 1)).max(1)


def without_clusters(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Gaussian points [n, D] of the same mean and covariance: what the numbers of clusters are to be compared with."""
    rng = np.random.default_rng([seed, 9])
    return rng.multivariate_normal(points.mean(0), np.cov(points.T), len(points), method="eigh").astype(np.float32)
