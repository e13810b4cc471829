"""Scores of predicted rewards and ends: ranking (AUROC, AUPRC) and calibration, under bootstrap weights."""

import numpy as np

DONE_HORIZON = 8
"""Steps within which an end is predicted."""
BINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DECILES = 10
RESAMPLES = 200
"""Resamples of the ranking scores, which weigh every step rather than every window."""


def ranking_scores(
    weights: np.ndarray, score: np.ndarray, happened: np.ndarray, counts: np.ndarray, window: np.ndarray
) -> dict[str, np.ndarray]:
    """AUROC and AUPRC (average precision) [R] of scores against outcomes.

    Args:
        weights: [R, n] bootstrap weights of n windows.
        score: [m]; equal scores are one threshold.
        happened: [m], the outcomes.
        counts: [m] bool, which entries are scored.
        window: [m], the window of each entry.

    Returns:
        {"auroc": [R], "auprc": [R]}; NaN in a resample with one class only.
    """
    order = np.flatnonzero(counts)[np.argsort(-score[counts], kind="stable")]
    if not len(order):
        return {name: np.full(len(weights), np.nan) for name in ("auroc", "auprc")}
    starts = np.flatnonzero(
        np.diff(score[order], prepend=np.inf)
    )  # of the groups of equal scores, highest first
    weight = weights[: RESAMPLES + 1, window[order]]
    positive = happened[order].astype(bool)
    hits, misses = (np.add.reduceat(weight * which, starts, axis=1) for which in (positive, ~positive))
    all_hits = hits.cumsum(1)
    all_misses = misses.cumsum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = all_misses[:, -1:] - all_misses + misses / 2
        precision = np.where(hits > 0, all_hits / (all_hits + all_misses), 0)
        auroc = (hits * below).sum(1) / (all_hits[:, -1] * all_misses[:, -1])
        auprc = (hits * precision).sum(1) / all_hits[:, -1]
    return {"auroc": auroc, "auprc": np.where(all_misses[:, -1] > 0, auprc, np.nan)}


def end_probability(done: np.ndarray) -> np.ndarray:
    """Probability [n] that an episode ends within S steps, from the hazard done [S, n] of each step."""
    return 1 - np.prod(1 - done, axis=0)


def decile_calibration(
    weights: np.ndarray, predicted: np.ndarray, happened: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Calibration of probabilities of steps, by tenths of the probability scale.

    Args:
        weights: [R, n] bootstrap weights of n windows.
        predicted: [S, n] probabilities.
        happened: [S, n] outcomes.
        counts: [S, n] bool, the steps that are included.

    Returns:
        n [10]: steps in each tenth. predicted, observed [R, 10]: mean probability and share that happened;
        NaN where there are none. ece [R]: expected calibration error. ratio [R]: sum of the probabilities
        over the number that happened; NaN where none did.
    """
    tenth = np.minimum((predicted * DECILES).astype(np.int64), DECILES - 1)
    cell = (tenth * predicted.shape[1] + np.arange(predicted.shape[1]))[counts]
    size, promised, occurred = (
        np.bincount(cell, x[counts].astype(np.float64), DECILES * predicted.shape[1]).reshape(DECILES, -1)
        for x in (np.ones_like(predicted), predicted, happened)
    )
    total, expected, observed = (weights @ x.T for x in (size, promised, occurred))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "n": size.sum(1).astype(np.int64),
            "predicted": expected / total,
            "observed": observed / total,
            "ece": np.abs(expected - observed).sum(1) / total.sum(1),
            "ratio": np.where(observed.sum(1) > 0, expected.sum(1) / observed.sum(1), np.nan),
        }


def calibration_scores(weights: np.ndarray, predicted: np.ndarray, happened: np.ndarray) -> dict:
    """Calibration of predicted probabilities.

    Args:
        weights: [R, n] bootstrap weights.
        predicted: [n] probabilities.
        happened: [n] outcomes.

    Returns:
        bins: mean predicted and observed probability by bin, with n. ece [R]: expected calibration error.
        brier_skill [R]: 1 - Brier score / that of the base rate.
    """
    bin_of = np.digitize(predicted, BINS[1:-1])
    member = (bin_of == np.arange(len(BINS) - 1)[:, None]).astype(float)  # [bins, n]
    size = weights @ member.T
    gap = np.abs((weights * predicted) @ member.T - (weights * happened) @ member.T).sum(1) / size.sum(1)
    brier = (weights @ (predicted - happened) ** 2) / weights.sum(1)
    base = (weights @ happened) / weights.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        skill = 1 - brier / (base * (1 - base))
    rows = [
        {
            "from": BINS[k],
            "to": BINS[k + 1],
            "n": int(m.sum()),
            "predicted": float(predicted[m > 0].mean()),
            "observed": float(happened[m > 0].mean()),
        }
        for k, m in enumerate(member)
        if m.any()
    ]
    return {"bins": rows, "ece": gap, "brier_skill": skill}
