"""Principal axes of states that are too wide and too many to hold: by passes over pieces of them, without their covariance.

Randomised subspace iteration (Halko, Martinsson & Tropp 2011): a few more directions than are asked for are multiplied by the correlation
matrix, piece by piece, until they span its leading eigenvectors.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from common.runs import UsageError
from interpret.directions import Directions
from interpret.fitting import orient
from rollouts.growth import RECORD_MORE

MORE = 20
"""Directions beyond those asked for: they make the last ones converge."""
PASSES = 4
_NEGLIGIBLE = 1e-6  # of a feature's mean: float32 knows no less

Pieces = Callable[[], Iterable[np.ndarray]]
"""Gives the states anew at every call: pieces [m, D] of any float type and any m."""


def streamed_pca(pieces: Pieces, count: int, seed: int = 0, passes: int = PASSES) -> Directions:
    """Up to `count` principal directions of standardised features. Memory: one piece in float32 and a few arrays [D, count].

    Features that never change are left alone. The provenance has `n`, `variance` [count] and `total_variance`, which is the number of features
    that change. Raises UsageError for NaN and for fewer states than directions.
    """
    n, mean, std = moments(pieces)
    if n <= count:
        raise UsageError(f"{count} directions need more than {count} states, and there are {n}: ask for fewer, or {RECORD_MORE}")
    alive = np.flatnonzero(std > _NEGLIGIBLE * np.abs(mean) + 1e-12)
    count = min(count, len(alive))
    shift, scale = mean[alive].astype(np.float32), std[alive].astype(np.float32)
    basis = np.random.default_rng(seed).normal(size=(len(alive), min(count + MORE, len(alive)))).astype(np.float32)
    for _ in range(passes):
        basis = np.linalg.qr(basis)[0]
        image = np.zeros(basis.shape)
        for piece in pieces():
            z = (piece[:, alive].astype(np.float32) - shift) / scale
            image += z.T @ (z @ basis)
        image, last = (image / n).astype(np.float32), basis
        basis = image
    values, vectors = np.linalg.eigh(last.T.astype(np.float64) @ image)
    axes = (last @ vectors[:, ::-1][:, :count].astype(np.float32)).T.astype(np.float64)  # [count, alive]
    axes *= orient(axes.T)[:, None]
    read = axes / std[alive]
    told = {"method": "pca", "n": n, "seed": seed, "variance": np.maximum(values[::-1][:count], 0).tolist(), "total_variance": len(alive)}
    parts = (read, -read @ mean[alive], std[alive, None] * axes.T, mean[alive])
    found = Directions(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts), [f"pc_{i}" for i in range(count)], told)
    return found if len(alive) == len(mean) else found.within(alive, len(mean))


def moments(pieces: Pieces) -> tuple[int, np.ndarray, np.ndarray]:
    """How many states there are, and mean and standard deviation [D] of every feature, in float64. Raises UsageError for NaN."""
    n = 0
    for piece in pieces():
        x = piece.astype(np.float64)
        if not np.isfinite(x).all():
            raise UsageError("states hold NaN or infinity; check the store with: python -m rollouts.inspect_store PATH --check")
        if not n:
            shift = x.mean(0)
            total, square = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        x -= shift
        n, total, square = n + len(x), total + x.sum(0), square + (x**2).sum(0)
    if not n:
        raise UsageError("there are no states: record some")
    return n, shift + total / n, np.sqrt(np.maximum(square / n - (total / n) ** 2, 0))
