"""Forest plot of registered hypotheses: effects in game and simulator, nulls, dose-response, and verdicts."""

from pathlib import Path

import numpy as np

from analysis.plotting.style import NULL, REAL, SIMULATED, add_caption, new_figure, save_figure
from common.words import counted

WORLDS = {"real": ("game", REAL, "o", 0.16), "simulator": ("simulator", SIMULATED, "s", -0.16)}
ARROWS = {"rise": "should rise", "fall": "should fall"}


def draw(numbers: dict, path: Path) -> Path:
    """One row for each hypothesis: effects over nulls, effects by strength, and verdicts."""
    hypotheses = numbers["hypotheses"]
    count = len(hypotheses)
    figure, axes = new_figure(count, 3, panel=(3.4, 1.25), width_ratios=(2.2, 0.8, 1.1), sharex="col")
    for hypothesis, row in zip(hypotheses, axes):
        _effects(row[0], hypothesis, numbers)
        _doses(row[1], hypothesis)
        _verdicts(row[2], hypothesis)
    axes[0, 0].set_title("change under the edit")
    axes[0, 1].set_title("by strength")
    axes[0, 2].set_title("verdict")
    axes[-1, 0].set_xlabel("percentage points")
    axes[-1, 1].set_xlabel("strength")
    add_caption(figure, _text(numbers), _n(numbers), "{}-{}".format(*numbers["levels"]))
    return save_figure(figure, path)[0]


def _text(numbers: dict) -> str:
    shared = numbers["shared"]
    kl_matched = numbers["worlds"]["real"]["nulls"]["KL-matched"]["effects"]["jump"]
    return (
        "Left: change of the event within the horizon in the game (solid blue) and in the simulator (dashed "
        "orange), 95% intervals by layout over all fork points; open "
        f"markers: at the {shared['null_points']} fork points where {len(kl_matched)} KL-matched null edits "
        "were played, whose effects in the same world are the grey violins; dotted: smallest effect of "
        "interest. Middle: at those fork points, by strength. Right: verdict with its p-value, corrected for "
        "the family; * more than 5% of states are unlike real ones: descriptive only."
    )


def _n(numbers: dict) -> str:
    return f"{counted(numbers['fork_points'], 'fork point')} on {counted(numbers['layouts'], 'layout')}"


def _effects(axis, hypothesis: dict, numbers: dict) -> None:
    event = hypothesis["event"]
    axis.axvline(0, **NULL | {"linewidth": 0.8})
    sign = 1 if hypothesis["change"] == "rise" else -1
    axis.axvline(100 * sign * hypothesis["smallest_effect"], color="#444444", linestyle=":", linewidth=1)
    for world, found in hypothesis["worlds"].items():
        _, style, marker, y = WORLDS[world]
        nulls = 100 * np.array(numbers["worlds"][world]["nulls"]["KL-matched"]["effects"][event])
        if len(np.unique(nulls)) > 1:
            (body,) = axis.violinplot(nulls, [y], orientation="horizontal", widths=0.3, showextrema=False)[
                "bodies"
            ]
            body.set(facecolor=NULL["color"], alpha=0.35, edgecolor="none")
        value, low, high = (100 * x for x in found["effects"][event])
        axis.plot([low, high], [y, y], **style)
        axis.plot([value], [y], marker, color=style["color"], markersize=5)
        axis.plot([100 * found["at_null_points"][0]], [y], marker, color=style["color"], mfc="white",
                  markersize=5, zorder=1.9)  # fmt: skip
    axis.set_ylim(-0.5, 0.5)
    down = "\N{MINUS SIGN}" if any(x < 0 for x in hypothesis["edit"].get("values", ())) else ""
    name = down + ", ".join(hypothesis["touched"])
    axis.set_yticks([0], [f"{name}: {event}\n{ARROWS[hypothesis['change']]}"])
    axis.grid(axis="y", visible=False)


def _doses(axis, hypothesis: dict) -> None:
    axis.axhline(0, **NULL | {"linewidth": 0.8})
    for world, found in hypothesis["worlds"].items():
        _, style, marker, shift = WORLDS[world]
        x, y, low, high = np.array(found["doses"]).T
        axis.errorbar(
            x + shift / 4, 100 * y, 100 * np.stack([y - low, high - y]), marker=marker, markersize=3,
            elinewidth=0.8, **style | {"linewidth": 1.2},
        )  # fmt: skip
    axis.locator_params(axis="y", nbins=3)


def _verdicts(axis, hypothesis: dict) -> None:
    axis.axis("off")
    for world, found in hypothesis["worlds"].items():
        label, style, _, y = WORLDS[world]
        p = "no null" if found["p_holm"] is None else f"p = {found['p_holm']:.2g}"
        mark = "*" if found["manifold"]["descriptive_only"] else ""
        axis.text(
            0, 0.5 + 1.4 * y, f"{label}: {found['verdict']}{mark} ({p})", color=style["color"], fontsize=8,
            va="center", transform=axis.transAxes,
        )  # fmt: skip
