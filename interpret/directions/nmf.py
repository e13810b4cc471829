"""Non-negative matrix factorisation: states as sums of parts that only add."""

import warnings

import numpy as np
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from interpret.directions.directions import Directions
from interpret.directions.fitting import check_rank, checked_sample

MAX_ROWS = 50_000
"""More states than this are subsampled at random for the fit."""
MAX_ITERATIONS = 500


def fit_nmf(x, groups, count: int, seed: int = 0) -> Directions:
    """Parts of x by non-negative matrix factorisation (Lee & Seung 1999, "Learning the parts of objects").

    States are made non-negative by subtracting each feature's minimum and dividing by its standard deviation,
    so the origin of reconstructions is the minimum; another choice would give other parts. Scores are read by
    unconstrained least squares, so that the set is linear with R E = I; provenance `negative` is the share of
    scores below zero. Scores have a mean square of 1.

    Args:
        x: [n, D].
        groups: [n], see `fitting.checked_sample`.
        count: number of parts.
        seed: of the subsample.
    """
    sample = checked_sample(x, groups, count).subsampled(MAX_ROWS, seed)
    z = sample.standardised()
    floor = z.min(0)
    nmf = NMF(count, init="nndsvda", random_state=seed, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        nmf.fit(z - floor)
    parts = nmf.components_.astype(np.float64)  # [K, D]
    check_rank(np.linalg.svd(parts, compute_uv=False), "the parts")
    scores = (z - floor) @ np.linalg.pinv(parts)
    size = np.sqrt((scores**2).mean(0))
    order = np.argsort(-(parts**2).sum(1) * size**2, kind="stable")
    write = (parts * size[:, None])[order].T
    read = np.linalg.pinv(write)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    facts = {"non_negative": "less the minimum, by std", "negative": float((scores < 0).mean())}
    facts["caveats"] = [] if converged else [f"NMF did not converge within {MAX_ITERATIONS} iterations"]
    return sample.directions(
        read, -read @ floor, write, floor, [f"part_{i}" for i in range(count)], "nmf", seed, **facts
    )
