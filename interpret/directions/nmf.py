"""Non-negative matrix factorisation: states as sums of a few parts that only ever add."""

import warnings

import numpy as np
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from interpret.directions.directions import Directions
from interpret.directions.fitting import check_rank, checked_sample

MAX_ROWS = 50_000
"""More states than this are thinned out at random before the fit."""
MAX_ITERATIONS = 500


def fit_nmf(x, groups, count: int, seed: int = 0) -> Directions:
    """`count` parts of x [n, D], found by coordinate descent (Lee & Seung 1999, "Learning the parts of
    objects"; scikit-learn's NMF).

    States are made non-negative by subtracting each feature's smallest value in the fit and dividing by its
    standard deviation: zero is the smallest value seen, and the origin of reconstructions. That choice is
    ours and decides what the parts are. Scores are read by least squares without the constraint, so that the
    set is linear with R E = I; `negative` is the share of scores below zero. Scores are scaled to a mean
    square of 1. groups [n]: see `fitting.checked_sample`.
    """
    sample = checked_sample(x, groups, count).subsampled(MAX_ROWS, seed)
    z = sample.standardised()
    floor = z.min(0)
    nmf = NMF(count, init="nndsvda", random_state=seed, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        nmf.fit(z - floor)
    parts = nmf.components_.astype(np.float64)  # [K, D]
    check_rank(np.linalg.svd(parts, compute_uv=False), "the parts")
    scores = (z - floor) @ np.linalg.pinv(parts)
    size = np.sqrt((scores**2).mean(0))
    order = np.argsort(-(parts**2).sum(1) * size**2, kind="stable")
    write = (parts * size[:, None])[order].T
    read = np.linalg.pinv(write)
    settled = not any(issubclass(w.category, ConvergenceWarning) for w in said)
    told = {"non_negative": "less the minimum, by std", "negative": float((scores < 0).mean())}
    told["caveats"] = [] if settled else [f"NMF did not converge within {MAX_ITERATIONS} iterations"]
    return sample.directions(
        read, -read @ floor, write, floor, [f"part_{i}" for i in range(count)], "nmf", seed, **told
    )
