"""Which points of a recording are looked at: a stratified subsample, without outliers, on the axes that hold most of their variance."""

import logging
from typing import NamedTuple

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from common.runs import UsageError
from common.words import counted
from interpret.directions import Directions
from interpret.pca import fit_pca
from rollouts.growth import RECORD_MORE

SHARE = 0.95
"""Of the variance: what the axes hold on which points are clustered and mapped."""
REFERENCE = 10_000
"""Points among which neighbours are sought when there are more: a random subsample of them."""
_CHUNK = 65_536


def subsample(groups: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Rows, ascending, of at most `most` of n points, stratified by episode (or level): groups [n].

    The points, episode after episode, are cut into `most` equal stretches, of which each gives one at random: an episode has
    its share of the sample to within one point at either end, and early and late steps have theirs. All rows where there are no more.
    """
    if most < 1:
        raise UsageError(f"--points is {most}: give 1 or more")
    n = len(groups)
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, most + 1).astype(np.int64)  # whole, so that no point lies in two stretches
    drawn = np.random.default_rng([seed, 6]).random(most)
    taken = (edges[:-1] + drawn * np.diff(edges)).astype(np.int64)
    return np.sort(np.argsort(groups, kind="stable")[taken])


class Inliers(NamedTuple):
    """kept [n] bool: the points whose `distance` [n] is at most `limit`; reference [m]: the rows among which neighbours were sought."""

    kept: np.ndarray
    distance: np.ndarray
    limit: float
    reference: np.ndarray


def inliers(points: np.ndarray, neighbours: int = 5, sigmas: float = 2.0, seed: int = 0) -> Inliers:
    """Leaves out points [n, D] whose median distance to their nearest `neighbours` is beyond the mean of such distances plus `sigmas` standard deviations.

    Neighbours are sought among REFERENCE of the points, or all where there are no more. Raises UsageError for too few points.
    """
    if neighbours < 1 or len(points) <= neighbours:
        raise UsageError(f"{counted(len(points), 'point')} without {counted(neighbours, 'neighbour')} each: ask for 1 neighbour or more, or {RECORD_MORE}")
    reference = np.sort(np.random.default_rng([seed, 7]).permutation(len(points))[:REFERENCE])
    own = np.full(len(points), -1)
    own[reference] = np.arange(len(reference))
    distance = typical_distance(points, points[reference], neighbours, own)
    limit = float(distance.mean() + sigmas * distance.std())
    if not (distance <= limit).any():
        raise UsageError(f"{sigmas} standard deviations leave none of {counted(len(points), 'point')}: allow more")
    return Inliers(distance <= limit, distance, limit, reference)


def typical_distance(points: np.ndarray, reference: np.ndarray, neighbours: int, own: np.ndarray | None = None) -> np.ndarray:
    """The median distance [n] of points [n, D] to their nearest `neighbours` of reference [m, D]; own: see `nearest`."""
    own = np.full(len(points), -1) if own is None else own
    chunks = (slice(at, at + _CHUNK) for at in range(0, len(points), _CHUNK))
    return np.concatenate([np.median(nearest(points[rows], reference, neighbours, own[rows])[0], 1) for rows in chunks])


def nearest(points: np.ndarray, reference: np.ndarray, count: int, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rows [n, count] of the nearest of reference [m, D] to points [n, D], by brute force.

    own [n]: the row of reference that a point is itself, which does not count, or -1.
    """
    if own is None:
        return NearestNeighbors(n_neighbors=count, algorithm="brute").fit(reference).kneighbors(points)
    distance, row = NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(reference).kneighbors(points)
    itself = row == own[:, None]
    itself[~itself.any(1), -1] = True  # one is dropped in every row: itself, or else the farthest
    return distance[~itself].reshape(-1, count), row[~itself].reshape(-1, count)


def changing(x: np.ndarray) -> np.ndarray:
    """The columns of x [n, D] that change, ascending; the others are named in the log. Raises UsageError where fewer than two do."""
    changes = x.std(0) > 1e-6 * np.abs(x).max(0) + 1e-12
    if changes.sum() < 2:
        raise UsageError(f"{changes.sum()} of {counted(x.shape[1], 'feature')} change over {counted(len(x), 'point')}: there is nothing to map; check what was recorded")
    if not changes.all():
        logging.info("left out, as they never change: %d of %s, %s", (~changes).sum(), counted(len(changes), "feature"), np.flatnonzero(~changes).tolist()[:20])
    return np.flatnonzero(changes)


def axes_for(variance: np.ndarray, share: float = SHARE) -> int:
    """How many leading axes hold `share` of the whole: variance [K], largest first, of all axes."""
    held = np.cumsum(variance) / np.sum(variance)
    return int(np.searchsorted(held, share - 1e-9) + 1)


def beyond(pca: Directions) -> float:
    """The variance of the standardised features that principal components know, 1 each, which they do not hold."""
    known = int((pca.write != 0).any(1).sum())  # others were left out (Directions.within)
    return max(known - float(np.sum(pca.provenance["variance"])), 0.0)


def leading(pca: Directions, share: float = SHARE) -> Directions:
    """Of principal components fit in full, the first that hold `share` of the variance of the standardised features that they know.

    At least two; all of them, and a warning, where they hold less, which fewer components than features may. Scores keep their variance: distances are those of standardised features.
    """
    variance = np.asarray(pca.provenance["variance"])
    needed = max(axes_for(np.append(variance, beyond(pca)), share), 2)  # a map has two
    count = min(needed, len(pca))
    if count < needed:
        logging.warning("%s, as many as these levels give, hold less than %.0f%% of the variance", counted(count, "principal component"), 100 * share)
    facts = pca.provenance | {"variance": variance[:count].tolist()}
    return Directions(pca.read[:count], pca.offset[:count], pca.write[:, :count], pca.origin, pca.names[:count], facts)


def principal_space(x: np.ndarray, groups: np.ndarray, share: float = SHARE, seed: int = 0) -> Directions:
    """The principal components that hold `share` of the variance of standardised x [n, D]; groups [n]: level or episode of each.

    Raises UsageError as `interpret.fitting.checked` does: NaN, constant features, too few groups.
    """
    most = min(x.shape[1], len(np.unique(groups)) - 1) if x.ndim == 2 else 1
    return leading(fit_pca(x, groups, max(most, 1), seed), share)


def scores_of(directions: Directions, x: np.ndarray) -> np.ndarray:
    """Scores [n, K] float32 of x [n, D], chunk by chunk."""
    scores = np.empty((len(x), len(directions)), np.float32)
    for at in range(0, len(x), _CHUNK):
        scores[at : at + _CHUNK] = directions.scores(torch.from_numpy(np.ascontiguousarray(x[at : at + _CHUNK], np.float32))).numpy()
    return scores
