"""Predicted ends and rewards against what happened: ranking and calibration, with intervals by level."""

from collections.abc import Mapping

import numpy as np

from common.stats import json_estimate, json_number
from interpret.classification_scores import (
    DECILES,
    DONE_HORIZON,
    calibration_scores,
    decile_calibration,
    end_probability,
    ranking_scores,
)
from interpret.classification_scores import RESAMPLES as RANKING_RESAMPLES

CALIBRATED = ("end", "death", "coin", "coin_given_end")
Arrays = Mapping[str, np.ndarray]


def outcome_report(a: Arrays, weights: np.ndarray) -> dict:
    """AUROC and AUPRC of reward, end, and coin against death given an end; calibration of the end within
    DONE_HORIZON steps.
    """
    windows = a["alive"].shape[1]
    predicted = end_probability(a["done_prob/open_loop"][:DONE_HORIZON].astype(np.float64))
    calibrated = calibration_scores(
        weights[: RANKING_RESAMPLES + 1], predicted, a["done"][:DONE_HORIZON].any(0)
    )
    scores = {name: json_estimate(calibrated[name], windows) for name in ("ece", "brier_skill")}
    return {
        "open_loop": _outcome_ranking(a, weights, "open_loop"),
        "one_step": _outcome_ranking(a, weights, "one_step"),
        "end_within": {"steps": DONE_HORIZON, "bins": calibrated["bins"], **scores},
        "calibration": {name: calibration_report(a, weights, name) for name in ("open_loop", "one_step")},
    }


def calibration_report(a: Arrays, weights: np.ndarray, name: str) -> dict[str, dict]:
    """Calibration by tenths of the probability of each of CALIBRATED at each step, for one prediction.

    name: open_loop (own pictures) or one_step (real pictures).
    """
    done, coin = a["done"].astype(bool), a["coin"].astype(bool)
    done_prob, coin_prob = (a[f"{key}/{name}"].astype(np.float64) for key in ("done_prob", "reward_prob"))
    outcomes = {
        "end": (done_prob, done, a["alive"]),
        "death": (done_prob * (1 - coin_prob), done & ~coin, a["alive"]),
        "coin": (coin_prob, coin, a["alive"]),
        "coin_given_end": (coin_prob, coin, a["alive"] & done),
    }
    return {outcome: _calibration(weights, *outcomes[outcome]) for outcome in CALIBRATED}


def _calibration(
    weights: np.ndarray, predicted: np.ndarray, happened: np.ndarray, counts: np.ndarray
) -> dict:
    found = decile_calibration(weights, predicted, happened, counts)
    bins = [
        {"from": i / DECILES, "to": (i + 1) / DECILES}
        | {side: json_estimate(found[side][:, i], n) for side in ("predicted", "observed")}
        for i, n in enumerate(found["n"])
        if n
    ]
    total = {name: json_estimate(found[name], counts.sum()) for name in ("ece", "ratio")}
    return {"bins": bins, "happened": int(happened[counts].sum())} | total


def _outcome_ranking(a: Arrays, weights: np.ndarray, name: str) -> dict[str, dict]:
    """How well one prediction's probabilities rank the steps by their recorded outcome."""
    steps, windows = a["alive"].shape
    window = np.tile(np.arange(windows), steps)
    alive, done, coin = (a[key].ravel() for key in ("alive", "done", "coin"))
    done_prob, reward_prob = (a[f"{key}/{name}"].ravel() for key in ("done_prob", "reward_prob"))
    outcomes = {
        "done": (done_prob, done, alive),
        "reward": (reward_prob, coin, alive),
        "coin_given_end": (reward_prob, coin, alive & done),
    }
    report = {}
    for outcome, (predicted, happened, counts) in outcomes.items():
        ranked = ranking_scores(weights, predicted, happened, counts, window)
        report[outcome] = {
            "happened": int(happened[counts].sum()),
            "base_rate": json_number(happened[counts].mean()) if counts.any() else None,
            **{score: json_estimate(x, counts.sum()) for score, x in ranked.items()},
        }
    return report
