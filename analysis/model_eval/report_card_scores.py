"""The scores of a report card, from the per-window scores: each with its n and a 95% interval by level."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from analysis.model_eval.agent_view import decision_steps, explained_variance, kappa
from analysis.model_eval.frame_objects import HAZARDS, KINDS
from analysis.model_eval.frame_scores import RESAMPLES
from analysis.model_eval.motion_error import MOTIONS, error_statistics
from analysis.model_eval.object_scores import DETECTOR_SEARCHED
from analysis.model_eval.outcome_scores import outcome_report
from analysis.model_eval.pixel_kinds import PIXEL_KINDS, SCORED_KINDS
from analysis.model_eval.report_card_targets import share_of_ceiling
from analysis.model_eval.window_scores import AGENT_VIEWED
from common.stats import json_estimate, json_estimates, level_weights, ratio, sign_flip_test
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
BY_KIND = {
    "recall": ("hit", "real"),
    "precision": ("true_positive", "detected"),
    "position_error": ("distance", "hit"),
}
MEASURES = BY_KIND | {"kept": ("kept_hit", "kept_real"), "drawn": ("drawn_hit", "drawn_real")}
"""Numerator and denominator of each score of detected objects."""
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
        "motion": motion_report(a, weights),
        "view": view_report(a, weights),
        "objects": object_report(a, weights),
        "outcomes": outcome_report(a, weights),
        "new_places": new_places_report(a, weights, levels, seed),
    }


def frame_report(a: Arrays, weights: np.ndarray) -> dict:
    """PSNR in dB of whole frames, seen pixels and each kind of pixel, by prediction and step; differences."""
    alive = a["alive"]
    n = alive.sum(1)
    whole = {name: pooled_psnr(weights, a[f"error/{name}"], alive) for name in PREDICTIONS}
    by_kind = {kind: _kind_psnr(a, weights, kind) for kind in ("seen", *SCORED_KINDS)}
    all_pixels = sum(a[f"{kind}_pixels"] for kind in PIXEL_KINDS)
    area = {kind: window_ratio(weights, a[f"{kind}_pixels"], all_pixels) for kind in PIXEL_KINDS}
    dpsnr = psnr_difference(whole["open_loop"], whole["wrong_actions"])
    above_copy = psnr_difference(by_kind["in_view"]["open_loop"], by_kind["in_view"]["shifted_copy"])
    counted_windows = {kind: (a[f"{kind}_pixels"] > 0).sum(1) for kind in by_kind}
    return {
        "whole": {name: json_estimates(x, n) for name, x in whole.items()},
        **{
            kind: {name: json_estimates(x, counted_windows[kind]) for name, x in psnr.items()}
            for kind, psnr in by_kind.items()
        },
        "area": {kind: json_estimates(x, n) for kind, x in area.items()},
        "posterior": _pooled_over_steps(a, weights, "posterior"),
        "one_step_after_correction": _pooled_over_steps(a, weights, "one_step"),
        **_late_report(a, weights),
        "in_view_above_shifted_copy": json_estimates(above_copy, counted_windows["in_view"]),
        "dpsnr": json_estimates(dpsnr, n),
    }


def _kind_psnr(a: Arrays, weights: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """PSNR [1 + R, S] of one kind of pixel, by prediction."""
    return {
        name: pooled_psnr(weights, a[f"{kind}_error/{name}"], a[f"{kind}_pixels"]) for name in PREDICTIONS
    }


def motion_report(a: Arrays, weights: np.ndarray) -> dict:
    """Errors of each of MOTIONS in pixels, by step: `step` of that step alone, `sum` of all since step 0."""
    alive = a["alive"]
    report = {}
    for name in MOTIONS:
        report[name] = {}
        for span in ("step", "sum"):
            by_step = [error_statistics(weights, *rows) for rows in zip(a[f"motion_{span}/{name}"], alive)]
            report[name][span] = {
                score: [json_estimate(found[score], n) for found, n in zip(by_step, alive.sum(1))]
                for score in by_step[0]
            }
    return report


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
        "share_of_composite": {
            "kappa": _kappa_share(a, weights, alive),
            "kappa_deciding": _kappa_share(a, weights, deciding),
        },
    }


def _kappa_share(a: Arrays, weights: np.ndarray, counts: np.ndarray) -> list[dict]:
    """Kappa of the open loop as a share of the composite's, by step."""
    score, ceiling = (_kappa(a, name, weights, counts) for name in ("open_loop", "composite"))
    return json_estimates(share_of_ceiling(score, ceiling), counts.sum(1))


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

    Of all hazards at each step, and of each kind over all steps but the first. `kept`: recall of hazards that
    were near in the first frame too; `drawn`: the same of those that were detected in it.
    """
    hazards = list(HAZARDS)
    return {
        "hazards": {
            name: _detection_scores(a, weights, name, lambda counts: counts[hazards].sum(0), MEASURES)
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


def _detection_scores(
    a: Arrays, weights: np.ndarray, name: str, select, measures: Mapping[str, tuple[str, str]] = BY_KIND
) -> dict[str, list[dict]]:
    """Ratios of counts by step.

    Args:
        a: per-window scores.
        weights: bootstrap weights [1 + R, n].
        name: the frames searched.
        select: takes counts [kinds, S, n] to those of interest, [S', n].
        measures: numerator and denominator of each score.
    """
    scores = {}
    for score, counts in measures.items():
        part, whole = (select(a[f"objects_{count}/{name}"]) for count in counts)
        scores[score] = json_estimates(window_ratio(weights, part, whole), whole.sum(-1))
    return scores
