"""Principal components of standardised states: orthogonal, ordered by the variance that they hold."""

import numpy as np

from interpret.directions.directions import Directions
from interpret.directions.fitting import checked_sample, leading_eigenvectors, orientation_signs


def fit_pca(x, groups, count: int, seed: int = 0) -> Directions:
    """The first `count` principal components of x [n, D], whose features are standardised first. groups [n]:
    see `fitting.checked_sample`.

    Scores s = C (x - mean) / std keep their variance (provenance `variance`, of D in all); the write columns
    are diag(std) C', which are both the pseudo-inverse and the pattern. Nothing is random: the seed is only
    noted down.
    """
    sample = checked_sample(x, groups, count)
    components, variance = leading_eigenvectors(sample.correlation, count)
    components = components * orientation_signs(components.T)[:, None]
    names = [f"pc_{i}" for i in range(count)]
    zeros = np.zeros(count), np.zeros(sample.x.shape[1])
    return sample.directions(
        components, zeros[0], components.T, zeros[1], names, "pca", seed, variance=variance.tolist()
    )
