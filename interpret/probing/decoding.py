"""Decoding scores of probes (AUROC, R^2) under shared bootstrap resamples, and what they are compared with.

All readers are scored on the same resamples of levels, so that differences between two of them are paired. A
score alone says little: `gain_over_best` subtracts the best baseline, and `control_labels` measure how much a
probe could memorise.
"""

import numpy as np

from common.stats import level_counts

RESAMPLES = 500
AUROC_BINS = 250
"""Quantile bins of the predictions; two predictions in one bin are a tie (AUROC within 0.002)."""
CHANCE = {True: 0.5, False: 0.0}
"""Score at chance: AUROC of a binary concept, R^2 of a numeric one."""


def group_resamples(groups: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Bootstrap counts [1 + RESAMPLES, G] of the groups numbered in [n]; row 0 is the data themselves."""
    return level_counts(groups.max() + 1, RESAMPLES, seed=seed)


def decoding_scores(
    truth: np.ndarray, binary: np.ndarray, predicted: np.ndarray, groups: np.ndarray, resamples: np.ndarray
) -> np.ndarray:
    """AUROC of binary and R^2 of numeric concepts, for each resample of the groups.

    Args:
        truth: [n, K]; binary concepts as 0 and 1, NaN where a concept is not known.
        binary: [K] bool.
        predicted: [n, K].
        groups: [n], the level or layout of each row, numbered from 0.
        resamples: [1 + R, G], how often each group counts.

    Returns:
        [1 + R, K]; NaN where a resample holds only one class.
    """
    scores = []
    for k, is_binary in enumerate(binary):
        rows = np.isfinite(truth[:, k])
        measure = _auroc if is_binary else _r2
        known, read = truth[rows, k].astype(np.float64), predicted[rows, k].astype(np.float64)
        scores.append(measure(known, read, groups[rows], resamples))
    return np.stack(scores, 1)


def _auroc(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, resamples: np.ndarray) -> np.ndarray:
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, AUROC_BINS + 1)[1:-1], method="lower"))
    cell = groups * (len(edges) + 1) + np.searchsorted(edges, predicted)
    shape = (resamples.shape[1], len(edges) + 1)
    positives, negatives = (
        resamples @ np.bincount(cell, label, np.prod(shape)).reshape(shape) for label in (truth, 1 - truth)
    )  # [1 + R, bins]
    negatives_below = np.cumsum(negatives, 1) - negatives / 2
    pairs = positives.sum(1) * negatives.sum(1)
    undefined = np.full(len(resamples), np.nan)
    return np.divide((positives * negatives_below).sum(1), pairs, out=undefined, where=pairs > 0)


def _r2(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, resamples: np.ndarray) -> np.ndarray:
    centred = truth - truth.mean()
    columns = np.ones(len(truth)), centred, centred**2, (truth - predicted) ** 2
    n, total, squares, residual = (
        resamples @ np.bincount(groups, column, resamples.shape[1]) for column in columns
    )
    variance = squares - np.divide(total**2, n, out=np.zeros_like(n), where=n > 0)
    return 1 - np.divide(residual, variance, out=np.full(len(n), np.nan), where=variance > 0)


def gain_over_best(scores: np.ndarray, baselines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score of a reader less that of the best baseline: gain [1 + R, K], and the best baseline [K].

    scores [1 + R, K], baselines [N, 1 + R, K]. The best is chosen separately in every resample, which can
    only lower the gain.
    """
    return scores - baselines.max(0), baselines[:, 0].argmax(0)


def control_labels(truth: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Labels of a control task for each concept (Hewitt & Liang 2019): one random value per group.

    Every group gets, for all its rows [n, K] in which the concept is known, the value of a row drawn at
    random from all. A probe that predicts them has memorised groups.
    """
    rng = np.random.default_rng([seed, 11])
    labels = np.full(truth.shape, np.nan, np.float32)
    for k, column in enumerate(truth.T):
        rows = np.flatnonzero(np.isfinite(column))
        labels[rows, k] = rng.choice(column[rows], groups.max() + 1)[groups[rows]]
    return labels
