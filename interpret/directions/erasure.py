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
"""A cross-covariance, of standardised concepts and whitened features, below which nothing is left to erase."""


def fit_leace(x, groups, concepts: Mapping[str, Sequence], seed: int = 0) -> Directions:
    """The directions of x [n, D] that `erase` takes out so that concepts {name: [n]} have no covariance with
    what is left.

    LEACE (Belrose et al. 2023, "LEACE: perfect linear concept erasure in closed form"): x - W+ P W (x -
    mean), with W the inverse root of the covariance and P the projection onto W Cov(x, z). As directions: R =
    U' W and E = W+ U with U an orthonormal basis of that space; R E = I, scores are uncorrelated with unit
    variance, and writing zeros is the erasure. One concept gives one direction, of its name; several give
    erased_0, erased_1, ... A class is given as one concept of truth values for each of its values. Raises
    UsageError where x does not covary with the concepts at all.
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
    """x [..., D] with all scores zero. With directions of `fit_leace`, no linear classifier reads their
    concepts from it.
    """
    return directions.edit(x, torch.zeros_like(directions.scores(x)))
