"""Flat maps of points: principal axes, t-SNE and UMAP, into which further points can be placed, and how far a map can be trusted."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn import manifold

from analysis.points import nearest
from common.runs import UsageError
from common.words import counted
from rollouts.growth import RECORD_MORE

PERPLEXITY, UMAP_NEIGHBOURS = 30, 15
FEWEST = 3 * PERPLEXITY + 1
NEIGHBOURS = 15
"""Of each point, for the trust in a map."""
KINDS = ("pca", "tsne", "umap")


class Embedding(NamedTuple):
    """points [n, 2] of what it was made of; place: further points [m, D] of the same space -> [m, 2], the others staying where they are."""

    points: np.ndarray
    place: Callable[[np.ndarray], np.ndarray]


def embed(kind: str, points: np.ndarray, seed: int = 0, threads: int = 1) -> Embedding:
    """A map of points [n, D], which are scores on principal axes, in order.

    pca: the first two. tsne: openTSNE (Poličar et al. 2019), perplexity 30, begun at the first two axes. umap: umap-learn
    (McInnes et al. 2018), 15 neighbours; its seed confines it to one thread. Raises UsageError for another kind, or too few points.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown map {kind!r}; choose from: {', '.join(KINDS)}")
    if len(points) < FEWEST or points.shape[1] < 2:
        raise UsageError(f"{counted(len(points), 'point')} of {counted(points.shape[1], 'axis', 'axes')} make no map: it needs {FEWEST} points of 2 axes: {RECORD_MORE}")
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
    return Embedding(np.asarray(fitted.embedding_, np.float32), lambda new: np.asarray(fitted.transform(new), np.float32))


def trustworthiness(points: np.ndarray, flat: np.ndarray, most: int = 3000, seed: int = 0) -> float:
    """Whether neighbours in the map are neighbours in the space, 1 at best, about 0.5 for a shuffled map (Venna & Kaski 2001).

    points [n, D], flat [n, 2]; of a random `most` of the points.
    """
    rows = np.random.default_rng([seed, 10]).permutation(len(points))[:most]
    return float(manifold.trustworthiness(points[rows], flat[rows], n_neighbors=NEIGHBOURS))


def neighbours_kept(
    points: np.ndarray, flat: np.ndarray, reference: np.ndarray, reference_flat: np.ndarray, own: np.ndarray | None = None
) -> np.ndarray:
    """The share [m] of each placed point's NEIGHBOURS nearest reference points that are among its nearest in the map too.

    points [m, D] with places flat [m, 2], among reference [n, D] with places [n, 2]. own [m]: the row of reference that a point is itself, which
    is no neighbour, or -1. NEIGHBOURS / n where places say nothing.
    """
    near, near_flat = nearest(points, reference, NEIGHBOURS, own)[1], nearest(flat, reference_flat, NEIGHBOURS, own)[1]
    return (near[:, :, None] == near_flat[:, None]).any(2).mean(1)
