"""Whether directions come back when levels are drawn again: without that, a direction earns no name."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from interpret.directions import Directions
from interpret.fitting import checked
from rollouts.growth import RECORD_MORE

Fit = Callable[[np.ndarray, np.ndarray, int], Directions]
"""(x [n, D], groups [n], seed) -> Directions; make one of a fitting function with a lambda."""
STABLE = 0.9
"""Median matched |cosine| from which on a direction counts as stable."""
FEWEST_DRAWS, FEWEST_LEVELS = 20, 20


@dataclass(frozen=True)
class Stability:
    """How well each direction was found again."""

    names: tuple[str, ...]
    cosines: np.ndarray
    """[draws, K]: |cosine| of each direction with its partner in each draw, in whitened space."""

    @property
    def median(self) -> np.ndarray:
        return np.median(self.cosines, 0)

    @property
    def stable(self) -> np.ndarray:
        """[K] bool."""
        return self.median >= STABLE

    def __str__(self) -> str:
        verdicts = zip(self.names, self.median, self.stable)
        return "\n".join(f"{name}: median |cosine| {median:.2f}, {'stable' if stable else 'unstable'}" for name, median, stable in verdicts)


def stability(fit: Fit, x, groups, draws: int = FEWEST_DRAWS, seed: int = 0, reference: Directions | None = None) -> Stability:
    """Fits `draws` times, each time to levels drawn with repetition and with another seed, and matches write columns with those of the whole.

    x [n, D], groups [n]: the level of each state. reference: the directions to find again, where they were fit to more than x. Raises UsageError for fewer than 20 draws or levels, or fewer than four levels for each
    direction, from which a draw may miss what is there.
    """
    if draws < FEWEST_DRAWS:
        raise UsageError(f"{counted(draws, 'draw')} cannot tell stability: take at least {FEWEST_DRAWS}")
    reference = reference or fit(x, groups, seed)
    sample = checked(x, groups, 1)
    fewest = fewest_levels(reference)
    if sample.num_groups < fewest:
        raise UsageError(f"the stability of {counted(len(reference), 'direction')} needs {counted(fewest, 'level')}, and there are {sample.num_groups}: {RECORD_MORE}")
    metric = whitened(sample.covariance)
    order = np.argsort(sample.groups, kind="stable")
    ends = np.cumsum(np.bincount(sample.groups))
    rows_of = np.split(order, ends[:-1])
    rng, found = np.random.default_rng([seed, 4]), []
    for draw in progress_bar(range(draws), desc="stability", unit="fit", leave=False):
        rows = np.concatenate([rows_of[level] for level in rng.integers(sample.num_groups, size=sample.num_groups)])
        again = fit(sample.x[rows], sample.groups[rows], seed + 1 + draw)
        found.append(matched_cosines(reference.write.numpy(), again.write.numpy(), metric))
    return Stability(reference.names, np.stack(found))


def fewest_levels(directions: Directions) -> int:
    """How many levels a test of these directions takes."""
    return max(FEWEST_LEVELS, 4 * len(directions) if directions.linear else 0)


def matched_cosines(columns: np.ndarray, others: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """|cosine| [K] of each of columns [D, K] with its partner among others [D, M], matched one to one for the largest sum (Kuhn 1955).

    metric [D, D]: the inner product, `whitened` or `standardised`. A column that has no partner (M < K) has cosine 0.
    """
    products = columns.T @ metric @ others
    lengths = [np.sqrt(np.einsum("dk,de,ek->k", part, metric, part)) for part in (columns, others)]
    cosines = np.abs(products) / np.outer(*lengths)
    mine, theirs = linear_sum_assignment(-cosines)
    matched = np.zeros(columns.shape[1])
    matched[mine] = cosines[mine, theirs]
    return matched


def whitened(covariance: np.ndarray) -> np.ndarray:
    """The inner product [D, D] of whitened features: the inverse of the covariance."""
    std = np.sqrt(np.diag(covariance))
    return np.linalg.pinv(covariance / np.outer(std, std), hermitian=True) / np.outer(std, std)


def standardised(covariance: np.ndarray) -> np.ndarray:
    """The inner product [D, D] of standardised features."""
    return np.diag(1 / np.diag(covariance))


def judged(directions: Directions, found: Stability) -> Directions:
    """The directions with their stability noted down, so that `labels` can say it. Raises ValueError for the stability of another set."""
    if found.names != directions.names:
        raise ValueError("this is the stability of other directions")
    return directions.with_provenance(stability={"median": found.median.tolist(), "draws": len(found.cosines)})


def labels(directions: Directions) -> list[str]:
    """Names for figures: with "unstable" where a direction did not come back, with "untested" where nobody has tried."""
    if "stability" not in directions.provenance:
        return [f"{name} (untested)" for name in directions.names]
    medians = directions.provenance["stability"]["median"]
    return [name if median >= STABLE else f"{name} (unstable)" for name, median in zip(directions.names, medians)]
