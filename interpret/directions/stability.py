"""Stability of directions over bootstrap resamples of levels: without it, a direction earns no name."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from common.progress import progress_bar
from common.runs import UsageError
from common.stats import level_resamples
from common.words import counted
from interpret.directions.directions import Directions
from interpret.directions.fitting import checked_sample
from rollouts.growth import RECORD_MORE

Fit = Callable[[np.ndarray, np.ndarray, int], Directions]
"""(x [n, D], groups [n], seed) -> Directions."""
STABLE = 0.9
"""A direction counts as stable from this median matched |cosine| on."""
MIN_RESAMPLES = 20
MIN_LEVELS = 20


@dataclass(frozen=True)
class Stability:
    """How well each direction is recovered."""

    names: tuple[str, ...]
    cosines: np.ndarray
    """[draws, K]: |cosine| of each direction with its match in each refit, in whitened space."""

    @property
    def median(self) -> np.ndarray:
        return np.median(self.cosines, 0)

    @property
    def stable(self) -> np.ndarray:
        """[K] bool."""
        return self.median >= STABLE

    def __str__(self) -> str:
        verdicts = zip(self.names, self.median, self.stable)
        return "\n".join(
            f"{name}: median |cosine| {median:.2f}, {'stable' if stable else 'unstable'}"
            for name, median, stable in verdicts
        )


def stability(
    fit: Fit, x, groups, draws: int = MIN_RESAMPLES, seed: int = 0, reference: Directions | None = None
) -> Stability:
    """Refits on resampled levels, each time with another seed, and matches write columns with those of the
    whole.

    Args:
        fit: the fit to test.
        x: [n, D].
        groups: [n], level of each state.
        draws: refits.
        seed: of the resamples.
        reference: the directions to recover, if they were fit on more than x.

    Raises:
        UsageError: for fewer than MIN_RESAMPLES refits or MIN_LEVELS levels, or fewer than four levels per
            direction.
    """
    if draws < MIN_RESAMPLES:
        raise UsageError(f"{counted(draws, 'draw')} cannot tell stability: take at least {MIN_RESAMPLES}")
    reference = reference or fit(x, groups, seed)
    sample = checked_sample(x, groups, 1)
    fewest = min_levels(reference)
    if sample.num_groups < fewest:
        raise UsageError(
            f"the stability of {counted(len(reference), 'direction')} needs {counted(fewest, 'level')}, "
            f"and there are {sample.num_groups}: {RECORD_MORE}"
        )
    metric = whitened_metric(sample.covariance)
    resamples = level_resamples(sample.groups, draws, seed=[seed, 4])
    cosines = []
    for draw, rows in enumerate(
        progress_bar(resamples, total=draws, desc="stability", unit="fit", leave=False)
    ):
        again = fit(sample.x[rows], sample.groups[rows], seed + 1 + draw)
        cosines.append(matched_cosines(reference.write.numpy(), again.write.numpy(), metric))
    return Stability(reference.names, np.stack(cosines))


def min_levels(directions: Directions) -> int:
    """Levels that the stability of these directions needs."""
    return max(MIN_LEVELS, 4 * len(directions) if directions.linear else 0)


def matched_cosines(columns: np.ndarray, others: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """|cosine| [K] of columns [D, K] with their partners in others [D, M], matched one to one for the largest
    sum (Kuhn 1955).

    metric [D, D]: the inner product, `whitened_metric` or `standardised_metric`. A column without partner (M
    < K) has 0.
    """
    products = columns.T @ metric @ others
    lengths = [np.sqrt(np.einsum("dk,de,ek->k", part, metric, part)) for part in (columns, others)]
    cosines = np.abs(products) / np.outer(*lengths)
    rows, partners = linear_sum_assignment(-cosines)
    matched = np.zeros(columns.shape[1])
    matched[rows] = cosines[rows, partners]
    return matched


def whitened_metric(covariance: np.ndarray) -> np.ndarray:
    """Inner product [D, D] of whitened features: the inverse covariance."""
    std = np.sqrt(np.diag(covariance))
    return np.linalg.pinv(covariance / np.outer(std, std), hermitian=True) / np.outer(std, std)


def standardised_metric(covariance: np.ndarray) -> np.ndarray:
    """Inner product [D, D] of standardised features."""
    return np.diag(1 / np.diag(covariance))


def with_stability(directions: Directions, stability: Stability) -> Directions:
    """The directions with their stability in the provenance, where `labels` reads it. Raises ValueError for
    that of another set.
    """
    if stability.names != directions.names:
        raise ValueError("this is the stability of other directions")
    return directions.with_provenance(
        stability={"median": stability.median.tolist(), "draws": len(stability.cosines)}
    )


def labels(directions: Directions) -> list[str]:
    """Names for figures, marked "unstable" or "untested"."""
    if "stability" not in directions.provenance:
        return [f"{name} (untested)" for name in directions.names]
    medians = directions.provenance["stability"]["median"]
    return [
        name if median >= STABLE else f"{name} (unstable)" for name, median in zip(directions.names, medians)
    ]
