"""How well concepts are read, with draws of levels that all readers share: so that differences between two of
them are paired.

A number alone says little: `over_best` takes off what the best of simpler readers reach, `control` what a
probe could learn by heart.
"""

import numpy as np

from common.stats import level_counts

RESAMPLES = 500
BINS = 250
"""Of scores, by quantile, for the AUROC: two scores in one bin count as a tie, which moves it by less than
0.002.
"""
CHANCE = {True: 0.5, False: 0.0}
"""Of the AUROC of a truth value and of the R^2 of a number."""


def draws_of(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """[1 + RESAMPLES, G]: how often each of the groups [n] (numbers from 0) counts; row 0 is the data as they
    are.
    """
    return level_counts(groups.max() + 1, RESAMPLES, seed=seed)


def decoded(
    truth: np.ndarray, classes: np.ndarray, read: np.ndarray, groups: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """AUROC (of truth values) or R^2 (of numbers) for each concept and draw of levels, [1 + R, K].

    truth [n, K], NaN where a concept is not known; classes [K] bool: which are truth values, as 0 and 1; read
    [n, K]; groups [n]: the level or layout of each row; draws [1 + R, G]. NaN where a draw has one class
    only.
    """
    found = []
    for k, is_class in enumerate(classes):
        rows = np.isfinite(truth[:, k])
        measure = _auroc if is_class else _r2
        found.append(
            measure(truth[rows, k].astype(np.float64), read[rows, k].astype(np.float64), groups[rows], draws)
        )
    return np.stack(found, 1)


def _auroc(truth: np.ndarray, read: np.ndarray, groups: np.ndarray, draws: np.ndarray) -> np.ndarray:
    edges = np.unique(np.quantile(read, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    cell = groups * (len(edges) + 1) + np.searchsorted(edges, read)
    shape = (draws.shape[1], len(edges) + 1)
    yes, no = (
        draws @ np.bincount(cell, side, np.prod(shape)).reshape(shape) for side in (truth, 1 - truth)
    )  # [1 + R, bins]
    below = np.cumsum(no, 1) - no / 2
    pairs = yes.sum(1) * no.sum(1)
    return np.divide((yes * below).sum(1), pairs, out=np.full(len(draws), np.nan), where=pairs > 0)


def _r2(truth: np.ndarray, read: np.ndarray, groups: np.ndarray, draws: np.ndarray) -> np.ndarray:
    shifted = truth - truth.mean()
    columns = np.ones(len(truth)), shifted, shifted**2, (truth - read) ** 2
    n, total, squares, wrong = (draws @ np.bincount(groups, column, draws.shape[1]) for column in columns)
    spread = squares - np.divide(total**2, n, out=np.zeros_like(n), where=n > 0)
    return 1 - np.divide(wrong, spread, out=np.full(len(n), np.nan), where=spread > 0)


def over_best(draws: np.ndarray, baselines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a reader reaches above the best of some baselines: draws [1 + R, K], baselines [N, 1 + R, K] ->
    gain [1 + R, K], and which is best [K].

    The best is found anew in every draw, which can only make the gain smaller.
    """
    return draws - baselines.max(0), baselines[:, 0].argmax(0)


def control(truth: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """A control task for each concept (Hewitt & Liang 2019): every level gets, for all its rows [n, K] in
    which the concept is known, the value of a row drawn at random from all. A probe that reads it has learned
    levels by heart.
    """
    rng = np.random.default_rng([seed, 11])
    made = np.full(truth.shape, np.nan, np.float32)
    for k, column in enumerate(truth.T):
        rows = np.flatnonzero(np.isfinite(column))
        made[rows, k] = rng.choice(column[rows], groups.max() + 1)[groups[rows]]
    return made
