"""The memory horizon of one or several agents, a row each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.plotting.style import GROUPS, NULL, ON_DATA, add_caption, new_figure, save_figure

GROUND = {"color": GROUPS[0], "marker": "o"}
AIR = {"color": GROUPS[1], "marker": "s"}
NATS = (0, 0.001, 0.01, 0.1, 1)
OFFSET = 0.12
"""Between the marks of two lines at one place, so that their intervals do not hide each other."""


def draw(found: dict[str, dict], path: Path) -> Path:
    """A row for each agent, by name: the summaries of analysis.memory_precompute."""
    figure, axes = new_figure(len(found), 4, panel=(3.1, 2.55))
    for row, (name, summary) in zip(axes, found.items()):
        _policy(row[0], summary)
        _value(row[1], summary)
        _levels(row[2], summary)
        _counterfactual_history(row[3], summary)
        row[0].set_title(f"policy, {name}" if len(found) > 1 else "policy")
    for axis, title in zip(axes[0, 1:], ("value", "levels solved", "one frame, two histories")):
        axis.set_title(title)
    add_caption(figure, _caption(found), *_counts(found))
    return save_figure(figure, path)[0]


def _policy(axis, summary: dict) -> None:
    """KL by number of last frames; in a game that blinks, at shown and at black frames."""
    for place, (label, group, style) in enumerate(_lines(summary)):
        if summary["late_steps"][group]["kl"]:
            _with_whole(
                axis,
                [starts[0] for starts in summary["late_steps"][group]["kl"]],
                place,
                summary,
                label=label,
                **style,
            )
    other = [starts[1] for starts in summary["late_steps"]["all"]["kl"]]
    _with_whole(axis, other, 2, summary, label="after another episode's state", marker="", **NULL)
    _frames(axis, summary)
    _nats(axis, "KL of the policy (nats)")
    axis.legend(loc="upper right")


def _value(axis, summary: dict) -> None:
    for place, (_label, group, style) in enumerate(_lines(summary)):
        if summary["late_steps"][group]["value_change"]:
            _with_whole(
                axis,
                [starts[0] for starts in summary["late_steps"][group]["value_change"]],
                place,
                summary,
                **style,
            )
    _frames(axis, summary)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("value changes by (rewards)")


def _levels(axis, summary: dict) -> None:
    """Paired change of the share of solved levels, in points."""
    arms = summary["levels"]
    played = [k for k in summary["frames"] if str(k) in arms]
    axis.axhline(0, **NULL | {"linewidth": 1.0})
    _with_whole(
        axis, [[100 * x for x in arms[str(k)]["change"]] for k in played], 0, summary, played, **GROUND
    )
    other = [[100 * x for x in arms["other"]["change"]]]
    place = [summary["frames"].index(1) + 2 * OFFSET]
    _marks(
        axis,
        place,
        other,
        color=NULL["color"],
        marker="D",
        linestyle="",
        label="after another episode's state",
    )
    _frames(axis, summary)
    axis.set_ylabel("change (percentage points)")
    axis.legend(loc="lower right")


def _counterfactual_history(axis, summary: dict) -> None:
    history = summary["counterfactual_history"]
    other = history["all"]["kl"] and history["all"]["kl"][1]
    for label, style in (("ground", GROUND), ("air", AIR)):
        bins = [one for one in history[label]["by_difference"] if one["kl"]]
        if bins:
            _marks(
                axis,
                [one["difference"] for one in bins],
                [one["kl"][0] for one in bins],
                label=label,
                **style,
            )
    if other:
        axis.axhline(other[0], label="another's state", **NULL | {"linewidth": 1.2})
        axis.axhspan(*other[1:], color=NULL["color"], alpha=0.15, linewidth=0)
    axis.set_xlabel("difference of velocity (tiles per step)")
    _nats(axis, "KL of the policy (nats)")
    axis.legend(loc="lower right", **ON_DATA)


def _lines(summary: dict) -> list[tuple[str, str, dict]]:
    """Label, group and style of a row's lines."""
    if summary["env"]["blink"]:
        return [
            ("shown frames", "shown", GROUND),
            ("black frames", "black", {"color": "#1a1a1a", "marker": "s"}),
        ]
    return [("ground", "ground", GROUND), ("air", "air", AIR)]


def _with_whole(
    axis, numbers: list, place: int, summary: dict, frames: Sequence[int] | None = None, **style
) -> None:
    """Numbers by the last frames (all of the summary's, or those given), and 0 for every frame, which changes
    nothing by definition.
    """
    at = [i for i, k in enumerate(summary["frames"]) if frames is None or k in frames]
    _marks(
        axis, np.array([*at, len(summary["frames"])]) + OFFSET * (place - 0.5), [*numbers, (0, 0, 0)], **style
    )


def _marks(axis, at, numbers: list, **style) -> None:
    """(value, low, high) at each place, joined."""
    value, low, high = np.array(numbers, float).T
    marks = {"markersize": 3.5, "linewidth": 1.3} | style
    axis.errorbar(
        at, value, yerr=np.clip([value - low, high - value], 0, None), elinewidth=0.9, capsize=0, **marks
    )


def _frames(axis, summary: dict) -> None:
    axis.set_xticks(range(len(summary["frames"]) + 1), [*map(str, summary["frames"]), "all"])
    axis.set_xlabel("last frames remembered")


def _nats(axis, label: str) -> None:
    axis.set_yscale("symlog", linthresh=NATS[1], linscale=0.5)
    axis.set_yticks(NATS, [f"{x:g}" for x in NATS])
    axis.minorticks_off()
    axis.set_ylim(-0.0001, 3)
    axis.set_ylabel(label)


def _caption(found: dict) -> str:
    late = next(iter(found.values()))["late"]
    text = "What an agent does otherwise that remembers its last k frames only. "
    text += f"Policy and value: stored steps with {late} frames before them. "
    text += "Levels: paired change, same levels and noise. Grey: the frames come after the state of another episode at the same time. "
    text += (
        "Right: the same frame, bit for bit, reached with another velocity. Bars are 95% intervals by level."
    )
    return text


def _counts(found: dict) -> tuple[str, str]:
    counts = []
    ranges = []
    for name, one in found.items():
        steps = one["late_steps"]["all"]["n"]
        levels = one["levels"]["all"]["levels"]
        points = one["counterfactual_history"]["all"]["n"]
        counts.append(
            f"{steps:,} steps, {levels} levels, {points} fork points"
            + (f" ({name})" if len(found) > 1 else "")
        )
        ranges += [one["level_range"][part] for part in ("steps", "levels_all")]
    return "; ".join(counts), f"{min(low for low, _ in ranges)}-{max(high for _, high in ranges)}"
