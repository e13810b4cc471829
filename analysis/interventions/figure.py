"""Figure of an experiment: forest plot with nulls, dose-response, and distance from real states."""

from pathlib import Path

import numpy as np

from analysis.plotting.style import (
    GROUPS,
    NULL,
    ON_DATA,
    REAL,
    SIMULATED,
    add_caption,
    new_figure,
    save_figure,
)
from common.words import counted

WORLDS = {"real": ("real game", REAL, "o"), "simulator": ("simulator", SIMULATED, "s")}
SHOWN_NULLS = ("equal norm", "KL-matched", "fitted")
OUTCOMES = ("death", "coin")


def draw(numbers: dict, path: Path) -> Path:
    """Effects at full strength against nulls, effects by strength, and drift by step."""
    figure, axes = new_figure(1, 3, panel=(4.1, 3.2), width_ratios=(1.5, 1, 1))
    forest, dose, drift = axes[0]
    _forest(forest, numbers)
    _dose_response(dose, numbers)
    _drift(drift, numbers)
    worlds = numbers["worlds"]
    beyond = [WORLDS[name][0] for name in worlds if full(worlds[name])["manifold"]["descriptive_only"]]
    text = (
        "Left: change of the probability of death and coin within the horizon under the edit, 95% intervals "
        "by layout, and of null edits (grey: violin and 95% interval of each family). Middle: by strength. "
        "Right: distance of the hidden state from the control arm's; unrelated states are at 1."
    )
    if beyond:
        text += f" More than 5% of states are unlike real ones in {' and '.join(beyond)}: descriptive only."
    low, high = numbers["levels"]
    n = f"{counted(numbers['fork_points'], 'fork point')} on {counted(numbers['layouts'], 'layout')}"
    add_caption(figure, text, n, f"{low}-{high}")
    return save_figure(figure, path)[0]


def full(world: dict) -> dict:
    """The tested arm at full strength."""
    return next(one for one in world["strengths"] if one["strength"] == 1)


def _forest(axis, numbers: dict) -> None:
    rows = []
    for outcome in OUTCOMES:
        for name, world in numbers["worlds"].items():
            rows.append((f"{outcome}, {WORLDS[name][0]}", name, full(world)["effects"][outcome], None))
            for family in SHOWN_NULLS:
                null = world["nulls"].get(family)
                if null and null["effects"][outcome]:
                    rows.append((f"{family} nulls", name, None, (null, outcome)))
    axis.axvline(0, **NULL | {"linewidth": 1.0})
    for y, (_, name, effect, null) in enumerate(reversed(rows)):
        if null:
            _violin(axis, y, null[0]["effects"][null[1]], null[0]["tests"][null[1]])
        else:
            value, low, high = (100 * x for x in effect)
            _, style, marker = WORLDS[name]
            axis.plot([low, high], [y, y], color=style["color"], linestyle="-")
            axis.plot([value], [y], marker, color=style["color"])
    axis.set_yticks(range(len(rows)), [row[0] for row in reversed(rows)])
    axis.set_xlabel("change (percentage points)")
    axis.set_title("effect at full strength")


def _violin(axis, y: int, effects: list[float], test: dict) -> None:
    values = 100 * np.array(effects)
    if len(np.unique(values)) > 1:
        (body,) = axis.violinplot(values, [y], orientation="horizontal", widths=0.8, showextrema=False)[
            "bodies"
        ]
        body.set(facecolor=NULL["color"], alpha=0.35, edgecolor="none")
    axis.plot([100 * test["low"], 100 * test["high"]], [y, y], color=NULL["color"], linewidth=1.2)


def _dose_response(axis, numbers: dict) -> None:
    axis.axhline(0, **NULL | {"linewidth": 1.0})
    for i, (name, world) in enumerate(numbers["worlds"].items()):
        label, style, marker = WORLDS[name]
        x = np.array([one["strength"] for one in world["strengths"]])
        for outcome, fill in zip(OUTCOMES, ("full", "none")):
            effects = 100 * np.array([one["effects"][outcome] for one in world["strengths"]])
            axis.errorbar(
                x + 0.02 * i, effects[:, 0], np.abs(effects[:, 1:] - effects[:, :1]).T, marker=marker,
                fillstyle=fill, markersize=4, elinewidth=1, label=f"{outcome}, {label}", **style,
            )  # fmt: skip
    axis.set_xlabel("strength of the edit")
    axis.set_ylabel("change (percentage points)")
    axis.set_title("dose-response")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.5 * (high - low))
    axis.legend(loc="upper left", **ON_DATA)


def _drift(axis, numbers: dict) -> None:
    for name, world in numbers["worlds"].items():
        label, style, _ = WORLDS[name]
        for one in world["strengths"]:
            drift = [np.nan if x is None else x for x in one["manifold"]["drift"]]
            strong = one["strength"] == 1
            axis.plot(
                range(1, len(drift) + 1), drift, **style | {"linewidth": 1.8 if strong else 0.7},
                label=label if strong else None,
            )  # fmt: skip
    axis.axhline(1, color=GROUPS[4], linestyle=":", linewidth=1)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("step after the fork")
    axis.set_ylabel("distance from the control arm")
    axis.set_title("drift (bold: strength 1)")
    axis.legend(**ON_DATA)
