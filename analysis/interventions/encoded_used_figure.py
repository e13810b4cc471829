"""Figure of encoded against used: a panel for each outcome, a point for each direction and kind of object."""

from pathlib import Path

import numpy as np

from analysis.interventions.scene_effects import OUTCOMES
from analysis.plotting.style import GROUPS, NULL, add_caption, new_figure, save_figure
from common.words import counted
from interpret.interventions.manifold import MOST_BEYOND

COLORS = (*GROUPS, "#444444")
"""Of kinds of objects, in their order."""
WORDS = {
    "death": "probability of death", "coin": "probability of the coin", "jump": "share of jumps",
    "left": "share of steps to the left",
}  # fmt: skip
LABELLED = 3
"""Pairs of each panel that are named: encoded and used, or used, with the largest effects."""
_QUADRANTS = (
    ("used, not encoded", 0.02, 0.985, "left"),
    ("encoded and used", 0.98, 0.985, "right"),
)


def draw(numbers: dict, path: Path) -> Path:
    """Response to the object against effect of the push."""
    rows = [row for row in numbers["rows"] if row["effects"] is not None]
    kinds = list(numbers["scenes"])
    figure, axes = new_figure(2, 2, panel=(5.0, 3.7))
    for axis, outcome in zip(axes.flat, OUTCOMES):
        draw_panel(axis, rows, outcome, kinds, numbers["quadrants"][outcome])
    for axis in axes[:, 0]:
        axis.set_ylabel("change under the push (points)")
    handles = [
        axes[0, 0].plot([], [], "o", color=color, markersize=5, label=kind)[0]
        for kind, color in zip(kinds, COLORS)
    ]
    figure.legend(handles=handles, ncols=len(kinds), loc="outside upper center")
    levels = [one["levels"] for one in numbers["scenes"].values()]
    kl, steps = numbers["asked"]["kl"], numbers["asked"]["steps"]
    text = (
        "A point for each direction and kind of object. Across: how much the object, put into a scene, "
        "moves the direction's score, in its standard deviations. Up: what a push that way "
        f"({kl:g} nats in one step) changes within {steps} steps in scenes with the object. Filled: used, "
        "that is with an interval off zero and beyond 95% of null directions of the same size; large: "
        f"encoded; crosses: more than {MOST_BEYOND:.0%} of states unlike real ones, descriptive only. Grey: "
        "null directions. Intervals: 95%, by layout, of encoded or used pairs."
    )
    scenes = [one["scenes"] for one in numbers["scenes"].values()]
    directions = len({row["direction"] for row in numbers["rows"]})
    n = f"{counted(directions, 'direction')}, {min(scenes)}-{max(scenes)} scenes of each kind"
    add_caption(figure, text, n, f"{min(low for low, _ in levels)}-{max(high for _, high in levels)}")
    return save_figure(figure, path)[0]


def draw_panel(axis, rows: list[dict], outcome: str, kinds: list[str], counts: dict) -> None:
    """One outcome."""
    if rows:
        low, high = 100 * np.mean([row["effects"][outcome]["null"] for row in rows], 0)
        axis.axhspan(low, high, color=NULL["color"], alpha=0.18, linewidth=0)
    axis.axhline(0, **NULL | {"linewidth": 0.8})
    axis.axvline(0, **NULL | {"linewidth": 0.8})
    for row in rows:
        _point(axis, row, row["effects"][outcome], COLORS[kinds.index(row["kind"])])
    _name_largest(axis, rows, outcome)
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom, top + 0.12 * (top - bottom))
    for words, x, y, side in _QUADRANTS:
        count = counts["encoded and used" if side == "right" else "used"]
        axis.text(x, y, f"{words}: {count}", transform=axis.transAxes, ha=side, va="top", fontsize=8)
    text = f"encoded: {counts['encoded']}; neither: {counts['neither']}"
    axis.text(0.98, 0.015, text, transform=axis.transAxes, ha="right", va="bottom", fontsize=8)
    axis.set_title(WORDS[outcome], fontsize=9)
    axis.set_xlabel("response to the object (sd)")


def _point(axis, row: dict, found: dict, color: str) -> None:
    x, left, right = row["response"]
    y, low, high = (100 * value for value in found["effect"])
    off = row["beyond"] > MOST_BEYOND
    if (row["encoded"] or found["used"]) and not off:
        axis.plot([left, right], [y, y], color=color, linewidth=0.7, alpha=0.5)
        axis.plot([x, x], [low, high], color=color, linewidth=0.7, alpha=0.5)
    fill = color if found["used"] else "none"
    axis.plot(
        x, y, "x" if off else "o", color=color, markerfacecolor=fill, markeredgewidth=0.8,
        markersize=6 if row["encoded"] else 3.5, alpha=0.9, zorder=3,
    )  # fmt: skip


def _name_largest(axis, rows: list[dict], outcome: str) -> None:
    used = [row for row in rows if row["effects"][outcome]["used"] and row["beyond"] <= MOST_BEYOND]
    used.sort(key=lambda row: -abs(row["effects"][outcome]["effect"][0]))
    for row in used[:LABELLED]:
        place = (row["response"][0], 100 * row["effects"][outcome]["effect"][0])
        axis.annotate(
            f"{row['direction']}, {row['kind']}", place, textcoords="offset points", xytext=(5, 3), fontsize=7
        )
