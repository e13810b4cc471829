"""Directions of a map's points by every method, judged by whether they come back, and what their scores hold
at equal numbers.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from analysis.io.shared_args import DIRECTION_METHODS
from common.runs import UsageError
from interpret.directions.dictionary import fit_dictionary
from interpret.directions.directions import Directions
from interpret.directions.ica import fit_ica
from interpret.directions.nmf import fit_nmf
from interpret.directions.pca import fit_pca
from interpret.directions.reconstruction import compare
from interpret.directions.stability import STABLE, fewest_levels, stability, with_stability
from interpret.subsample import axes_for, beyond

UNITS = 16
"""A dictionary has so many times the directions of the other methods, and uses as many as they have at a
time.
"""
Fit = Callable[[np.ndarray, np.ndarray, int, int], Directions]
METHODS: dict[str, Fit] = dict(
    zip(
        DIRECTION_METHODS,
        (
            fit_pca,
            fit_ica,
            fit_nmf,
            lambda x, groups, count, seed: fit_dictionary(x, groups, UNITS * count, count, seed),
        ),
        strict=True,
    )
)
"""name: (x [n, D], groups [n], count, seed) -> Directions."""


def check_methods(methods: Sequence[str]) -> None:
    """Raises UsageError for a method that there is not."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise UsageError(f"unknown method {unknown[0]!r}; choose from: {', '.join(METHODS)}")


def fit_judged(
    method: str, x: np.ndarray, groups: np.ndarray, count: int, rows: np.ndarray, draws: int, seed: int
) -> Directions:
    """Directions of x [n, D], and whether each is found again in `draws` fits to the states numbered `rows`.

    They stay untested without draws, with too few levels, and where a fit to some of the levels refuses.
    """
    whole = METHODS[method](x, groups, count, seed)
    levels = len(np.unique(groups[rows]))
    if not draws:
        return whole
    if levels < fewest_levels(whole):
        logging.warning(
            "%s stays untested: that takes %d levels, and there are %d", method, fewest_levels(whole), levels
        )
        return whole

    def again(x, groups, seed):
        return METHODS[method](x, groups, count, seed)

    try:
        return with_stability(whole, stability(again, x[rows], groups[rows], draws, seed, reference=whole))
    except UsageError as error:
        logging.warning("%s stays untested, for a fit to some of its levels refuses: %s", method, error)
        return whole


def spectrum(pca: Directions) -> dict:
    """How much of all variance principal components hold, fit in full: shares one by one, and how many hold
    50, 80, 90, 95 and 99% of it.

    Fewer levels than features give fewer components, which do not hold all: None where they hold less than
    that.
    """
    variance = np.append(pca.provenance["variance"], beyond(pca))
    needed = {f"{share:.0%}": axes_for(variance, share) for share in (0.5, 0.8, 0.9, 0.95, 0.99)}
    counts = {share: count if count <= len(pca) else None for share, count in needed.items()}
    return {"shares": (variance[:-1] / variance.sum()).tolist(), "axes_for": counts}


def verdict(directions: Directions) -> dict:
    """How many directions there are, and how many of them came back."""
    told = directions.provenance
    medians = told.get("stability", {}).get("median")
    found = {"directions": len(directions), "fit_on": told["n"], "caveats": told.get("caveats", [])}
    return found | {
        "stable": None if medians is None else int(np.sum(np.array(medians) >= STABLE)),
        "median_cosine": medians,
    }


def equal_counts(
    methods: Sequence[str], x: np.ndarray, groups: np.ndarray, counts: Sequence[int], seed: int
) -> list[dict]:
    """Share of the variance of held-out levels that each method's scores hold, at each count; None with the
    reason where a method refuses.
    """
    rows = []
    for count in counts:
        for method in methods:
            try:
                (found,) = compare(x, groups, {method: METHODS[method]}, [count], seed)
                rows.append(
                    {"method": method, "count": count, "active": found.active, "explained": found.explained}
                )
            except UsageError as error:
                logging.warning("%s with %d directions: %s", method, count, error)
                rows.append(
                    {
                        "method": method,
                        "count": count,
                        "active": None,
                        "explained": None,
                        "refused": str(error),
                    }
                )
    return rows
