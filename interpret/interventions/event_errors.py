"""Errors of a simulator's event classifier, and effects on events corrected for them.

The simulator is shown the real frames of a fork and says how likely each outcome is. If it recognises outcome
j with probability C[i, j] where i is the true one, under an edit as without it, then a change d of the true
shares shows as d C, and d C times the inverse of C is d (Rogan and Gladen 1978, for several outcomes).
"""

import numpy as np

from common.stats import mean

_SINGULAR = 1e-6


def confusion_table(actual: np.ndarray, recognised: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probability C [R, K, K] that outcome j is recognised (columns) where i took place (rows).

    Args:
        actual: [K, M] probability of each outcome in the game, by fork point.
        recognised: [K, M] as the classifier has it.
        weights: [R, M] bootstrap weights.

    Returns:
        A row without observations is NaN.
    """
    joint = mean(weights, np.einsum("im,jm->mij", actual, recognised))
    total = joint.sum(-1, keepdims=True)
    return np.divide(joint, total, out=np.full(joint.shape, np.nan), where=total > 0)


def correct(shares: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Shares of outcomes, or changes of them, [R, K] without the classifier's errors; NaN where the table
    cannot be inverted.
    """
    usable = np.isfinite(table).all((1, 2))
    usable[usable] = np.abs(np.linalg.det(table[usable])) > _SINGULAR
    found = np.full(shares.shape, np.nan)
    found[usable] = np.linalg.solve(table[usable].swapaxes(1, 2), shares[usable][..., None])[..., 0]
    return found
