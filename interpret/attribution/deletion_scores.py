"""Scores of attribution maps against real effects of deleted objects, within each state.

Rows are objects; `state` [m] says whose they are. Every score comes once for the data and once for each
bootstrap resample of layouts: arrays [1 + R], see common.stats.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from common.stats import ratio


class Sums(NamedTuple):
    """Values per state and how much each counts, [n] each: a score is a weighted mean over states."""

    value: np.ndarray
    weight: np.ndarray

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """[R] from bootstrap weights [R, n]."""
        return ratio(weights, self.value * self.weight, self.weight)


def box_mass(maps: np.ndarray, state: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Sum [m] of the map within each box; NaN for a box of -1.

    Args:
        maps: [n, H, W].
        state: [m].
        box: [m, 4], top, left, bottom, right; bottom and right exclusive.
    """
    summed = np.zeros((len(maps), maps.shape[1] + 1, maps.shape[2] + 1))
    summed[:, 1:, 1:] = maps.astype(np.float64).cumsum(1).cumsum(2)
    top, left, bottom, right = box.T.astype(np.int64)
    mass = summed[state, bottom, right] - summed[state, top, right]
    mass += summed[state, top, left] - summed[state, bottom, left]
    return np.where(top < 0, np.nan, mass)


def within_ranks(values: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Ranks [m] within each state, centred, in units of the number of its objects; ties share their mean."""
    ranks = np.zeros(len(values))
    for one in np.unique(state):
        rows = state == one
        ranks[rows] = (rankdata(values[rows]) - (rows.sum() + 1) / 2) / rows.sum()
    return ranks


def spearman_by_state(a: np.ndarray, b: np.ndarray, state: np.ndarray, count: int) -> Sums:
    """Spearman's correlation of a and b [m] in each of `count` states; a state where one is constant has
    weight 0.
    """
    x, y = (within_ranks(values, state) for values in (a, b))
    xx, yy, xy = (np.bincount(state, values, count) for values in (x * x, y * y, x * y))
    defined = (xx > 1e-9) & (yy > 1e-9)
    value = np.divide(xy, np.sqrt(xx * yy), out=np.zeros(count), where=defined)
    return Sums(value, defined.astype(float))


def partial_spearman(
    a: np.ndarray, b: np.ndarray, others: np.ndarray, state: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Correlation [R] of ranks of a and b within states, less linear effects of the ranks of others [m, K].

    A state's ranks sum to 0, so this is a regression with an intercept per state over all objects.
    """
    columns = np.stack([within_ranks(values, state) for values in (a, b, *others.T)], 1)
    products = np.zeros((weights.shape[1], columns.shape[1], columns.shape[1]))
    np.add.at(products, state, columns[:, :, None] * columns[:, None])
    moments = np.tensordot(weights, products, 1)  # [R, 2 + K, 2 + K]
    cross = moments[:, :2, 2:]
    left = moments[:, :2, :2] - cross @ np.linalg.pinv(moments[:, 2:, 2:]) @ cross.transpose(0, 2, 1)
    scale = np.sqrt(np.maximum(left[:, 0, 0] * left[:, 1, 1], 0))
    return np.divide(left[:, 0, 1], scale, out=np.full(len(left), np.nan), where=scale > 1e-9)


def largest_agrees(mass: np.ndarray, effect: np.ndarray, state: np.ndarray, count: int) -> tuple[Sums, Sums]:
    """Whether the object with the most mass has the largest effect, by state; and the chance of that for an
    object drawn at random.
    """
    hit, chance, weight = (np.zeros(count) for _ in range(3))
    for one in np.unique(state):
        rows = state == one
        best = effect[rows] == effect[rows].max()
        weight[one] = not best.all()
        chance[one] = best.mean()
        hit[one] = best[mass[rows] == mass[rows].max()].mean()
    return Sums(hit, weight), Sums(chance, weight)


def above_empty(mass: np.ndarray, empty_mass: np.ndarray, state: np.ndarray, count: int) -> Sums:
    """Share of objects with more mass than their empty place of the same size, ties count half; by state."""
    known = np.isfinite(empty_mass)
    share = (mass > empty_mass) + 0.5 * (mass == empty_mass)
    objects = np.bincount(state[known], minlength=count).astype(float)
    total = np.bincount(state[known], share[known], count)
    return Sums(
        np.divide(total, objects, out=np.zeros(count), where=objects > 0), (objects > 0).astype(float)
    )
