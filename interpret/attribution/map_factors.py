"""Regions that saliency maps are sums of: non-negative factors of the magnitudes of many maps."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from common.progress import progress_bar
from common.runs import UsageError
from common.stats import level_resamples
from common.words import counted
from interpret.directions.stability import MIN_LEVELS, MIN_RESAMPLES, STABLE, matched_cosines

SQUARE = 4
"""Side, in pixels, of the squares that magnitudes are averaged over."""
MAX_ITERATIONS = 500


class MapFactors(NamedTuple):
    """K regions, the largest share first, and how much of each is in n maps."""

    regions: np.ndarray
    """[K, h, w]: largest value 1."""
    weights: np.ndarray
    """[n, K]: the pooled map is about weights @ regions."""
    share: np.ndarray
    """[K]: of the summed magnitude of all maps."""
    explained: float
    """Share of the sum of squares of the pooled maps."""
    cosines: np.ndarray | None
    """[draws, K]: cosine of each region with its match in each refit; None if stability is untested."""

    @property
    def stable(self) -> np.ndarray | None:
        """[K] bool: the median cosine is at least STABLE."""
        return None if self.cosines is None else np.median(self.cosines, 0) >= STABLE


def pool_magnitude(maps: np.ndarray, side: int = SQUARE) -> np.ndarray:
    """Magnitudes of maps [n, H, W] averaged over squares of `side` pixels, or the next smaller side that
    divides the frame: [n, h, w] float32.
    """
    n, height, width = maps.shape
    side = next(s for s in range(min(side, height), 0, -1) if height % s == 0 and width % s == 0)
    squares = np.abs(maps.astype(np.float32)).reshape(n, height // side, side, width // side, side)
    return squares.mean((2, 4))


def fit_map_factors(
    pooled: np.ndarray, levels: np.ndarray, count: int, draws: int = 0, seed: int = 0
) -> MapFactors:
    """Regions by non-negative matrix factorisation (Lee & Seung 1999, "Learning the parts of objects").

    Args:
        pooled: magnitudes [n, h, w], on a scale on which maps are comparable.
        levels: [n], level of each map; refits resample whole levels.
        count: K.
        draws: refits, each from another random start, that test stability, MIN_RESAMPLES or more; 0, or
            fewer than MIN_LEVELS levels, leaves it untested.
        seed: of starts and resamples.

    Raises:
        UsageError: for more factors than squares or maps, too few draws, or maps that are all zero.
    """
    n, height, width = pooled.shape
    x = pooled.reshape(n, -1)
    if not 1 <= count <= min(x.shape):
        found = f"{counted(n, 'map')} of {counted(height * width, 'square')}"
        raise UsageError(f"{counted(count, 'factor')} of {found}: ask for 1 to {min(x.shape)}")
    if 0 < draws < MIN_RESAMPLES:
        raise UsageError(
            f"{counted(draws, 'draw')} cannot tell stability: take at least {MIN_RESAMPLES}, or 0 for no test"
        )
    if not x.any():
        raise UsageError("every saliency map is zero: choose functions that depend on the frames")
    weights, regions = _factorise(x, count, "nndsvda", seed)
    peak = np.maximum(regions.max(1), np.finfo(np.float32).tiny)
    weights, regions = weights * peak, regions / peak[:, None]
    mass = weights.sum(0) * regions.sum(1)
    order = np.argsort(-mass, kind="stable")
    residual = ((x - weights @ regions) ** 2).sum()
    tested = draws > 0 and len(np.unique(levels)) >= MIN_LEVELS
    return MapFactors(
        regions[order].reshape(count, height, width),
        weights[:, order],
        mass[order] / x.sum(),
        float(1 - residual / (x**2).sum()),
        _refit(x, levels, regions[order], draws, seed) if tested else None,
    )


def _refit(x: np.ndarray, levels: np.ndarray, regions: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Cosines [draws, K] of regions [K, P] with those of refits on resampled levels."""
    cosines = []
    resamples = level_resamples(levels, draws, seed=[seed, 21])
    for draw, rows in enumerate(
        progress_bar(resamples, total=draws, desc="stability of factors", unit="fit", leave=False)
    ):
        again = _factorise(x[rows], len(regions), "nndsvdar", seed + 1 + draw)[1]
        kept = again[again.any(1)]
        cosines.append(matched_cosines(regions.T, kept.T, np.eye(x.shape[1])))
    return np.stack(cosines)


def _factorise(x: np.ndarray, count: int, start: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [n, K] and regions [K, P] of x [n, P]."""
    nmf = NMF(count, init=start, random_state=seed, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stability says whether the fit can be used
        weights = nmf.fit_transform(x)
    return weights, nmf.components_
