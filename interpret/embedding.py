"""Two-dimensional maps (PCA, t-SNE, UMAP) that take further points, and how far to trust them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn import manifold

from common.runs import UsageError
from common.words import counted
from interpret.subsample import nearest_neighbours
from rollouts.growth import RECORD_MORE

PERPLEXITY = 30
UMAP_NEIGHBOURS = 15
MIN_POINTS = 3 * PERPLEXITY + 1
NEIGHBOURS = 15
"""Neighbours of each point by which a map is judged."""
KINDS = ("pca", "tsne", "umap")


class Embedding(NamedTuple):
    """A map of points."""

    points: np.ndarray
    """[n, 2]: the points the map was fit on."""
    place: Callable[[np.ndarray], np.ndarray]
    """Places further points [m, D] as [m, 2]; the others keep their places."""


def embed(kind: str, points: np.ndarray, seed: int = 0, threads: int = 1) -> Embedding:
    """A map of points given as scores on principal components, in order.

    pca: the first two. tsne: openTSNE (Poličar et al. 2019), perplexity 30, initialised with the first two.
    umap: umap-learn (McInnes et al. 2018), 15 neighbours; a seed confines it to one thread.

    Args:
        kind: one of KINDS.
        points: [n, D].
        seed: of the map.
        threads: for t-SNE.

    Raises:
        UsageError: for another kind, or too few points.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown map {kind!r}; choose from: {', '.join(KINDS)}")
    if len(points) < MIN_POINTS or points.shape[1] < 2:
        raise UsageError(
            f"{counted(len(points), 'point')} of {counted(points.shape[1], 'axis', 'axes')} make no map: "
            f"it needs {MIN_POINTS} points of 2 axes: {RECORD_MORE}"
        )
    return {"pca": _axes, "tsne": _tsne, "umap": _umap}[kind](points, seed, threads)


def _axes(points: np.ndarray, seed: int, threads: int) -> Embedding:
    return Embedding(points[:, :2], lambda new: new[:, :2])


def _tsne(points: np.ndarray, seed: int, threads: int) -> Embedding:
    from openTSNE import TSNE  # 2 s

    fitted = TSNE(perplexity=PERPLEXITY, initialization="pca", n_jobs=threads, random_state=seed).fit(points)
    points = np.array(fitted)

    def place(new: np.ndarray) -> np.ndarray:
        placed = np.array(fitted.transform(new))
        moved = points - np.asarray(fitted)  # openTSNE shifts the whole map when it places points into it
        return (placed + moved.mean(0)).astype(np.float32)

    return Embedding(points.astype(np.float32), place)


def _umap(points: np.ndarray, seed: int, threads: int) -> Embedding:
    from umap import UMAP  # compiles its loops when it is first used: a minute

    fitted = UMAP(n_neighbors=UMAP_NEIGHBOURS, random_state=seed, n_jobs=1).fit(points)
    return Embedding(
        np.asarray(fitted.embedding_, np.float32), lambda new: np.asarray(fitted.transform(new), np.float32)
    )


def trustworthiness(points: np.ndarray, flat: np.ndarray, most: int = 3000, seed: int = 0) -> float:
    """Whether neighbours in the map are neighbours in the space: at best 1, about 0.5 for a shuffled map
    (Venna & Kaski 2001).

    Args:
        points: [n, D].
        flat: [n, 2], their places in the map.
        most: points that are compared, a random subsample.
        seed: of the subsample.
    """
    rows = np.random.default_rng([seed, 10]).permutation(len(points))[:most]
    return float(manifold.trustworthiness(points[rows], flat[rows], n_neighbors=NEIGHBOURS))


def neighbour_preservation(
    points: np.ndarray,
    flat: np.ndarray,
    reference: np.ndarray,
    reference_flat: np.ndarray,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """Share [m] of each placed point's nearest reference points that are also its nearest in the map.

    Args:
        points: [m, D], placed points.
        flat: [m, 2], their places.
        reference: [n, D], the points of the map.
        reference_flat: [n, 2].
        own: [m], the row of reference that a point itself is, which is no neighbour; -1 if it is not among
            them.

    Returns:
        [m]; NEIGHBOURS / n on average if places are random.
    """
    near = nearest_neighbours(points, reference, NEIGHBOURS, own)[1]
    near_flat = nearest_neighbours(flat, reference_flat, NEIGHBOURS, own)[1]
    return (near[:, :, None] == near_flat[:, None]).any(2).mean(1)
