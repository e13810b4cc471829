"""How much of the states' variance each method's scores explain, at equal numbers of scores."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from interpret.directions.directions import Directions
from interpret.directions.fitting import held_out_rows, sample_of

_CHUNK = 65_536


class Reconstruction(NamedTuple):
    """Reconstruction of held-out states from a set's scores, in standardised features."""

    method: str
    count: int
    """Number of directions."""
    active: float
    """Mean number of non-zero scores: all for a linear set, at most `top` for a dictionary."""
    explained: float
    """1 - squared error / variance; below 0, the mean state would do better."""


def reconstruct(directions: Directions, x, reference=None) -> Reconstruction:
    """Reconstruction of states x [n, D], standardised by mean and deviations of `reference` [m, D] (default:
    x).
    """
    x = np.asarray(x)
    sample = sample_of(
        x if reference is None else np.asarray(reference),
        np.zeros(len(x if reference is None else reference)),
    )
    error = 0.0
    variance = 0.0
    active = 0.0
    for at in range(0, len(x), _CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(x[at : at + _CHUNK]))
        scores = directions.scores(part)
        left = (part - directions.reconstruct(scores)).double().numpy() / sample.std
        error += (left**2).sum()
        variance += (((part.double().numpy() - sample.mean) / sample.std) ** 2).sum()
        active += float((scores != 0).sum())
    return Reconstruction(
        directions.provenance.get("method", ""), len(directions), active / len(x), float(1 - error / variance)
    )


def compare_reconstruction(
    x, groups, fits: Mapping[str, Callable], counts: Sequence[int], seed: int = 0
) -> list[Reconstruction]:
    """Every method at every count: fit on three quarters of the levels, measured on the others.

    Args:
        x: [n, D].
        groups: [n], levels.
        fits: {name: (x, groups, count, seed) -> Directions}; for a dictionary, count should be its `top`.
        counts: numbers of directions.
        seed: of split and fits.
    """
    x, groups = np.asarray(x), np.asarray(groups)
    test = held_out_rows(groups, seed)
    train = x[~test]
    known = groups[~test]
    unseen = x[test]
    return [
        reconstruct(fit(train, known, count, seed), unseen, train)._replace(method=name)
        for count in counts
        for name, fit in fits.items()
    ]
