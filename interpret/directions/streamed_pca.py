"""Principal components of states too wide and too many for memory: in passes over pieces, without their
covariance.

Randomised subspace iteration (Halko, Martinsson & Tropp 2011): a few more directions than asked for are
multiplied by the correlation matrix, piece by piece, until they span its leading eigenvectors.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.directions.fitting import orientation_signs
from rollouts.growth import RECORD_MORE

OVERSAMPLING = 20
"""Oversampling: extra directions, which make the last ones converge."""
PASSES = 4
_NEGLIGIBLE = 1e-6  # of a feature's mean: float32 knows no less

Pieces = Callable[[], Iterable[np.ndarray]]
"""Returns the states again at every call, in pieces [m, D] of any float type."""


def streamed_pca(pieces: Pieces, count: int, seed: int = 0, passes: int = PASSES) -> Directions:
    """Up to `count` principal components of standardised features, in the memory of one piece and a few [D,
    count].

    Constant features are left out. Provenance: `n`, `variance` [count] and `total_variance`, the number of
    features that vary.

    Args:
        pieces: gives the states.
        count: number of components.
        seed: of the subspace iteration.
        passes: over the states.

    Raises:
        UsageError: for NaN, or no more states than directions.
    """
    n, mean, std = streamed_moments(pieces)
    if n <= count:
        raise UsageError(
            f"{count} directions need more than {count} states, and there are {n}: ask for fewer, "
            f"or {RECORD_MORE}"
        )
    varying = np.flatnonzero(std > _NEGLIGIBLE * np.abs(mean) + 1e-12)
    count = min(count, len(varying))
    shift = mean[varying].astype(np.float32)
    scale = std[varying].astype(np.float32)
    basis = (
        np.random.default_rng(seed)
        .normal(size=(len(varying), min(count + OVERSAMPLING, len(varying))))
        .astype(np.float32)
    )
    for _ in range(passes):
        basis = np.linalg.qr(basis)[0]
        image = np.zeros(basis.shape)
        for piece in pieces():
            z = (piece[:, varying].astype(np.float32) - shift) / scale
            image += z.T @ (z @ basis)
        image, previous_basis = (image / n).astype(np.float32), basis
        basis = image
    values, vectors = np.linalg.eigh(previous_basis.T.astype(np.float64) @ image)
    axes = (previous_basis @ vectors[:, ::-1][:, :count].astype(np.float32)).T.astype(
        np.float64
    )  # [count, varying]
    axes *= orientation_signs(axes.T)[:, None]
    read = axes / std[varying]
    facts = {
        "method": "pca",
        "n": n,
        "seed": seed,
        "variance": np.maximum(values[::-1][:count], 0).tolist(),
        "total_variance": len(varying),
    }
    parts = (read, -read @ mean[varying], std[varying, None] * axes.T, mean[varying])
    directions = Directions(
        *(torch.from_numpy(np.ascontiguousarray(part)) for part in parts),
        [f"pc_{i}" for i in range(count)],
        facts,
    )
    return directions if len(varying) == len(mean) else directions.within(varying, len(mean))


def streamed_moments(pieces: Pieces) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of states, mean and standard deviation [D] of every feature, in float64.

    Raises:
        UsageError: for NaN or infinity, or no states.
    """
    n = 0
    for piece in pieces():
        x = piece.astype(np.float64)
        if not np.isfinite(x).all():
            raise UsageError(
                "states hold NaN or infinity; check the store with: "
                "python -m rollouts.inspect_store PATH --check"
            )
        if not n:
            shift = x.mean(0)
            total = np.zeros(x.shape[1])
            square = np.zeros(x.shape[1])
        x -= shift
        n, total, square = n + len(x), total + x.sum(0), square + (x**2).sum(0)
    if not n:
        raise UsageError("there are no states: record some")
    return n, shift + total / n, np.sqrt(np.maximum(square / n - (total / n) ** 2, 0))
