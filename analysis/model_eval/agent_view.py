"""How the agent takes simulated frames, beside what it made of the real ones: its choices, its hidden states,
its value.

Choices are compared by effect classes (actions that are the same act count as one). Kappa is agreement beyond
that of a guesser who always names the commonest class: 1 where the likeliest class is always the same, 0 for
no better than guessing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.stats import ratio

HAZARD_RADIUS = 4.0
"""Tiles: a hazard this near, in x and in y, makes a step a decision step."""


def class_probabilities(logits: np.ndarray, effect_classes: Sequence[int]) -> np.ndarray:
    """The probability of each effect class [..., J] from logits [..., A]; classes in increasing order of
    their number.
    """
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    member = np.asarray(effect_classes)[:, None] == np.unique(effect_classes)
    return (shifted / shifted.sum(-1, keepdims=True)) @ member


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Half the sum of absolute differences of two distributions [..., J]: the share of choices that differ at
    least, [...].
    """
    return 0.5 * np.abs(p - q).sum(-1)


def kappa(
    weights: np.ndarray, agrees: np.ndarray, real: np.ndarray, counts: np.ndarray, classes: int
) -> np.ndarray:
    """(agreement - m) / (1 - m), m the share of the commonest real class: weights [R, n] -> [R, S].

    agrees [S, n] bool; real [S, n]: the likeliest class on the real frame; counts [S, n] bool: the steps that
    enter.
    """
    agreement = ratio(weights, agrees, counts, axis=-1)
    share = np.stack([ratio(weights, real == j, counts, axis=-1) for j in range(classes)])
    guessed = share.max(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (agreement - guessed) / (1 - guessed)


def decision_steps(taken: np.ndarray, alive: np.ndarray, hazard_near: np.ndarray) -> np.ndarray:
    """The steps at which something is decided: a hazard is near, or the act is none of the two commonest. All
    [S, n].

    taken: effect class of the recorded action; alive: the steps that exist; hazard_near bool.
    """
    classes, counts = np.unique(taken[alive], return_counts=True)
    commonest = classes[np.argsort(-counts, kind="stable")[:2]]
    return alive & (hazard_near | ~np.isin(taken, commonest))


class Whitener(NamedTuple):
    """Centres hidden states [..., D] by `mean` [D] and takes them to unit variance along `axes` [D, kept]."""

    mean: np.ndarray
    axes: np.ndarray

    def __call__(self, hidden: np.ndarray) -> np.ndarray:
        return (hidden - self.mean) @ self.axes


def fit_whitener(reference: np.ndarray, least: float = 1e-4) -> Whitener:
    """From real states [m, D]. Principal axes with less than `least` of the largest variance are left out:
    noise blown up.
    """
    variance, axes = np.linalg.eigh(np.cov(reference.T.astype(np.float64)))
    kept = variance > least * variance[-1]
    return Whitener(reference.mean(0), axes[:, kept] / np.sqrt(variance[kept]))


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of vectors [..., D]: [...]; 0 where one of them is zero."""
    scale = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.divide((a * b).sum(-1), scale, out=np.zeros(scale.shape), where=scale > 0)


def explained_variance(
    weights: np.ndarray, error: np.ndarray, spread: np.ndarray, alive: np.ndarray
) -> np.ndarray:
    """R^2 = 1 - squared error / squared distance of the real states from their mean: [R, S] from [S, n] each."""
    return 1 - ratio(weights, error, alive, axis=-1) / ratio(weights, spread, alive, axis=-1)
