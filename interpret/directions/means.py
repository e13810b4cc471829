"""Difference of means: from the mean state without a concept to the mean state with it."""

from collections.abc import Mapping, Sequence

import numpy as np

from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.directions.fitting import Sample, check_rank, checked_sample, columns_of


def fit_means(x, groups, concepts: Mapping[str, Sequence[bool]], seed: int = 0) -> Directions:
    """One direction per boolean concept, whose write column is mean(x | concept) - mean(x | not concept).

    Scores are read by the pseudo-inverse of all columns together, in standardised features: R E = I, and a
    score is 0 at the mean state without its concept and 1 at that with it. Correlated concepts share their
    columns; `fit_probes` separates them.

    Args:
        x: [n, D].
        groups: [n], see `fitting.checked_sample`.
        concepts: {name: [n] bool}.
        seed: recorded; nothing is random.

    Raises:
        UsageError: for a concept that is not boolean, or whose two means are equal.
    """
    columns = columns_of(concepts, len(x))
    sample = checked_sample(x, groups, len(columns))
    for name, values in columns.items():
        if values.dtype != bool:
            raise UsageError(
                f"concept {name!r} is {values.dtype}: a difference of means takes true and false"
            )
    without, having = (
        np.stack([_mean(sample, values == side) for values in columns.values()], 1) for side in (False, True)
    )
    write = having - without
    check_rank(np.linalg.svd(write, compute_uv=False), "the differences of means")
    read = np.linalg.pinv(write)
    offset = -(read * without.T).sum(1)
    counts = {name: int(values.sum()) for name, values in columns.items()}
    return sample.directions(
        read, offset, write, -write @ offset, list(columns), "means", seed, with_concept=counts
    )


def _mean(sample: Sample, rows: np.ndarray) -> np.ndarray:
    """The mean standardised state [D] of some rows."""
    return (sample.x[rows].mean(0, dtype=np.float64) - sample.mean) / sample.std
