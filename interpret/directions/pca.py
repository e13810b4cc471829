"""Principal components of standardised states."""

import numpy as np

from interpret.directions.directions import Directions
from interpret.directions.fitting import checked_sample, leading_eigenvectors, orientation_signs


def fit_pca(x, groups, count: int, seed: int = 0) -> Directions:
    """The first `count` principal components of standardised x.

    Scores s = C (x - mean) / std keep their variance (provenance `variance`; it sums to D over all
    components). Write columns are diag(std) C', at once pseudo-inverse and pattern.

    Args:
        x: [n, D].
        groups: [n], see `fitting.checked_sample`.
        count: number of components.
        seed: recorded; nothing is random.
    """
    sample = checked_sample(x, groups, count)
    components, variance = leading_eigenvectors(sample.correlation, count)
    components = components * orientation_signs(components.T)[:, None]
    names = [f"pc_{i}" for i in range(count)]
    zeros = np.zeros(count), np.zeros(sample.x.shape[1])
    return sample.directions(
        components, zeros[0], components.T, zeros[1], names, "pca", seed, variance=variance.tolist()
    )
