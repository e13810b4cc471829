"""Numbers of a target: each arm's value, plausibility and diversity, differences from the baselines, and what
the agent does in the real game where a recorded moment matches.

Intervals resample starts; a start with its optimised latent, and the best of its own share of the candidates,
is one observation. There is no interval over fewer than `common.stats.FEWEST_CLUSTERS` levels of starts.
"""

import numpy as np

from analysis.targets.experiment import ARMS, BASELINES, NO_LEVEL
from analysis.targets.target_run import MATCHES
from common.stats import estimate, json_mean, json_number, level_counts

NEAR = 95.0
"""Percentile up to which a recorded moment counts as near: 95% of recorded moments are at least as near to
one of another level.
"""
Arrays = dict[str, np.ndarray]


def target_numbers(parts: dict[str, Arrays], real: np.ndarray | None) -> dict:
    """Numbers of one target.

    Args:
        parts: of the target (`TargetRun.parts`).
        real: the function on the real frames of each recorded moment [M]; None where it has none there.
    """
    report, shown = parts["report"], parts["shown"]
    levels = parts["levels"]["start"]
    random = bool((levels == NO_LEVEL).any())
    clusters = np.arange(len(levels)) if random else levels
    arms = {arm: _arm(arm, report, shown, real, clusters) for arm in ARMS}
    for arm, values in parts["own"].items():
        arms[arm]["same_moments"] = _same_moments(values, report[f"{arm}.value"])
    gained = {
        arm: json_mean(report["optimised.score"] - report[f"{arm}.score"], clusters)
        for arm in ARMS
        if arm != "optimised"
    }
    return {
        "start_levels": None if random else [int(levels.min()), int(levels.max())],
        "arms": arms,
        "gain_over": gained,
        "candidates": {name: len(parts[name]["value"]) for name in BASELINES},
        "scale": json_number(parts["recorded"]["value"].std()),
        "real": None if real is None else _real_numbers(real),
        "curves": {name: rows.tolist() for name, rows in parts["curves"].items() if np.isfinite(rows).all()},
    }


def _arm(arm: str, report: Arrays, shown: Arrays, real: np.ndarray | None, clusters: np.ndarray) -> dict:
    means = {name: report[f"{arm}.{name}"] for name in ("value", "score", "ended", "percentile", "moved")}
    numbers = {name: json_mean(values, clusters) for name, values in means.items()}
    for kind in ("frame", "latent"):
        numbers[f"{kind}_diversity"] = pairwise_interval(report[f"{arm}.{kind}_distance"])
    matches = {kind: _match_numbers(arm, kind, shown, real, clusters) for kind in MATCHES}
    return numbers | {"latents": _latents(arm, report, shown, real), "matches": matches}


def _latents(arm: str, report: Arrays, shown: Arrays, real: np.ndarray | None) -> list[dict]:
    """Each latent of an arm: value, percentile, and its matches with what the function is there."""
    rows = []
    for i in range(len(report[f"{arm}.value"])):
        row = {name: json_number(report[f"{arm}.{name}"][i]) for name in ("value", "percentile", "ended")}
        for kind in MATCHES:
            moment = int(shown[f"{arm}.{kind}.moment"][i])
            percentile = float(shown[f"{arm}.{kind}.percentile"][i])
            row[kind] = {
                "moment": moment,
                "percentile": percentile,
                "near": percentile <= NEAR,
                "real_value": None if real is None else json_number(real[moment]),
                "simulated_value": json_number(shown[f"{arm}.value"][i]),
            }
        rows.append(row)
    return rows


def _match_numbers(arm: str, kind: str, shown: Arrays, real: np.ndarray | None, clusters: np.ndarray) -> dict:
    """How many latents have a moment near enough, and the function there, simulated and real."""
    percentile = shown[f"{arm}.{kind}.percentile"]
    near = percentile <= NEAR
    numbers = {"near": int(near.sum()), "n": len(near), "median_percentile": float(np.median(percentile))}
    if real is None:
        return numbers
    at = real[shown[f"{arm}.{kind}.moment"]]
    both = near & np.isfinite(at)
    return numbers | {
        "real_value": json_mean(at[both], clusters[both]),
        "simulated_value": json_mean(shown[f"{arm}.value"][both], clusters[both]),
    }


def _same_moments(real: np.ndarray, simulated: np.ndarray) -> dict:
    """The function on the real frames of recorded moments, and in rollouts from their latents."""
    known = np.isfinite(real)
    each = np.arange(len(real))[known]
    return {
        "real_value": json_mean(real[known], each),
        "simulated_value": json_mean(simulated[known], each),
    }


def _real_numbers(real: np.ndarray) -> dict:
    """The function over all recorded moments: what a match is compared with."""
    known = real[np.isfinite(real)]
    quantiles = np.quantile(known, [0.05, 0.5, 0.95]) if len(known) else []
    mean = float(known.mean()) if len(known) else None
    return {"mean": mean, "quantiles": [float(x) for x in quantiles], "n": len(known)}


def pairwise_interval(distances: np.ndarray) -> dict | None:
    """Mean of the distances [N, N] between different latents, with its interval over latents where there are
    enough; None for fewer than two.
    """
    count = len(distances)
    if count < 2:
        return None
    weights = level_counts(count)
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)  # a latent drawn twice is not paired with itself
    total = np.einsum("ri,ij,rj->r", weights, distances.astype(np.float64), weights, optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, low, high = estimate(np.where(pairs > 0, total / pairs, np.nan), count)
    return {"mean": value, "low": json_number(low), "high": json_number(high), "n": count}
