"""Linear probes of many concepts at once: ridge regression from sums over folds.

Sums of products are all that ridge regression needs, so every fold, penalty and concept is solved in one
batch, and the error on a fold that was left out is known without reading it again. Truth values are fit as 0
and 1, which gives the direction of Fisher's discriminant.
"""

from typing import NamedTuple

import numpy as np

PENALTIES = np.logspace(-1, 6, 8)
"""Strengths of the L2 penalty that are tried, in units of one state's error; features are standardised."""


class Sums(NamedTuple):
    """Weighted sums over those rows of each fold in which a concept is known. T folds or unions of folds, K
    concepts, M masks.
    """

    mask: np.ndarray
    """[K]: which mask a concept has; concepts that are known in the same rows share one."""
    n: np.ndarray
    """[T, M]."""
    x: np.ndarray
    """[T, M, D]."""
    xx: np.ndarray
    """[T, M, D, D]."""
    y: np.ndarray
    """[T, K]."""
    xy: np.ndarray
    """[T, K, D]."""
    yy: np.ndarray
    """[T, K]."""

    def mixed(self, shares: np.ndarray) -> "Sums":
        """Unions of folds: shares [U, T] of 0 and 1 -> sums with U in place of T."""
        return Sums(self.mask, *(np.tensordot(shares, part, 1) for part in self[1:]))


class Probes(NamedTuple):
    """weights [..., K, D] and offset [..., K] such that a concept is read as weights . x + offset; penalty
    [..., K].
    """

    weights: np.ndarray
    offset: np.ndarray
    penalty: np.ndarray


class Read(NamedTuple):
    """What probes read from layouts that they were not fit on, and the probes of all layouts."""

    values: np.ndarray
    """[n, K] float32."""
    probes: Probes
    """weights [K, D], of x as given."""


def sums(x: np.ndarray, y: np.ndarray, folds: np.ndarray, weights: np.ndarray | None = None) -> Sums:
    """x [n, D], y [n, K] with NaN where a concept is not known, folds [n] from 0, weights [n] or one each."""
    known = np.isfinite(y)
    masks, mask = np.unique(known, axis=1, return_inverse=True)
    mask, weights = mask.reshape(-1), np.ones(len(x)) if weights is None else weights
    shape = (folds.max() + 1, masks.shape[1])
    width = x.shape[1]
    n = np.zeros(shape)
    sx = np.zeros((*shape, width))
    sxx = np.zeros((*shape, width, width))
    sy, sxy, syy = (np.zeros((shape[0], y.shape[1], *extra)) for extra in ((), (width,), ()))
    for fold, m in np.ndindex(*shape):
        rows = np.flatnonzero((folds == fold) & masks[:, m])
        columns = np.flatnonzero(mask == m)
        z = x[rows].astype(np.float64)
        values = y[np.ix_(rows, columns)].astype(np.float64)
        w = weights[rows, None]
        weighted = z * w
        n[fold, m], sx[fold, m], sxx[fold, m] = w.sum(), weighted.sum(0), weighted.T @ z
        sy[fold, columns], sxy[fold, columns], syy[fold, columns] = (
            (w * values).sum(0),
            values.T @ weighted,
            (w * values**2).sum(0),
        )
    return Sums(mask, n, sx, sxx, sy, sxy, syy)


def solve(train: Sums, penalties: np.ndarray = PENALTIES) -> Probes:
    """Ridge regression for every penalty, union of folds and concept: weights [P, T, K, D]. The offset is not
    penalised.
    """
    n = np.maximum(train.n, 1e-9)  # where nothing is known the probe is zero
    mean = train.x / n[..., None]
    spread = train.xx - n[..., None, None] * mean[..., :, None] * mean[..., None, :]
    values, vectors = np.linalg.eigh(spread)
    mean, vectors = mean[:, train.mask], vectors[:, train.mask]
    along = np.einsum("tkde,tkd->tke", vectors, train.xy - mean * train.y[..., None])
    shrunk = along / (np.maximum(values, 0)[:, train.mask] + penalties[:, None, None, None])
    weights = (shrunk.transpose(1, 2, 0, 3) @ vectors.swapaxes(-1, -2)).transpose(2, 0, 1, 3)
    offset = train.y / n[:, train.mask] - (weights * mean).sum(-1)
    return Probes(weights, offset, np.broadcast_to(penalties[:, None, None], offset.shape))


def errors(probes: Probes, test: Sums) -> np.ndarray:
    """Sum of squared errors [P, T, K] of probes [P, T, K, ...] on the rows that `test` [T] sums up."""
    w = probes.weights
    c = probes.offset
    n = test.n[:, test.mask]
    x = test.x[:, test.mask]
    by_concept = w.transpose(1, 2, 0, 3)  # [T, K, P, D]
    quadratic = (by_concept @ test.xx[:, test.mask] * by_concept).sum(-1).transpose(2, 0, 1)
    return (
        test.yy - 2 * (w * test.xy).sum(-1) - 2 * c * test.y + quadratic + 2 * c * (w * x).sum(-1) + c**2 * n
    )


def held_out_read(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> Read:
    """Probes for all concepts y [n, K] (NaN: not known) from x [n, D]; each fold [n] is read by probes that
    never saw it.

    The penalty of each is chosen by leaving out one more fold; with three folds, a probe is fit on two thirds
    and its penalty chosen on one third at a time.
    """
    z, scale, mean = _standardised(x)
    parts = sums(z, y, folds)
    without = 1 - np.eye(len(parts.n))  # [F, F]: row f is all folds but f
    fitted = _pick(solve(parts.mixed(without)), np.stack([_chosen(parts, fold) for fold in without]))
    values = np.empty(y.shape, np.float32)
    for fold in range(len(without)):
        rows = folds == fold
        values[rows] = z[rows] @ fitted.weights[fold].T.astype(np.float32) + fitted.offset[fold]
    everything = np.ones((1, len(parts.n)))
    whole = _pick(solve(parts.mixed(everything)), _chosen(parts, everything[0])[None])
    return Read(values, _of_raw(whole, scale, mean))


def fit(x: np.ndarray, y: np.ndarray, penalty: np.ndarray, weights: np.ndarray | None = None) -> Probes:
    """Probes [K, D] for all concepts from all rows, which count weights [n] times, with penalties [K] out of
    PENALTIES.
    """
    z, scale, mean = _standardised(x)
    whole = sums(z, y, np.zeros(len(x), int), weights)
    return _of_raw(_pick(solve(whole), np.abs(PENALTIES[:, None] - penalty).argmin(0)[None]), scale, mean)


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z [n, D], and the scale [D] and mean [D] with which z = (x - mean) * scale; 0 for features that never
    change, which say nothing.
    """
    mean = x.mean(0, dtype=np.float64)
    std = x.std(0, dtype=np.float64)
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-6 * np.abs(mean) + 1e-12)
    return ((x - mean) * scale).astype(np.float32), scale, mean


def _of_raw(probes: Probes, scale: np.ndarray, mean: np.ndarray) -> Probes:
    """Probes [1, K, ...] of standardised features as probes [K, ...] of the features themselves."""
    weights = probes.weights[0] * scale
    return Probes(weights, probes.offset[0] - weights @ mean, probes.penalty[0])


def _chosen(parts: Sums, among: np.ndarray) -> np.ndarray:
    """The best penalty's number [K] by cross-validation over the folds marked in `among` [F]."""
    tested = np.eye(len(among))[among > 0]
    return errors(solve(parts.mixed(among - tested)), parts.mixed(tested)).sum(1).argmin(0)


def _pick(tried: Probes, chosen: np.ndarray) -> Probes:
    """The probes [T, K, ...] of the chosen penalties [T, K]."""
    t, k = np.indices(chosen.shape)
    return Probes(*(part[chosen, t, k] for part in tried))
