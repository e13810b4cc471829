"""The scores of a report card, from the per-window scores: each with its n and a 95% interval by level."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from analysis.model_eval.agent_view import decision_steps, explained_variance, kappa
from analysis.model_eval.frame_objects import HAZARDS, KINDS
from analysis.model_eval.frame_scores import RESAMPLES
from analysis.model_eval.window_scores import AGENT_VIEWED, DETECTOR_SEARCHED
from common.stats import json_estimate, json_estimates, json_number, level_weights, ratio, sign_flip_test
from interpret.classification_scores import DONE_HORIZON, calibration_scores, end_probability, ranking_scores
from interpret.classification_scores import RESAMPLES as RANKING_RESAMPLES
from interpret.psnr import pooled_psnr, psnr_difference

Arrays = Mapping[str, np.ndarray]
window_ratio = partial(ratio, axis=-1)  # windows are the last axis of every array
PREDICTIONS = (
    "open_loop",
    "modal",
    "posterior",
    "one_step",
    "wrong_actions",
    "copy",
    "shifted_copy",
    "mean_frame",
    "other_episode",
)
BASELINES = ("copy", "mean_frame", "shifted_copy")
LATE_STEPS = slice(5, 11)
"""Steps over which whole frames are compared with the best baseline."""
AFTER_FIRST = slice(1, None)
NUM_STEPS = 12
"""Last step of the report: claims about single windows are made up to here."""


def score_report(a: Arrays, levels: np.ndarray, seed: int = 0) -> dict:
    """Every score of one set of n windows, as JSON.

    Args:
        a: per-window scores of `score_windows`, windows last.
        levels: [n], the layout of each window.
        seed: of the bootstrap resamples and sign flips.
    """
    weights = level_weights(levels, RESAMPLES, seed=seed)
    return {
        "windows": len(levels),
        "levels": len(np.unique(levels)),
        "alive": [{"value": float(alive.mean()), "n": int(alive.sum())} for alive in a["alive"]],
        "frames": frame_report(a, weights),
        "view": view_report(a, weights),
        "objects": object_report(a, weights),
        "outcomes": outcome_report(a, weights),
        "new_places": new_places_report(a, weights, levels, seed),
    }


def frame_report(a: Arrays, weights: np.ndarray) -> dict:
    """PSNR in dB of whole frames and of seen pixels, by prediction and step, and differences with targets."""
    alive = a["alive"]
    n = alive.sum(1)
    whole = {name: pooled_psnr(weights, a[f"error/{name}"], alive) for name in PREDICTIONS}
    seen = {name: pooled_psnr(weights, a[f"seen_error/{name}"], a["seen_pixels"]) for name in PREDICTIONS}
    dpsnr = psnr_difference(whole["open_loop"], whole["wrong_actions"])
    above_shifted_copy = psnr_difference(seen["open_loop"], seen["shifted_copy"])
    return {
        "whole": {name: json_estimates(x, n) for name, x in whole.items()},
        "seen": {name: json_estimates(x, n) for name, x in seen.items()},
        "seen_share": json_estimates(window_ratio(weights, a["seen_share"], alive), n),
        "posterior": _pooled_over_steps(a, weights, "posterior"),
        "one_step_after_correction": _pooled_over_steps(a, weights, "one_step"),
        **_late_report(a, weights),
        "seen_above_shifted_copy": json_estimates(above_shifted_copy, n),
        "dpsnr": json_estimates(dpsnr, n),
    }


def _pooled_over_steps(a: Arrays, weights: np.ndarray, name: str) -> dict:
    """PSNR of a prediction's whole frames, pooled over all steps but the first."""
    psnr = pooled_psnr(weights, *_sum_steps(a[f"error/{name}"], a["alive"], AFTER_FIRST))
    return json_estimate(psnr, a["alive"][AFTER_FIRST].sum())


def _late_report(a: Arrays, weights: np.ndarray) -> dict:
    """PSNR of whole frames over LATE_STEPS: open loop, baselines, and the difference to the best baseline."""
    n = a["alive"][LATE_STEPS].sum()
    late = {
        name: pooled_psnr(weights, *_sum_steps(a[f"error/{name}"], a["alive"], LATE_STEPS))
        for name in ("open_loop", *BASELINES)
    }
    best = max(BASELINES, key=lambda name: late[name][0])
    difference = json_estimate(psnr_difference(late["open_loop"], late[best]), n)
    return {
        "late": {name: json_estimate(x, n) for name, x in late.items()},
        "late_above_baseline": {"baseline": best, **difference},
    }


def view_report(a: Arrays, weights: np.ndarray) -> dict:
    """The agent's responses by prediction and step: policy, hidden state, value, encoder distance."""
    alive = a["alive"]
    deciding = decision_steps(a["taken"], alive, a["hazard_near"])
    value_mean = window_ratio(weights[:1], *_sum_steps(a["value"], alive, slice(None)))
    squares = _sum_steps((a["value"] - value_mean) ** 2, alive, slice(None))
    return {
        "decision_steps": [int(x) for x in deciding.sum(1)],
        "value_standard_deviation": float(np.sqrt(window_ratio(weights[:1], *squares))[0]),
        **{name: _prediction_view(a, weights, name, deciding) for name in AGENT_VIEWED},
    }


def _prediction_view(
    a: Arrays, weights: np.ndarray, name: str, deciding: np.ndarray
) -> dict[str, list[dict]]:
    """The agent's responses to one prediction, by step. deciding: [S, n] bool, the decision steps."""
    alive = a["alive"]
    mean_over = partial(window_ratio, weights)
    other_distance = mean_over(a["encoder_distance/other_episode"], alive)
    hidden_r2 = explained_variance(weights, a[f"hidden_error/{name}"], a["hidden_spread"], alive)
    white_r2 = explained_variance(weights, a[f"white_error/{name}"], a["white_spread"], alive)
    on_all_steps = {
        "total_variation": mean_over(a[f"tv/{name}"], alive),
        "kappa": _kappa(a, name, weights, alive),
        "hidden_cosine": mean_over(a[f"cosine/{name}"], alive),
        "hidden_r2": hidden_r2,
        "hidden_r2_whitened": white_r2,
        "value_error": mean_over(a[f"value_error/{name}"], alive),
        "encoder_distance": mean_over(a[f"encoder_distance/{name}"], alive) / other_distance,
    }
    on_decision_steps = {
        "total_variation_deciding": mean_over(a[f"tv/{name}"], deciding),
        "kappa_deciding": _kappa(a, name, weights, deciding),
    }
    return {
        score: json_estimates(x, steps.sum(1))
        for scores, steps in ((on_all_steps, alive), (on_decision_steps, deciding))
        for score, x in scores.items()
    }


def object_report(a: Arrays, weights: np.ndarray) -> dict:
    """Recall, precision and position error (tiles) by frames searched.

    Of all hazards at each step, and of each kind over all steps but the first.
    """
    hazards = list(HAZARDS)
    return {
        "hazards": {
            name: _detection_scores(a, weights, name, lambda counts: counts[hazards].sum(0))
            for name in DETECTOR_SEARCHED
        },
        "kinds": {
            name: {
                kind: _detection_scores(a, weights, name, lambda counts: counts[k, AFTER_FIRST].sum(0)[None])
                for k, kind in enumerate(KINDS)
            }
            for name in DETECTOR_SEARCHED
        },
    }


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
    }


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


def new_places_report(a: Arrays, weights: np.ndarray, levels: np.ndarray, seed: int) -> dict:
    """Objects detected at newly visible places per 100 square tiles, in simulated and in real frames.

    p: two-sided sign-flip test of the difference, by level.
    """
    area = a["new_tiles"][1:].sum(0)
    real, simulated = (a[f"objects_new/{name}"][:, 1:].sum(1) for name in ("real", "open_loop"))  # [kinds, n]
    rates = {
        name: 100 * window_ratio(weights, x, area) for name, x in (("real", real), ("simulated", simulated))
    }
    p = sign_flip_test(simulated - real, levels, seed=seed)
    return {"square_tiles": int(area.sum())} | {
        kind: {name: json_estimate(rate[:, k], area.sum()) for name, rate in rates.items()}
        | {"p": float(p[k])}
        for k, kind in enumerate(KINDS)
    }


def _sum_steps(total: np.ndarray, count: np.ndarray, steps: slice) -> tuple[np.ndarray, np.ndarray]:
    """Totals and counts [S, n] summed over some steps: [n] each."""
    return np.where(count > 0, total, 0)[steps].sum(0), count[steps].sum(0)


def _kappa(a: Arrays, name: str, weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return kappa(weights, a[f"agrees/{name}"], a["real_class"], counts, int(a["real_class"].max()) + 1)


def _detection_scores(a: Arrays, weights: np.ndarray, name: str, select) -> dict[str, list[dict]]:
    """Recall, precision and position error by step.

    Args:
        a: per-window scores.
        weights: bootstrap weights [1 + R, n].
        name: the frames searched.
        select: takes counts [kinds, S, n] to those of interest, [S', n].
    """
    pairs = {
        "recall": ("hit", "real"),
        "precision": ("true_positive", "detected"),
        "position_error": ("distance", "hit"),
    }
    scores = {}
    for score, measures in pairs.items():
        part, whole = (select(a[f"objects_{measure}/{name}"]) for measure in measures)
        scores[score] = json_estimates(window_ratio(weights, part, whole), whole.sum(-1))
    return scores
