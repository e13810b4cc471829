"""Ridge probes: linear read-outs of many concepts at once, with the penalty chosen by cross-validation.

Ridge regression needs only sums of products, so every fold, penalty and concept is solved in one batch, and
the error on a left-out fold is known without predicting it. Binary concepts are regressed as 0 and 1, which
gives the direction of Fisher's linear discriminant.
"""

from typing import NamedTuple

import numpy as np

PENALTIES = np.logspace(-1, 6, 8)
"""L2 penalties that are tried, in units of one state's error; features are standardised."""


class FoldSums(NamedTuple):
    """Weighted sums over the rows of each fold in which a concept is known.

    T folds (or unions of folds), K concepts, M masks: concepts that are known in the same rows share a mask.
    """

    mask: np.ndarray
    """[K]: the mask of each concept."""
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

    def pooled(self, members: np.ndarray) -> "FoldSums":
        """Sums over U unions of folds; members [U, T] of 0 and 1."""
        return FoldSums(self.mask, *(np.tensordot(members, part, 1) for part in self[1:]))


class LinearProbes(NamedTuple):
    """Probes that read a concept as weights . x + offset."""

    weights: np.ndarray
    """[..., K, D]."""
    offset: np.ndarray
    """[..., K]."""
    penalty: np.ndarray
    """[..., K]."""


class CrossValidated(NamedTuple):
    """Out-of-fold predictions, and the probes fit on all rows."""

    predictions: np.ndarray
    """[n, K] float32."""
    probes: LinearProbes
    """weights [K, D], of x in its own units."""


def fold_sums(x: np.ndarray, y: np.ndarray, folds: np.ndarray, weights: np.ndarray | None = None) -> FoldSums:
    """Sufficient statistics of ridge regression, fold by fold.

    Args:
        x: [n, D].
        y: [n, K], NaN where a concept is not known.
        folds: [n], numbered from 0.
        weights: [n], how often each row counts; once each by default.
    """
    known = np.isfinite(y)
    masks, mask = np.unique(known, axis=1, return_inverse=True)
    mask = mask.reshape(-1)
    weights = np.ones(len(x)) if weights is None else weights
    num_folds, num_masks, width, count = folds.max() + 1, masks.shape[1], x.shape[1], y.shape[1]
    n = np.zeros((num_folds, num_masks))
    sx = np.zeros((num_folds, num_masks, width))
    sxx = np.zeros((num_folds, num_masks, width, width))
    sy = np.zeros((num_folds, count))
    sxy = np.zeros((num_folds, count, width))
    syy = np.zeros((num_folds, count))
    for fold, m in np.ndindex(num_folds, num_masks):
        rows = np.flatnonzero((folds == fold) & masks[:, m])
        columns = np.flatnonzero(mask == m)
        z = x[rows].astype(np.float64)
        values = y[np.ix_(rows, columns)].astype(np.float64)
        w = weights[rows, None]
        weighted = z * w
        n[fold, m] = w.sum()
        sx[fold, m] = weighted.sum(0)
        sxx[fold, m] = weighted.T @ z
        sy[fold, columns] = (w * values).sum(0)
        sxy[fold, columns] = values.T @ weighted
        syy[fold, columns] = (w * values**2).sum(0)
    return FoldSums(mask, n, sx, sxx, sy, sxy, syy)


def ridge_path(train: FoldSums, penalties: np.ndarray = PENALTIES) -> LinearProbes:
    """Ridge regression for every penalty P, union of folds and concept: weights [P, T, K, D].

    The offset is not penalised. A concept that is known nowhere gets the probe zero.
    """
    n = np.maximum(train.n, 1e-9)
    mean = train.x / n[..., None]
    spread = train.xx - n[..., None, None] * mean[..., :, None] * mean[..., None, :]
    values, vectors = np.linalg.eigh(spread)
    mean, vectors = mean[:, train.mask], vectors[:, train.mask]
    along = np.einsum("tkde,tkd->tke", vectors, train.xy - mean * train.y[..., None])
    shrunk = along / (np.maximum(values, 0)[:, train.mask] + penalties[:, None, None, None])
    weights = (shrunk.transpose(1, 2, 0, 3) @ vectors.swapaxes(-1, -2)).transpose(2, 0, 1, 3)
    offset = train.y / n[:, train.mask] - (weights * mean).sum(-1)
    return LinearProbes(weights, offset, np.broadcast_to(penalties[:, None, None], offset.shape))


def squared_errors(probes: LinearProbes, test: FoldSums) -> np.ndarray:
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


def cross_validate(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> CrossValidated:
    """Predicts every fold with probes that never saw it, and fits probes on all rows.

    The penalty of each concept is chosen by leaving out one more fold (nested cross-validation): with three
    folds a probe is fit on two thirds, and its penalty is chosen on one third at a time.

    Args:
        x: [n, D].
        y: [n, K], NaN where a concept is not known.
        folds: [n], numbered from 0; rows of one level (or layout) belong to one fold.
    """
    z, scale, mean = _standardised(x)
    parts = fold_sums(z, y, folds)
    other_folds = 1 - np.eye(len(parts.n))  # [F, F]: row f marks all folds but f
    best = np.stack([_best_penalty(parts, train) for train in other_folds])
    fitted = _select(ridge_path(parts.pooled(other_folds)), best)
    predictions = np.empty(y.shape, np.float32)
    for fold in range(len(other_folds)):
        rows = folds == fold
        predictions[rows] = z[rows] @ fitted.weights[fold].T.astype(np.float32) + fitted.offset[fold]
    every_fold = np.ones((1, len(parts.n)))
    whole = _select(ridge_path(parts.pooled(every_fold)), _best_penalty(parts, every_fold[0])[None])
    return CrossValidated(predictions, _in_raw_units(whole, scale, mean))


def fit_ridge(
    x: np.ndarray, y: np.ndarray, penalty: np.ndarray, weights: np.ndarray | None = None
) -> LinearProbes:
    """Probes [K, D] fit on all rows with given penalties.

    Args:
        x: [n, D].
        y: [n, K], NaN where a concept is not known.
        penalty: [K], out of PENALTIES.
        weights: [n], how often each row counts; once each by default.
    """
    z, scale, mean = _standardised(x)
    whole = fold_sums(z, y, np.zeros(len(x), int), weights)
    index = np.abs(PENALTIES[:, None] - penalty).argmin(0)
    return _in_raw_units(_select(ridge_path(whole), index[None]), scale, mean)


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z = (x - mean) * scale [n, D], the scale [D] and the mean [D]; the scale of constant features is 0."""
    mean = x.mean(0, dtype=np.float64)
    std = x.std(0, dtype=np.float64)
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-6 * np.abs(mean) + 1e-12)
    return ((x - mean) * scale).astype(np.float32), scale, mean


def _in_raw_units(probes: LinearProbes, scale: np.ndarray, mean: np.ndarray) -> LinearProbes:
    """Probes [1, K, ...] of standardised features as probes [K, ...] of the features themselves."""
    weights = probes.weights[0] * scale
    return LinearProbes(weights, probes.offset[0] - weights @ mean, probes.penalty[0])


def _best_penalty(parts: FoldSums, members: np.ndarray) -> np.ndarray:
    """Index [K] of the best penalty by cross-validation over the folds marked in `members` [F]."""
    tested = np.eye(len(members))[members > 0]
    return squared_errors(ridge_path(parts.pooled(members - tested)), parts.pooled(tested)).sum(1).argmin(0)


def _select(path: LinearProbes, index: np.ndarray) -> LinearProbes:
    """The probes [T, K, ...] of a path [P, T, K, ...] at the penalties numbered `index` [T, K]."""
    t, k = np.indices(index.shape)
    return LinearProbes(*(part[index, t, k] for part in path))
