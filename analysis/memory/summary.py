"""Numbers of the memory analysis: means with 95% intervals by level, from the arrays of a precompute run."""

import itertools
from collections.abc import Sequence

import numpy as np

from agents.evaluate import OUTCOMES
from analysis.io.shared_args import CONTEXT_FRAMES
from analysis.memory.counterfactual_pairs import HISTORIES
from analysis.memory.truncated_history import (
    INITIAL_STATES,
    MEASURES,
    mean_changes,
    paired_solve_rate,
    step_groups,
)
from common.stats import Estimate, estimates, mean_by_level

STEP = "memory"
VERSION = 1
COMMAND = "python -m analysis.memory_precompute --help"
FULL_HISTORY_STEP = max(CONTEXT_FRAMES)
"""From this step of an episode on, every context length leaves something out."""
VELOCITY_BIN_EDGES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, np.inf)
"""Bins of the distance between two velocities, in tiles per step."""
Arrays = dict[str, np.ndarray]


def policy_variants(frames: Sequence[int]) -> tuple[str, ...]:
    """Names of the policies that play the levels.

    The unchanged agent, one for each context length, and one that starts from another episode's state.
    """
    return "all", *map(str, frames), "other"


def summarize(parts: dict[str, Arrays], concepts: Arrays, reward_scale: float) -> dict:
    """The numbers of a run, as JSON; values in the game's rewards.

    Args:
        parts: arrays of the run, by part.
        concepts: concept columns of the whole store.
        reward_scale: rewards per unit of the agent's value.

    Returns:
        steps, late_steps: mean changes by group of steps, context length and starting state, on all steps and
            from FULL_HISTORY_STEP on.
        black_frames: see `black_frames`.
        levels: see `level_outcomes`.
        counterfactual_history: see `counterfactual_history`.
        level_range, largest_change_from_1_frame_on, lines: for captions, controls and the log.
    """
    steps = parts["steps"]
    groups = step_groups({name: column[steps["row"]] for name, column in concepts.items()}, steps["black"])
    late = steps["t"] >= FULL_HISTORY_STEP
    summary = {
        "starts": list(INITIAL_STATES),
        "late": FULL_HISTORY_STEP,
        "steps": {name: mean_changes(steps, group, reward_scale) for name, group in groups.items()},
        "late_steps": {
            name: mean_changes(steps, group & late, reward_scale) for name, group in groups.items()
        },
        "black_frames": black_frames(steps),
        "levels": level_outcomes(parts),
        "counterfactual_history": counterfactual_history(parts["counterfactual_history"], reward_scale),
        "level_range": {
            name: [int(parts[name]["level"].min()), int(parts[name]["level"].max())]
            for name in ("steps", "levels_all")
        },
        "largest_change_from_1_frame_on": {
            name: float(np.abs(steps[name][:, 1:]).max()) for name in MEASURES
        },
    }
    return summary | {"lines": summary_sentences(summary)}


def black_frames(steps: Arrays) -> dict:
    """KL at black frames by context length from 1 on, for all-black contexts and for others."""
    report = {"nothing shown": [], "something shown": []}
    for i, k in enumerate(CONTEXT_FRAMES[1:], 1):
        all_black = steps["black"] >= k
        groups = {"nothing shown": all_black, "something shown": (steps["black"] > 0) & ~all_black}
        for name, group in groups.items():
            level = steps["level"][group]
            kl = None
            if len(np.unique(level)) >= 2:
                kl = estimates(mean_by_level(steps["kl"][group, i, 0].astype(np.float64), level))
            report[name].append({"frames": k, "steps": len(level), "kl": kl})
    return report


def level_outcomes(parts: dict[str, Arrays]) -> dict[str, dict]:
    """By policy variant: share of levels solved, its change, other outcomes, episode length."""
    prefix = "levels_"
    reference = parts[f"{prefix}all"]
    return {
        part.removeprefix(prefix): _variant_outcomes(arrays, reference)
        for part, arrays in parts.items()
        if part.startswith(prefix)
    }


def _variant_outcomes(arrays: Arrays, reference: Arrays) -> dict:
    solved, reference_solved = (one["outcome"] == OUTCOMES.index("solved") for one in (arrays, reference))
    same = (arrays["length"] == reference["length"]) & (arrays["outcome"] == reference["outcome"])
    return {
        **paired_solve_rate(arrays["level"], solved, reference_solved),
        **{
            outcome: float((arrays["outcome"] == i).mean())
            for i, outcome in enumerate(OUTCOMES)
            if outcome != "solved"
        },
        "length": float(arrays["length"].mean()),
        "as the whole agent": float(same.mean()),
    }


def counterfactual_history(arrays: Arrays, reward_scale: float) -> dict:
    """Changes at fork points whose frame has another history, on the ground, in the air and overall.

    By HISTORIES; `share_of_other`, see `relative_kl`; and `by_difference`, binned by the distance between the
    two velocities.
    """
    distance = np.linalg.norm(arrays["velocity"] - arrays["own_velocity"], axis=1)
    same = arrays["same"]
    groups = {"all": same, "ground": same & arrays["support"], "air": same & ~arrays["support"]}
    summary = {"fork_points": len(same), "histories": list(HISTORIES)}
    for name, group in groups.items():
        summary[name] = mean_changes(arrays, group, reward_scale) | {
            "share_of_other": relative_kl(arrays, group),
            "by_difference": _by_velocity_distance(arrays, group, distance, reward_scale),
        }
    return summary


def _by_velocity_distance(
    arrays: Arrays, group: np.ndarray, distance: np.ndarray, reward_scale: float
) -> list[dict]:
    bins = []
    for low, high in itertools.pairwise(VELOCITY_BIN_EDGES):
        in_bin = group & (distance >= low) & (distance < high)
        mean_distance = float(distance[in_bin].mean()) if in_bin.any() else None
        bins.append(mean_changes(arrays, in_bin, reward_scale) | {"difference": mean_distance})
    return bins


def relative_kl(arrays: Arrays, selected: np.ndarray) -> list[float] | None:
    """Mean KL of another velocity as a share of that of another episode's state.

    None for fewer than two fork points, or if another episode's state changes nothing.
    """
    kl = arrays["kl"][selected].astype(np.float64)
    if len(kl) < 2 or not kl[:, 1].any():
        return None
    means = mean_by_level(kl, arrays["level"][selected])
    return estimates(means[:, 0] / means[:, 1])


def summary_sentences(summary: dict) -> list[str]:
    """The main numbers, one sentence each, for the log."""
    late = summary["late_steps"]
    sentences = []
    for name in ("all", "ground", "air", "black"):
        if late[name]["kl"]:
            kl = ", ".join(f"{k}: {Estimate(*late[name]['kl'][i][0])}" for i, k in enumerate(CONTEXT_FRAMES))
            sentences.append(f"KL in nats by last frames, {name} steps (n = {late[name]['n']}): {kl}")
    for name, variant in summary["levels"].items():
        solved, change = (Estimate(*variant[key]) for key in ("solved", "change"))
        sentences.append(f"share of levels solved, {name}: {solved}; change {change}")
    history = summary["counterfactual_history"]["all"]
    if history["kl"]:
        velocity, other = (Estimate(*history["kl"][i]) for i in range(2))
        words = f"same frame, other velocity (n = {history['n']}): KL {velocity}"
        sentences.append(f"{words}; another episode's state {other}")
    return sentences
