"""Independent components (FastICA), with checks on held-out levels that show when the data do not identify
them.

Components are identified only as far as they are not Gaussian (Comon 1994, "Independent component analysis, a
new concept?"), and meaningful only as far as they are independent.
"""

import warnings

import numpy as np
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.directions.fitting import (
    check_rank,
    checked_sample,
    held_out_rows,
    leading_eigenvectors,
    orientation_signs,
)

MAX_ROWS = 200_000
"""More states than this are subsampled at random for the fit."""
MAX_ITERATIONS = 1000
CERTAIN = 4.0
"""Standard errors over levels by which a component must differ from Gaussian noise."""
DEPENDENT = 0.03
"""A correlation of magnitudes above this, and above that of shifted components, counts as dependence."""
_SHIFTS = 20


def fit_ica(x, groups, count: int, seed: int = 0) -> Directions:
    """Independent components of the leading principal components; FastICA with log cosh (Hyvärinen 1999).

    Fit on three quarters of the levels and checked on the rest. Scores have unit variance and R E = I; with
    whitened data the mixing matrix is also the pattern. Components are ordered by the variance that they
    write and signed by their largest entry. Provenance `caveats` names several Gaussian components, dependent
    components and failed convergence. Sources that are linear mixtures of independent ones cannot be detected
    from x.

    Args:
        x: [n, D].
        groups: [n], see `fitting.checked_sample`.
        count: number of components.
        seed: of split and fit.

    Raises:
        UsageError: if at most one component differs from Gaussian noise: any rotation would fit as well.
    """
    whole = checked_sample(x, groups, count)
    test = held_out_rows(whole.groups, seed)
    sample = whole.rows(np.flatnonzero(~test)).subsampled(MAX_ROWS, seed)
    components, variance = leading_eigenvectors(sample.correlation, count)
    check_rank(variance, "the states")
    whiten = components / np.sqrt(variance)[:, None]
    rotation, converged = _rotate(sample.standardised() @ whiten.T.astype(np.float32), seed)
    read = rotation @ whiten
    write = (components.T * np.sqrt(variance)) @ rotation.T
    order = np.argsort(-(write**2).sum(0), kind="stable")
    signs = orientation_signs(write)[order]
    read, write = read[order] * signs[:, None], write[:, order] * signs
    names = [f"ic_{i}" for i in range(count)]
    unseen = whole.rows(np.flatnonzero(test)).subsampled(MAX_ROWS, seed)
    scores = ((unseen.x - sample.mean) / sample.std) @ read.T
    caveats = [] if converged else [f"FastICA did not converge within {MAX_ITERATIONS} iterations"]
    caveats += _gaussian(scores, unseen.groups, names) + _dependent(scores, names, seed)
    zeros = np.zeros(count), np.zeros(read.shape[1])
    return sample.directions(
        read, zeros[0], write, zeros[1], names, "ica", seed, caveats=caveats, checked_on=len(scores)
    )


def _rotate(white: np.ndarray, seed: int) -> tuple[np.ndarray, bool]:
    """The orthogonal matrix [K, K] that makes white data [n, K] least Gaussian, and whether FastICA
    converged.
    """
    ica = FastICA(whiten=False, fun="logcosh", random_state=seed, max_iter=MAX_ITERATIONS, tol=1e-4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        components = ica.fit(white).components_.astype(np.float64)
    left, _, right = np.linalg.svd(components)  # orthogonal to float64, not to float32
    return left @ right, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def non_gaussianity(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Deviation of E[log cosh s] from its value for Gaussian s of the same variance, in standard errors by
    level [K].

    scores [n, K], groups [n] int. The standard error includes the uncertainty of mean and variance, by its
    influence function.
    """
    s = (scores - scores.mean(0)) / scores.std(0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    gaussian = (weights * _log_cosh(nodes)).sum() / weights.sum()
    slope = np.tanh(s)
    influence = _log_cosh(s) - gaussian - (s * slope).mean(0) / 2 * (s**2 - 1) - slope.mean(0) * s
    mean = influence.mean(0)
    sums = np.stack([np.bincount(groups, column) for column in (influence - mean).T], 1)
    return mean * len(s) / np.sqrt((sums**2).sum(0))


def dependence(scores: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Correlations of magnitudes |s_i| and |s_j| [K, K], 0 on the diagonal, and the largest one of shifted
    components.

    Magnitudes of uncorrelated components correlate if the components are dependent. Shifting each component
    by a random number of rows keeps its own distribution and breaks the dependence.
    """
    size = np.abs(scores - scores.mean(0))
    size = (size - size.mean(0)) / size.std(0)
    rng, (n, count) = np.random.default_rng([seed, 2]), scores.shape

    def correlations(a):
        return a.T @ a / n * (1 - np.eye(count))

    shifted = (np.stack([np.roll(column, rng.integers(n)) for column in size.T], 1) for _ in range(_SHIFTS))
    return correlations(size), max(np.abs(correlations(part)).max() for part in shifted)


def _gaussian(scores: np.ndarray, groups: np.ndarray, names: list[str]) -> list[str]:
    like = [name for name, z in zip(names, non_gaussianity(scores, groups)) if abs(z) < CERTAIN]
    if len(like) >= max(2, len(names) - 1):
        way_out = "take principal components, or more states"
        raise UsageError(
            f"{len(like)} of {len(names)} components cannot be distinguished from Gaussian noise, "
            f"so any rotation of them fits as well: {way_out}"
        )
    return (
        [f"{', '.join(like)} are as good as Gaussian: they may be any rotation of each other"]
        if len(like) > 1
        else []
    )


def _dependent(scores: np.ndarray, names: list[str], seed: int) -> list[str]:
    correlations, by_chance = dependence(scores, seed)
    i, j = np.unravel_index(np.abs(correlations).argmax(), correlations.shape)
    if abs(correlations[i, j]) <= max(DEPENDENT, by_chance):
        return []
    correlation = f"correlation of magnitudes {correlations[i, j]:.2f} (shifted: {by_chance:.2f})"
    how = f"{names[i]} and {names[j]} most, {correlation}"
    return [f"the components are not independent, so they need not be the sources ({how})"]


def _log_cosh(s: np.ndarray) -> np.ndarray:
    return np.logaddexp(s, -s) - np.log(2)
