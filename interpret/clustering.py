"""K-means clusters to which further points can be assigned, and their stability over resampled episodes."""

from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from common.progress import progress_bar
from common.runs import UsageError
from common.stats import level_resamples
from common.words import counted
from interpret.subsample import subsample
from rollouts.growth import RECORD_MORE

MAX_ROWS = 100_000
"""More points than this are subsampled, stratified, for the fit; all of them are assigned."""
STABLE = 0.75
"""A cluster counts as stable from this mean Jaccard overlap on (Hennig 2007)."""
_CHUNK = 65_536


class Clusters(NamedTuple):
    """K-means centres."""

    centres: np.ndarray
    """[C, D], those of the largest clusters first."""

    def assign(self, points: np.ndarray) -> np.ndarray:
        """The cluster [n] of points [n, D]: that of the nearest centre."""
        half = (self.centres**2).sum(1) / 2
        chunks = (points[at : at + _CHUNK] for at in range(0, len(points), _CHUNK))
        return np.concatenate([(half - chunk @ self.centres.T).argmin(1) for chunk in chunks])


def fit_clusters(
    points: np.ndarray, groups: np.ndarray, count: int, seed: int = 0, starts: int = 3
) -> Clusters:
    """Clusters by k-means (Lloyd; the best of several k-means++ starts), largest first.

    Scale the features first, as `principal_space` does.

    Args:
        points: [n, D].
        groups: [n], level or episode of each.
        count: C, number of clusters.
        seed: of the fit.
        starts: number of starts.

    Raises:
        UsageError: for fewer levels than clusters.
    """
    if count < 1 or count > len(np.unique(groups)):
        raise UsageError(
            f"{counted(count, 'cluster')} of "
            f"{counted(len(np.unique(groups)), 'level or episode', 'levels or episodes')}: "
            f"ask for fewer, or {RECORD_MORE}"
        )
    sampled = points[subsample(groups, MAX_ROWS, seed)]
    centres = KMeans(count, n_init=starts, random_state=seed).fit(sampled).cluster_centers_.astype(np.float32)
    sizes = np.bincount(Clusters(centres).assign(sampled), minlength=count)
    return Clusters(centres[np.argsort(-sizes, kind="stable")])


class ClusterStability(NamedTuple):
    """How well clusters are recovered from resampled episodes."""

    rand: np.ndarray
    """[draws]: adjusted Rand index of all labels."""
    jaccard: np.ndarray
    """[draws, C]: overlap of each cluster with its best match."""

    @property
    def stable(self) -> np.ndarray:
        """[C] bool."""
        return self.jaccard.mean(0) >= STABLE


def cluster_stability(
    points: np.ndarray, groups: np.ndarray, count: int, draws: int = 20, seed: int = 0
) -> ClusterStability:
    """Refits on bootstrap resamples of the groups and compares the labels of all points (Hennig 2007,
    "Cluster-wise assessment of cluster stability").

    Args:
        points: [n, D].
        groups: [n], the episodes that are resampled.
        count: C, number of clusters.
        draws: number of refits, each from one start.
        seed: of fits and resamples.
    """
    reference = fit_clusters(points, groups, count, seed).assign(points)
    resamples = level_resamples(groups, draws, seed=[seed, 8])
    rand = []
    jaccard = []
    for draw, rows in enumerate(
        progress_bar(resamples, total=draws, desc="cluster stability", unit="fit", leave=False)
    ):
        centres = (
            KMeans(count, n_init=1, random_state=seed + 1 + draw)
            .fit(points[rows])
            .cluster_centers_.astype(np.float32)
        )
        labels = Clusters(centres).assign(points)
        rand.append(adjusted_rand_score(reference, labels))
        jaccard.append(best_jaccard(reference, labels, count))
    return ClusterStability(np.array(rand), np.stack(jaccard))


def best_jaccard(labels: np.ndarray, others: np.ndarray, count: int) -> np.ndarray:
    """Largest Jaccard overlap [count] of each cluster of labels [n] with a cluster of others [n]."""
    both = np.zeros((count, count))
    np.add.at(both, (labels, others), 1)
    either = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    return (both / np.maximum(either, 1)).max(1)


def gaussian_null(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Gaussian points [n, D] with the same mean and covariance: a null without clusters."""
    rng = np.random.default_rng([seed, 9])
    return rng.multivariate_normal(points.mean(0), np.cov(points.T), len(points), method="eigh").astype(
        np.float32
    )
