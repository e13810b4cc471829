"""Directions of hidden states by every method, with their stability and reconstruction."""

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
from interpret.directions.reconstruction import compare_reconstruction
from interpret.directions.stability import STABLE, min_levels, stability, with_stability
from interpret.subsample import num_components_for, residual_variance

UNITS = 16
"""Width of a TopK dictionary, as a multiple of the other methods' number of directions, which is its k."""
Fit = Callable[[np.ndarray, np.ndarray, int, int], Directions]


def _fit_topk(x: np.ndarray, groups: np.ndarray, count: int, seed: int) -> Directions:
    return fit_dictionary(x, groups, UNITS * count, count, seed)


METHODS: dict[str, Fit] = dict(zip(DIRECTION_METHODS, (fit_pca, fit_ica, fit_nmf, _fit_topk), strict=True))
"""{name: fit(x [n, D], groups [n], count, seed) -> Directions}."""


def check_methods(methods: Sequence[str]) -> None:
    """Raises UsageError for an unknown method."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise UsageError(f"unknown method {unknown[0]!r}; choose from: {', '.join(METHODS)}")


def fit_with_stability(
    method: str, x: np.ndarray, groups: np.ndarray, count: int, rows: np.ndarray, draws: int, seed: int
) -> Directions:
    """Directions of x, with their stability over refits on resampled levels where that can be tested.

    Stability stays untested without draws, with too few levels, and if a refit fails.

    Args:
        method: key of METHODS.
        x: states [n, D].
        groups: level of each state [n].
        count: number of directions.
        rows: states that the refits use.
        draws: number of refits.
        seed: of the fits and resamples.
    """
    directions = METHODS[method](x, groups, count, seed)
    levels = len(np.unique(groups[rows]))
    if not draws:
        return directions
    if levels < min_levels(directions):
        logging.warning(
            "stability of %s is untested: it needs %d levels, found %d",
            method,
            min_levels(directions),
            levels,
        )
        return directions

    def refit(x: np.ndarray, groups: np.ndarray, seed: int) -> Directions:
        return METHODS[method](x, groups, count, seed)

    try:
        found = stability(refit, x[rows], groups[rows], draws, seed, reference=directions)
        return with_stability(directions, found)
    except UsageError as error:
        logging.warning("stability of %s is untested, because a refit failed: %s", method, error)
        return directions


def spectrum(pca: Directions) -> dict:
    """Explained variance of a full PCA: the ratio of each component, and how many explain 50 to 99%.

    Fewer levels than features give fewer components than features; a count is None if they do not reach it.
    """
    variance = np.append(pca.provenance["variance"], residual_variance(pca))
    needed = {f"{share:.0%}": num_components_for(variance, share) for share in (0.5, 0.8, 0.9, 0.95, 0.99)}
    counts = {share: count if count <= len(pca) else None for share, count in needed.items()}
    return {"shares": (variance[:-1] / variance.sum()).tolist(), "axes_for": counts}


def stability_numbers(directions: Directions) -> dict:
    """Number of directions, number of stable ones (None if untested) and their median |cosine|."""
    provenance = directions.provenance
    medians = provenance.get("stability", {}).get("median")
    return {
        "directions": len(directions),
        "fit_on": provenance["n"],
        "caveats": provenance.get("caveats", []),
        "stable": None if medians is None else int(np.sum(np.array(medians) >= STABLE)),
        "median_cosine": medians,
    }


def compare_methods(
    methods: Sequence[str], x: np.ndarray, groups: np.ndarray, counts: Sequence[int], seed: int
) -> list[dict]:
    """Explained variance on held-out levels of each method at each count; None if a fit fails.

    Args:
        methods: keys of METHODS.
        x: states [n, D].
        groups: level of each state [n].
        counts: numbers of directions.
        seed: of the split and the fits.
    """
    rows = []
    for count in counts:
        for method in methods:
            row = {"method": method, "count": count}
            try:
                (found,) = compare_reconstruction(x, groups, {method: METHODS[method]}, [count], seed)
                rows.append(row | {"active": found.active, "explained": found.explained})
            except UsageError as error:
                logging.warning("%s with %d directions: %s", method, count, error)
                rows.append(row | {"active": None, "explained": None, "refused": str(error)})
    return rows
