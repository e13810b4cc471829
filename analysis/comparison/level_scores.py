"""Levels solved by a Decision Transformer, a clone and their agent, from reports of evaluate_dt.py."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from agents.evaluate import OUTCOMES
from analysis.plotting.style import ABOVE, GROUPS, NULL, PUBLISHED, add_caption, new_figure, save_figure
from decision.calibration import difference
from decision.scores import without_episodes

GENERALIZATION_GAP = {"train": 0.94, "test": 0.79}
"""Share of CoinRun's levels that a published Decision Transformer solves, trained on 1M steps of an expert
that solves 96% (one replication's log of the benchmark of Mediratta et al., ICLR 2024; three seeds).
"""
MARGIN = 0.05
"""Difference in levels solved that counts as no difference."""


def level_scores(report: Mapping) -> dict:
    """Numbers of a report without its single episodes; each policy's share of levels solved less the agent's,
    on the same levels with the same noise, with its interval by level.
    """
    numbers = without_episodes(report)
    solved = {
        name: np.array(row["per_episode"]["outcome"]) == OUTCOMES.index("solved")
        for name, row in report["rows"].items()
    }
    for name, row in numbers["rows"].items():
        if name != "agent":
            levels = np.array(report["rows"][name]["per_episode"]["level"])
            paired = difference(solved[name], solved["agent"], levels)
            row["solved_minus_agent"] = list(paired)
            row["within_margin"] = bool(max(-paired.low, paired.high) < MARGIN)
    asked = {key: report["asked"][key] for key in ("levels", "behaviour", "start_level", "seed")}
    return {"asked": asked, "inputs": report["manifest"]["inputs"]} | numbers


def draw_levels(scores: Mapping[str, dict], path: Path) -> Path:
    """Left: share of levels solved. Right: the same less the agent's, paired. A row per policy.

    Args:
        scores: {set of levels: `level_scores`}; the first has all policies.
        path: of the picture.
    """
    names = list(next(iter(scores.values()))["rows"])
    figure, axes = new_figure(1, 2, panel=(4.4, 1.3 + 0.42 * len(names)), sharey=True)
    left, right = axes[0]
    for i, (label, numbers) in enumerate(scores.items()):
        shift = 0.2 * (i - (len(scores) - 1) / 2)
        rows = [
            (place + shift, numbers["rows"][name])
            for place, name in enumerate(names)
            if name in numbers["rows"]
        ]
        _bars(left, [(y, row["solved"]) for y, row in rows], GROUPS[i], label)
        paired = [(y, row["solved_minus_agent"]) for y, row in rows if "solved_minus_agent" in row]
        _bars(right, paired, GROUPS[i], label)
    for part, share in GENERALIZATION_GAP.items():
        style = "-" if part == "test" else ":"
        left.axvline(share, **PUBLISHED | {"linestyle": style}, label=f"published, {part} levels")
    right.axvspan(-MARGIN, MARGIN, color=NULL["color"], alpha=0.15, linewidth=0)
    right.axvline(0, **NULL | {"linewidth": 1.0})
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel("share of levels solved")
    right.set_xlabel("share solved less the agent's, same levels")
    left.legend(**ABOVE | {"fontsize": 7})
    text = (
        "Bars: 95%, by level. Grey: within 5 points. Published: a Decision Transformer trained on other data,"
        " whose expert solves 96%."
    )
    counts = ", ".join(
        f"{numbers['rows'][names[0]]['levels']:,} ({label})" for label, numbers in scores.items()
    )
    ranges = " and ".join(f"{low}-{high}" for low, high in (numbers["range"] for numbers in scores.values()))
    add_caption(figure, text, f"{counts} levels, one episode each", ranges)
    return save_figure(figure, path)[0]


def _bars(axis, rows: list[tuple[float, list[float]]], color: str, label: str) -> None:
    """Points at [value, low, high] of each row; too few levels give no interval, and so no bar."""
    value, low, high = np.array([interval for _, interval in rows], float).T
    spread = np.abs(np.stack([value - low, high - value]))
    places = [y for y, _ in rows]
    axis.errorbar(value, places, xerr=spread, fmt="o", markersize=4, color=color, elinewidth=1.2, label=label)
