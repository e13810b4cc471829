"""Concept erasure in closed form (LEACE): the smallest edit after which no linear classifier reads the
concepts.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.directions.fitting import checked_sample, columns_of

_NOTHING = 1e-6
"""Cross-covariance of standardised concepts and whitened features that counts as zero."""


def fit_leace(x, groups, concepts: Mapping[str, Sequence], seed: int = 0) -> Directions:
    """The directions that `erase` removes so that concepts have no covariance with the rest (Belrose et al.
    2023).

    LEACE edits x - W+ P W (x - mean), with W the inverse square root of the covariance and P the projection
    onto W Cov(x, z). As directions: R = U' W and E = W+ U with U an orthonormal basis of that space. R E = I,
    scores are uncorrelated with unit variance, and writing zeros is the erasure. One concept gives one
    direction of its name; several give erased_0, erased_1, ...

    Args:
        x: [n, D].
        groups: [n], see `fitting.checked_sample`.
        concepts: {name: [n]}; a class is given as one boolean for each of its values.
        seed: recorded; nothing is random.

    Raises:
        UsageError: if x does not covary with the concepts.
    """
    columns = columns_of(concepts, len(x))
    sample = checked_sample(x, groups, len(columns))
    z = np.stack([values.astype(np.float64) for values in columns.values()], 1)
    z = (z - z.mean(0)) / z.std(0)
    values, vectors = np.linalg.eigh(sample.correlation)
    kept = values > 1e-10 * values[-1]
    whiten = vectors[:, kept] / np.sqrt(values[kept]) @ vectors[:, kept].T
    color = vectors[:, kept] * np.sqrt(values[kept]) @ vectors[:, kept].T
    cross = whiten @ (sample.x.T @ z / len(z) / sample.std[:, None])  # z has mean zero
    basis, size, _ = np.linalg.svd(cross, full_matrices=False)
    basis = basis[:, size > _NOTHING]
    if not basis.shape[1]:
        raise UsageError(
            f"nothing to erase: no feature covaries with {', '.join(columns)}; leave the state as it is"
        )
    names = list(columns) if len(columns) == 1 else [f"erased_{i}" for i in range(basis.shape[1])]
    zeros = np.zeros(basis.shape[1]), np.zeros(len(values))
    return sample.directions(
        basis.T @ whiten, zeros[0], color @ basis, zeros[1], names, "leace", seed, concepts=list(columns)
    )


def erase(directions: Directions, x: torch.Tensor) -> torch.Tensor:
    """x [..., D] with all scores set to zero. After `fit_leace`, no linear classifier reads the concepts from
    it.
    """
    return directions.edit(x, torch.zeros_like(directions.scores(x)))
