"""The oracle table: what the truth about each part of a simulator would gain, with intervals by layout."""

from collections.abc import Mapping

import numpy as np
import torch

from analysis.model_eval.frame_objects import Scenes
from analysis.model_eval.ground_truth import ground_truth
from analysis.model_eval.motion_error import error_statistics
from analysis.model_eval.pixel_kinds import pixel_scores
from analysis.model_eval.report_card_targets import STEP, Statistic
from analysis.oracles.oracle_rollouts import OracleWindows
from common.stats import json_estimate
from generative.simulator import Simulator
from interpret.psnr import pooled_psnr, psnr_difference
from rollouts.segment import Segment

COMBINATIONS = {
    "none": (),
    "start": ("start",),
    "motion": ("motion",),
    "tiles": ("tiles",),
    "pose": ("pose",),
    "start + motion": ("start", "motion"),
    "start + motion + tiles": ("start", "motion", "tiles"),
    "all": ("start", "motion", "tiles", "pose"),
}
"""Rows of the table: oracles by name; each alone, then one after the other."""
KINDS = ("in_view", "seen", "returned", "player")
"""Kinds of pixels that are scored at STEP."""
PLACE_STEPS = (1, 4, STEP)
"""Steps at which the place of the view is compared with the true one."""
MEASURES = (
    "first_frame",
    "one_step",
    *KINDS,
    *(f"place_{step}_{name}" for step in PLACE_STEPS for name in ("median", "large")),
)
"""Columns of the table: dB of the first frame, of one step, and of kinds of pixels at STEP; median error of
the view's place in pixels, and share of windows above 1 px.
"""
Arrays = Mapping[str, np.ndarray]


def score_oracles(
    simulator: Simulator, segment: Segment, scenes: Scenes, seed: int = 0
) -> dict[str, np.ndarray]:
    """Per-window scores of all COMBINATIONS, windows last.

    Args:
        simulator: the world model with its agent.
        segment: recorded windows [L, b] with labels.
        scenes: of the L * b frames.
        seed: of the noise.

    Returns:
        "alive" [S, b]; what `pixel_scores` returns, one prediction for each combination; "place/<name>"
        [S, b]: distance in pixels between the view and its true place.
    """
    truth = ground_truth(segment, scenes, simulator.model.config.num_initializing_steps)
    windows = OracleWindows(simulator, segment, seed)
    rollouts = {name: windows.roll(oracles) for name, oracles in COMBINATIONS.items()}
    scores = pixel_scores({name: rollout.frames.cpu().numpy() for name, rollout in rollouts.items()}, truth)
    scores["seen_pixels"] = truth.visible.sum((2, 3)) * truth.alive
    for name, rollout in rollouts.items():
        scores[f"place/{name}"] = torch.linalg.vector_norm(rollout.place_error, dim=-1).cpu().numpy()
    return scores | {"alive": truth.alive}


def oracle_rows(a: Arrays, weights: np.ndarray) -> list[dict]:
    """One row of JSON for each of COMBINATIONS: MEASURES with their intervals, and under `gain` their
    differences to no oracle, paired by window and resample.

    Args:
        a: from `score_oracles`.
        weights: bootstrap weights [1 + R, n].
    """
    found = {name: statistics(a, name, weights) for name in COMBINATIONS}
    none = found["none"]
    return [
        {"name": name, "oracles": list(oracles)}
        | {measure: json_estimate(*found[name][measure]) for measure in MEASURES}
        | {"gain": {measure: _gain(found[name][measure], none[measure]) for measure in MEASURES}}
        for name, oracles in COMBINATIONS.items()
    ]


def statistics(a: Arrays, name: str, weights: np.ndarray) -> dict[str, Statistic]:
    """MEASURES of one combination."""
    alive = a["alive"]
    found = {
        measure: Statistic(
            pooled_psnr(weights, a[f"error/{name}"][step], alive[step]), int(alive[step].sum())
        )
        for step, measure in enumerate(("first_frame", "one_step"))
    }
    for kind in KINDS:
        pixels = a[f"{kind}_pixels"][STEP]
        psnr = pooled_psnr(weights, a[f"{kind}_error/{name}"][STEP], pixels)
        found[kind] = Statistic(psnr, int((pixels > 0).sum()))
    for step in PLACE_STEPS:
        error = error_statistics(weights, a[f"place/{name}"][step], alive[step])
        for score in ("median", "large"):
            found[f"place_{step}_{score}"] = Statistic(error[score], int(alive[step].sum()))
    return found


def _gain(statistic: Statistic, none: Statistic) -> dict:
    return json_estimate(psnr_difference(statistic.values, none.values), statistic.n)


def table_text(rows: list[dict]) -> str:
    """The table for a terminal: dB and their gain over no oracle, and the place's error."""
    head = ["oracle", "first frame", "one step", *(f"{kind.replace('_', ' ')}, {STEP}" for kind in KINDS)]
    head += [f"place, {step}: px, > 1" for step in PLACE_STEPS]
    body = []
    for row in rows:
        cells = [row["name"]]
        for measure in ("first_frame", "one_step", *KINDS):
            gain = "" if row["name"] == "none" else f" ({_shown(row['gain'][measure], '+.1f')})"
            cells.append(_shown(row[measure], ".1f") + gain)
        for step in PLACE_STEPS:
            median, large = (
                _shown(row[f"place_{step}_{name}"], form)
                for name, form in (("median", ".2f"), ("large", ".0%"))
            )
            cells.append(f"{median}, {large}")
        body.append(cells)
    widths = [max(map(len, column)) for column in zip(head, *body)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in (head, *body)
    )


def _shown(estimate: dict, form: str) -> str:
    return "-" if estimate["value"] is None else format(estimate["value"], form)
