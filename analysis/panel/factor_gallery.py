"""The gallery of a page: regions that the maps of all samples are sums of, with the clearest examples."""

from typing import NamedTuple

import numpy as np

from analysis.panel.run_samples import RunSamples
from interpret.attribution.map_factors import MapFactors, fit_map_factors, pool_magnitude

EXAMPLES = 4
"""Examples of every region, each from another sample."""


class Gallery(NamedTuple):
    """K regions; maps are numbered by sample, function and step."""

    factors: MapFactors
    by_function: np.ndarray
    """[K, F]: share of each function's summed magnitude."""
    examples: list[list[tuple[int, int, int]]]
    """For each region, up to EXAMPLES maps: positions of sample and function, and the step."""


def make_gallery(samples: RunSamples, count: int, draws: int, seed: int) -> Gallery:
    """Fits `count` regions to the maps of all samples and functions; every clip of a function weighs the
    same.
    """
    pooled, index = pooled_maps(samples)
    factors = fit_map_factors(pooled, samples.groups[index[:, 0]], count, draws, seed)
    mass = factors.weights * factors.regions.sum((1, 2))
    function = index[:, 1]
    shares = [
        mass[function == f].sum(0) / max(pooled[function == f].sum(), 1e-12)
        for f in range(len(samples.functions))
    ]
    return Gallery(factors, np.stack(shares, 1), [best_maps(part, index) for part in factors.weights.T])


def pooled_maps(samples: RunSamples) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes [n, h, w] of all maps, each clip's divided by their sum; sample, function, step [n, 3]."""
    pooled, index = [], []
    for i, sample in enumerate(samples.ids):
        clip = samples.store.clip(sample)
        for f, function in enumerate(samples.functions):
            squares = pool_magnitude(clip[f"map/{function}"][: samples.gradients[function].shape[1]])
            pooled.append(squares / max(squares.sum(), 1e-12))
            index += [(i, f, t) for t in range(len(squares))]
    return np.concatenate(pooled), np.array(index)


def best_maps(weights: np.ndarray, index: np.ndarray, most: int = EXAMPLES) -> list[tuple[int, int, int]]:
    """The maps with the largest weights [n], at most one of each sample; index [n, 3] as `pooled_maps`."""
    ranked = np.argsort(-weights, kind="stable")
    ranked = ranked[weights[ranked] > 0]
    first = np.sort(np.unique(index[ranked, 0], return_index=True)[1])[:most]
    return [tuple(map(int, row)) for row in index[ranked[first]]]
