"""The report card's numbers, from the measures of its windows: each with its n and a 95% interval by level."""

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
window_ratio = partial(ratio, axis=-1)  # windows are the last axis of every array of a card
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
"""The steps over which whole frames are compared with the best of the floors."""
NUM_STEPS = 12
"""Claims about single windows stop at so many steps, and so does the report."""


def score_report(a: Arrays, levels: np.ndarray, seed: int = 0) -> dict:
    """Every score of one set of windows. a: measures of `score_batch`, windows last; levels [n]: the layout
    of each window.
    """
    weights = level_weights(levels, RESAMPLES, seed=seed)
    return {
        "windows": len(levels),
        "levels": len(np.unique(levels)),
        "alive": [{"value": float(alive.mean()), "n": int(alive.sum())} for alive in a["alive"]],
        "frames": frame_report(a, weights),
        "view": view_report(a, weights),
        "things": object_report(a, weights),
        "outcomes": outcome_report(a, weights),
        "new_places": new_places_report(a, weights, levels, seed),
    }


def frame_report(a: Arrays, weights: np.ndarray) -> dict:
    """PSNR in dB of whole frames and of seen pixels, by prediction and step, and the differences that have
    targets.
    """
    alive = a["alive"]
    n = a["alive"].sum(1)
    whole = {name: pooled_psnr(weights, a[f"error/{name}"], alive) for name in PREDICTIONS}
    shown = {name: pooled_psnr(weights, a[f"seen_error/{name}"], a["seen_pixels"]) for name in PREDICTIONS}
    late = {
        name: pooled_psnr(weights, *_sum_steps(a[f"error/{name}"], alive, LATE_STEPS))
        for name in ("open_loop", *BASELINES)
    }
    best = max(BASELINES, key=lambda name: late[name][0])
    after = slice(1, None)
    return {
        "whole": {name: json_estimates(x, n) for name, x in whole.items()},
        "seen": {name: json_estimates(x, n) for name, x in shown.items()},
        "seen_share": json_estimates(window_ratio(weights, a["seen_share"], alive), n),
        "posterior": json_estimate(
            pooled_psnr(weights, *_sum_steps(a["error/posterior"], alive, after)), alive[after].sum()
        ),
        "one_step_after_correction": json_estimate(
            pooled_psnr(weights, *_sum_steps(a["error/one_step"], alive, after)), alive[after].sum()
        ),
        "late": {name: json_estimate(x, alive[LATE_STEPS].sum()) for name, x in late.items()},
        "late_above_floor": {
            "floor": best,
            **json_estimate(psnr_difference(late["open_loop"], late[best]), alive[LATE_STEPS].sum()),
        },
        "seen_above_shifted_copy": json_estimates(
            psnr_difference(shown["open_loop"], shown["shifted_copy"]), n
        ),
        "dpsnr": json_estimates(psnr_difference(whole["open_loop"], whole["wrong_actions"]), n),
    }


def view_report(a: Arrays, weights: np.ndarray) -> dict:
    """The agent's view by prediction and step, on all steps and on decision steps; hidden states, value,
    encoder distance.
    """
    alive = a["alive"]
    n = a["alive"].sum(1)
    deciding = decision_steps(a["taken"], alive, a["hazard_near"])
    other = window_ratio(weights, a["encoder_distance/other_episode"], alive)
    value_mean = window_ratio(weights[:1], *_sum_steps(a["value"], alive, slice(None)))
    value_spread = float(
        np.sqrt(window_ratio(weights[:1], *_sum_steps((a["value"] - value_mean) ** 2, alive, slice(None))))[0]
    )
    return {"decision_steps": [int(x) for x in deciding.sum(1)], "value_standard_deviation": value_spread} | {
        name: {
            "total_variation": json_estimates(window_ratio(weights, a[f"tv/{name}"], alive), n),
            "total_variation_deciding": json_estimates(
                window_ratio(weights, a[f"tv/{name}"], deciding), deciding.sum(1)
            ),
            "kappa": json_estimates(_kappa(a, name, weights, alive), n),
            "kappa_deciding": json_estimates(_kappa(a, name, weights, deciding), deciding.sum(1)),
            "hidden_cosine": json_estimates(window_ratio(weights, a[f"cosine/{name}"], alive), n),
            "hidden_r2": json_estimates(
                explained_variance(weights, a[f"hidden_error/{name}"], a["hidden_spread"], alive), n
            ),
            "hidden_r2_whitened": json_estimates(
                explained_variance(weights, a[f"white_error/{name}"], a["white_spread"], alive), n
            ),
            "value_error": json_estimates(window_ratio(weights, a[f"value_error/{name}"], alive), n),
            "encoder_distance": json_estimates(
                window_ratio(weights, a[f"encoder_distance/{name}"], alive) / other, n
            ),
        }
        for name in AGENT_VIEWED
    }


def object_report(a: Arrays, weights: np.ndarray) -> dict:
    """Recall, precision and position error (tiles): of hazards by step, and of every kind over steps 1 on, by
    frames searched.
    """
    hazards = list(HAZARDS)
    after = slice(1, None)
    by_step = {
        name: _detection_scores(
            {
                m: a[f"things_{m}/{name}"][hazards].sum(0)
                for m in ("real", "hit", "distance", "found", "right")
            },
            weights,
        )
        for name in DETECTOR_SEARCHED
    }
    by_kind = {
        name: {
            kind: _detection_scores(
                {
                    m: a[f"things_{m}/{name}"][k, after].sum(0)[None]
                    for m in ("real", "hit", "distance", "found", "right")
                },
                weights,
            )
            for k, kind in enumerate(KINDS)
        }
        for name in DETECTOR_SEARCHED
    }
    return {"hazards": by_step, "kinds": by_kind}


def outcome_report(a: Arrays, weights: np.ndarray) -> dict:
    """Ranking of reward and end, coin against death given an end, and calibration of the end within WITHIN
    steps.
    """
    steps, windows = a["alive"].shape
    window = np.tile(np.arange(windows), steps)
    alive, done, coin = (a[name].ravel() for name in ("alive", "done", "coin"))
    out = {}
    for name in ("open_loop", "one_step"):
        done_prob = a[f"done_prob/{name}"].ravel()
        reward_prob = a[f"reward_prob/{name}"].ravel()
        ranked = {
            "done": (done_prob, done, alive),
            "reward": (reward_prob, coin, alive),
            "coin_given_end": (reward_prob, coin, alive & done),
        }
        out[name] = {
            what: {
                "happened": int(happened[counts].sum()),
                "base_rate": json_number(happened[counts].mean()) if counts.any() else None,
                **{
                    score: json_estimate(x, counts.sum())
                    for score, x in ranking_scores(weights, foretold, happened, counts, window).items()
                },
            }
            for what, (foretold, happened, counts) in ranked.items()
        }
    foretold = end_probability(a["done_prob/open_loop"][:DONE_HORIZON].astype(np.float64))
    found = calibration_scores(weights[: RANKING_RESAMPLES + 1], foretold, a["done"][:DONE_HORIZON].any(0))
    scores = {name: json_estimate(found[name], windows) for name in ("ece", "brier_skill")}
    return out | {"end_within": {"steps": DONE_HORIZON, "bins": found["bins"], **scores}}


def new_places_report(a: Arrays, weights: np.ndarray, levels: np.ndarray, seed: int) -> dict:
    """Things at places that were not shown before, per 100 square tiles: as simulated and as real, by the
    same detector.

    p: the share of sign flips of whole levels' differences that give one as large, two-sided.
    """
    area = a["new_tiles"][1:].sum(0)
    real, simulated = (a[f"things_new/{name}"][:, 1:].sum(1) for name in ("real", "open_loop"))  # [kinds, n]
    rate = {
        name: 100 * window_ratio(weights, x, area) for name, x in (("real", real), ("simulated", simulated))
    }
    p = sign_flip_test(simulated - real, levels, seed=seed)
    n = {name: int(x) for name, x in (("square_tiles", area.sum()),)}
    return n | {
        kind: {name: json_estimate(x[:, k], area.sum()) for name, x in rate.items()} | {"p": float(p[k])}
        for k, kind in enumerate(KINDS)
    }


def _sum_steps(total: np.ndarray, count: np.ndarray, steps: slice) -> tuple[np.ndarray, np.ndarray]:
    """Totals and counts [S, n] summed over some steps: [n] each."""
    return np.where(count > 0, total, 0)[steps].sum(0), count[steps].sum(0)


def _kappa(a: Arrays, name: str, weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return kappa(weights, a[f"agrees/{name}"], a["real_class"], counts, int(a["real_class"].max()) + 1)


def _detection_scores(counts: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, list[dict]]:
    """Recall, precision and position error by step, from counts [S, n]."""
    pairs = {
        "recall": ("hit", "real"),
        "precision": ("right", "found"),
        "position_error": ("distance", "hit"),
    }
    return {
        score: json_estimates(window_ratio(weights, counts[part], counts[whole]), counts[whole].sum(-1))
        for score, (part, whole) in pairs.items()
    }
