"""The numbers of the memory analysis: means with intervals by level, from the arrays that
analysis.memory_precompute wrote.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from agents.evaluate import OUTCOMES
from analysis.memory.counterfactual_pairs import HISTORIES
from analysis.memory.truncated_history import (
    FRAMES,
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
FULL_HISTORY_STEP = max(FRAMES)
"""Steps that as many frames came before: there every number of last frames leaves something out."""
VELOCITY_BIN_EDGES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, np.inf)
"""Tiles per step: bins of the difference of two velocities."""


def policy_variants(frames: Sequence[int]) -> tuple[str, ...]:
    """Who plays the levels: the whole agent, those that remember so many last frames, and the one with
    another episode's state.
    """
    return "all", *map(str, frames), "other"


def summarize(
    found: dict[str, dict[str, np.ndarray]], concepts: dict[str, np.ndarray], reward_scale: float
) -> dict:
    """JSON-able. found: the parts of a run. concepts: of the whole store. Values are in the game's rewards.

    steps and late_steps: by kind of step, means by number of last frames and start; black_frames: of frames
    that show nothing, those whose last k frames are all black beside the others. levels: by arm. counterfactual_history: by
    support.
    """
    steps = found["steps"]
    groups = step_groups({name: column[steps["row"]] for name, column in concepts.items()}, steps["black"])
    late = steps["t"] >= FULL_HISTORY_STEP
    summary = {
        "starts": list(INITIAL_STATES),
        "late": FULL_HISTORY_STEP,
        "steps": {name: mean_changes(steps, chosen, reward_scale) for name, chosen in groups.items()},
        "late_steps": {
            name: mean_changes(steps, chosen & late, reward_scale) for name, chosen in groups.items()
        },
        "black_frames": black_frames(steps),
        "levels": level_outcomes(found),
        "counterfactual_history": counterfactual_history(found["counterfactual_history"], reward_scale),
        "level_range": {
            name: [int(found[name]["level"].min()), int(found[name]["level"].max())]
            for name in ("steps", "levels_all")
        },
        "largest_change_from_1_frame_on": {
            name: float(np.abs(steps[name][:, 1:]).max()) for name in MEASURES
        },
    }
    return summary | {"lines": summary_sentences(summary)}


def black_frames(steps: dict[str, np.ndarray]) -> dict:
    """KL at black frames by number of last frames from 1 on, apart for windows that are wholly black and
    windows that show something.
    """
    found = {}
    for i, k in enumerate(FRAMES[1:], 1):
        inside = steps["black"] >= k
        for name, chosen in (("nothing shown", inside), ("something shown", (steps["black"] > 0) & ~inside)):
            level = steps["level"][chosen]
            enough = len(np.unique(level)) >= 2
            kl = (
                estimates(mean_by_level(steps["kl"][chosen, i, 0].astype(np.float64), level))
                if enough
                else None
            )
            found.setdefault(name, []).append({"frames": k, "steps": len(level), "kl": kl})
    return found


def level_outcomes(found: dict[str, dict[str, np.ndarray]]) -> dict:
    """By arm: how many levels are solved, the change against the whole agent, how many end otherwise, and how
    long it takes.
    """
    whole = found["levels_all"]
    solved = whole["outcome"] == OUTCOMES.index("solved")
    changes = {}
    for part in (part for part in found if part.startswith("levels_")):
        own = found[part]
        one = paired_solve_rate(own["level"], own["outcome"] == OUTCOMES.index("solved"), solved)
        one |= {
            outcome: float((own["outcome"] == i).mean())
            for i, outcome in enumerate(OUTCOMES)
            if outcome != "solved"
        }
        same = {column: own[column] == whole[column] for column in ("length", "outcome")}
        one |= {
            "length": float(own["length"].mean()),
            "as the whole agent": float((same["length"] & same["outcome"]).mean()),
        }
        changes[part.removeprefix("levels_")] = one
    return changes


def counterfactual_history(found: dict[str, np.ndarray], reward_scale: float) -> dict:
    """Of the fork points with two histories and one frame: changes by HISTORIES, KL by the velocity as a share of that by
    another episode's state, and the changes by how far the velocities differ.
    """
    apart = np.linalg.norm(found["velocity"] - found["own_velocity"], axis=1)
    groups = {
        "all": found["same"],
        "ground": found["same"] & found["support"],
        "air": found["same"] & ~found["support"],
    }
    summary = {"fork_points": len(found["same"]), "histories": list(HISTORIES)}
    for name, chosen in groups.items():
        summary[name] = mean_changes(found, chosen, reward_scale) | {
            "share_of_other": relative_kl(found, chosen),
            "by_difference": [],
        }
        for low, high in itertools.pairwise(VELOCITY_BIN_EDGES):
            here = chosen & (apart >= low) & (apart < high)
            difference = float(apart[here].mean()) if here.any() else None
            summary[name]["by_difference"].append(
                mean_changes(found, here, reward_scale) | {"difference": difference}
            )
    return summary


def relative_kl(found: dict[str, np.ndarray], chosen: np.ndarray) -> list[float] | None:
    """Mean KL by another velocity over mean KL by another episode's state; None where the latter does
    nothing.
    """
    kl = found["kl"][chosen].astype(np.float64)
    if len(kl) < 2 or not kl[:, 1].any():
        return None
    draws = mean_by_level(kl, found["level"][chosen])
    return estimates(draws[:, 0] / draws[:, 1])


def summary_sentences(summary: dict) -> list[str]:
    """What the numbers say, a sentence each."""
    late = summary["late_steps"]
    said = []
    for name in ("all", "ground", "air", "black"):
        if late[name]["kl"]:
            kl = ", ".join(f"{k}: {Estimate(*late[name]['kl'][i][0])}" for i, k in enumerate(FRAMES))
            said.append(f"KL in nats by last frames, {name} steps (n = {late[name]['n']}): {kl}")
    for name, one in summary["levels"].items():
        said.append(
            f"share of levels solved, {name}: {Estimate(*one['solved'])}; change {Estimate(*one['change'])}"
        )
    here = summary["counterfactual_history"]
    if here["all"]["kl"]:
        velocity, other = (Estimate(*here["all"]["kl"][i]) for i in range(2))
        said.append(
            f"same frame, other velocity (n = {here['all']['n']}): KL {velocity}; another episode's state {other}"
        )
    return said
