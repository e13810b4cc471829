"""The agent's policy, hidden state and value on simulated frames, compared with those on recorded frames.

Policies are compared over effect classes (actions with the same effect count as one).
"""

from typing import NamedTuple

import numpy as np

from common.stats import ratio

HAZARD_RADIUS = 4.0
"""Tiles: a step is a decision step if a hazard is this near, in x and in y."""


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Total variation distance [...] of two distributions [..., J]."""
    return 0.5 * np.abs(p - q).sum(-1)


def kappa(
    weights: np.ndarray, agrees: np.ndarray, real_class: np.ndarray, counts: np.ndarray, num_classes: int
) -> np.ndarray:
    """Agreement beyond that of a guesser who always names the most common class, after Cohen's kappa.

    1 if the likeliest class is always the same, 0 if the agreement is that of the guesser.

    Args:
        weights: bootstrap weights [R, n].
        agrees: [S, n] bool, whether the likeliest class is the same on the simulated and the real frame.
        real_class: [S, n], the likeliest class on the real frame.
        counts: [S, n] bool, the steps that are included.
        num_classes: J.

    Returns:
        (agreement - guessed) / (1 - guessed), [R, S].
    """
    agreement = ratio(weights, agrees, counts, axis=-1)
    class_shares = np.stack([ratio(weights, real_class == j, counts, axis=-1) for j in range(num_classes)])
    guessed = class_shares.max(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (agreement - guessed) / (1 - guessed)


def decision_steps(taken: np.ndarray, alive: np.ndarray, hazard_near: np.ndarray) -> np.ndarray:
    """Steps [S, n] where a hazard is near or the recorded action is not one of the two most common.

    Args:
        taken: [S, n], effect class of the recorded action.
        alive: [S, n] bool, the steps that exist.
        hazard_near: [S, n] bool.
    """
    classes, counts = np.unique(taken[alive], return_counts=True)
    most_common = classes[np.argsort(-counts, kind="stable")[:2]]
    return alive & (hazard_near | ~np.isin(taken, most_common))


class Whitener(NamedTuple):
    """Centres hidden states [..., D] by `mean` [D]; scales to unit variance along `axes` [D, kept]."""

    mean: np.ndarray
    axes: np.ndarray

    def __call__(self, hidden: np.ndarray) -> np.ndarray:
        return (hidden - self.mean) @ self.axes


def fit_whitener(reference: np.ndarray, least: float = 1e-4) -> Whitener:
    """PCA whitening fit on real hidden states [m, D].

    Drops axes with less than `least` of the largest variance, which would amplify noise.
    """
    variance, axes = np.linalg.eigh(np.cov(reference.T.astype(np.float64)))
    kept = variance > least * variance[-1]
    return Whitener(reference.mean(0), axes[:, kept] / np.sqrt(variance[kept]))


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine [...] of vectors [..., D]; 0 where one of them is zero."""
    scale = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.divide((a * b).sum(-1), scale, out=np.zeros(scale.shape), where=scale > 0)


def explained_variance(
    weights: np.ndarray, error: np.ndarray, spread: np.ndarray, alive: np.ndarray
) -> np.ndarray:
    """R^2 [R, S] of simulated hidden states.

    Args:
        weights: bootstrap weights [R, n].
        error: [S, n], squared distance to the real state.
        spread: [S, n], squared distance of the real state from the mean state.
        alive: [S, n] bool, the steps that exist.
    """
    return 1 - ratio(weights, error, alive, axis=-1) / ratio(weights, spread, alive, axis=-1)
