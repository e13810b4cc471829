"""Which points of a recording are analysed: a stratified subsample, without outliers, on its principal
components.
"""

import logging
from typing import NamedTuple

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from common.runs import UsageError
from common.words import counted
from interpret.directions.directions import Directions
from interpret.directions.pca import fit_pca
from rollouts.growth import RECORD_MORE

VARIANCE_SHARE = 0.95
"""Share of the variance held by the components on which points are clustered and mapped."""
MAX_REFERENCE = 10_000
"""Neighbours are searched in a random subsample of at most this many points."""
_CHUNK = 65_536


def subsample(groups: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Rows (ascending) of at most `most` of n points, stratified by episode or level.

    The points, ordered by group, are cut into `most` equal stretches, and one point is drawn from each: every
    group has its share to within one point, and so have early and late steps. All rows if there are no more.

    Args:
        groups: [n], episode or level of each point.
        most: size of the sample.
        seed: of the draws.
    """
    if most < 1:
        raise UsageError(f"--points is {most}: give 1 or more")
    n = len(groups)
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, most + 1).astype(np.int64)  # whole, so that no point lies in two stretches
    drawn = np.random.default_rng([seed, 6]).random(most)
    rows = (edges[:-1] + drawn * np.diff(edges)).astype(np.int64)
    return np.sort(np.argsort(groups, kind="stable")[rows])


class Inliers(NamedTuple):
    """Points that are not outliers."""

    kept: np.ndarray
    """[n] bool: distance at most `limit`."""
    distance: np.ndarray
    """[n]: median distance to the nearest neighbours."""
    limit: float
    reference: np.ndarray
    """[m]: rows among which neighbours were searched."""


def inliers(points: np.ndarray, neighbours: int = 5, sigmas: float = 2.0, seed: int = 0) -> Inliers:
    """Excludes points far from their neighbours.

    A point is an outlier if its median distance to its nearest `neighbours` exceeds the mean of these
    distances by more than `sigmas` standard deviations. Neighbours are searched among MAX_REFERENCE of the
    points.

    Args:
        points: [n, D].
        neighbours: neighbours per point.
        sigmas: standard deviations.
        seed: of the reference subsample.

    Raises:
        UsageError: for too few points, or if none is left.
    """
    if neighbours < 1 or len(points) <= neighbours:
        raise UsageError(
            f"{counted(len(points), 'point')} without {counted(neighbours, 'neighbour')} each: "
            f"ask for 1 neighbour or more, or {RECORD_MORE}"
        )
    reference = np.sort(np.random.default_rng([seed, 7]).permutation(len(points))[:MAX_REFERENCE])
    own = np.full(len(points), -1)
    own[reference] = np.arange(len(reference))
    distance = median_neighbour_distance(points, points[reference], neighbours, own)
    limit = float(distance.mean() + sigmas * distance.std())
    if not (distance <= limit).any():
        raise UsageError(
            f"{sigmas} standard deviations leave none of {counted(len(points), 'point')}: allow more"
        )
    return Inliers(distance <= limit, distance, limit, reference)


def median_neighbour_distance(
    points: np.ndarray, reference: np.ndarray, neighbours: int, own: np.ndarray | None = None
) -> np.ndarray:
    """Median distance [n] of points [n, D] to their nearest `neighbours` of reference [m, D].

    own: see `nearest_neighbours`.
    """
    own = np.full(len(points), -1) if own is None else own
    chunks = (slice(at, at + _CHUNK) for at in range(0, len(points), _CHUNK))
    return np.concatenate(
        [
            np.median(nearest_neighbours(points[rows], reference, neighbours, own[rows])[0], 1)
            for rows in chunks
        ]
    )


def nearest_neighbours(
    points: np.ndarray, reference: np.ndarray, count: int, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rows [n, count] of the nearest reference points, by brute force.

    Args:
        points: [n, D].
        reference: [m, D].
        count: neighbours per point.
        own: [n], the row of reference that a point itself is, which does not count; -1 if it is not among
            them.
    """
    if own is None:
        return NearestNeighbors(n_neighbors=count, algorithm="brute").fit(reference).kneighbors(points)
    distance, row = (
        NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(reference).kneighbors(points)
    )
    itself = row == own[:, None]
    itself[~itself.any(1), -1] = True  # one is dropped in every row: itself, or else the farthest
    return distance[~itself].reshape(-1, count), row[~itself].reshape(-1, count)


def varying_columns(x: np.ndarray) -> np.ndarray:
    """Columns of x [n, D] that vary, ascending; the others are named in the log.

    Raises:
        UsageError: if fewer than two vary.
    """
    changes = x.std(0) > 1e-6 * np.abs(x).max(0) + 1e-12
    if changes.sum() < 2:
        raise UsageError(
            f"{changes.sum()} of {counted(x.shape[1], 'feature')} change over {counted(len(x), 'point')}: "
            "there is nothing to map; check what was recorded"
        )
    if not changes.all():
        logging.info(
            "left out, as they never change: %d of %s, %s",
            (~changes).sum(),
            counted(len(changes), "feature"),
            np.flatnonzero(~changes).tolist()[:20],
        )
    return np.flatnonzero(changes)


def num_components_for(variance: np.ndarray, share: float = VARIANCE_SHARE) -> int:
    """How many leading components hold `share` of the variance [K] (largest first, of all components)."""
    cumulative = np.cumsum(variance) / np.sum(variance)
    return int(np.searchsorted(cumulative, share - 1e-9) + 1)


def residual_variance(pca: Directions) -> float:
    """Variance of the standardised features outside the principal components; each feature has 1."""
    known = int((pca.write != 0).any(1).sum())  # others were left out (Directions.within)
    return max(known - float(np.sum(pca.provenance["variance"])), 0.0)


def leading_components(pca: Directions, share: float = VARIANCE_SHARE) -> Directions:
    """The first principal components that hold `share` of the variance, at least two.

    All of them, with a warning, if together they hold less (with fewer components than features). Scores keep
    their variance, so that distances are those of standardised features.
    """
    variance = np.asarray(pca.provenance["variance"])
    needed = max(num_components_for(np.append(variance, residual_variance(pca)), share), 2)  # a map has two
    count = min(needed, len(pca))
    if count < needed:
        logging.warning(
            "%s, as many as these levels give, hold less than %.0f%% of the variance",
            counted(count, "principal component"),
            100 * share,
        )
    facts = pca.provenance | {"variance": variance[:count].tolist()}
    return Directions(
        pca.read[:count], pca.offset[:count], pca.write[:, :count], pca.origin, pca.names[:count], facts
    )


def principal_space(
    x: np.ndarray, groups: np.ndarray, share: float = VARIANCE_SHARE, seed: int = 0
) -> Directions:
    """The principal components that hold `share` of the variance of standardised x [n, D].

    groups [n]: level or episode of each point. Raises UsageError as
    `interpret.directions.fitting.checked_sample` does.
    """
    most = min(x.shape[1], len(np.unique(groups)) - 1) if x.ndim == 2 else 1
    return leading_components(fit_pca(x, groups, max(most, 1), seed), share)


def scores_of(directions: Directions, x: np.ndarray) -> np.ndarray:
    """Scores [n, K] float32 of x [n, D], computed in chunks."""
    scores = np.empty((len(x), len(directions)), np.float32)
    for at in range(0, len(x), _CHUNK):
        scores[at : at + _CHUNK] = directions.scores(
            torch.from_numpy(np.ascontiguousarray(x[at : at + _CHUNK], np.float32))
        ).numpy()
    return scores
