"""Figure of the memory horizon of one or several agents, one row each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.plotting.style import GROUPS, NULL, ON_DATA, add_caption, new_figure, save_figure

GROUND = {"color": GROUPS[0], "marker": "o"}
AIR = {"color": GROUPS[1], "marker": "s"}
BLACK_FRAMES = {"color": "#1a1a1a", "marker": "s"}
KL_TICKS = (0, 0.001, 0.01, 0.1, 1)
OFFSET = 0.12
"""Horizontal shift between lines, so that their intervals do not overlap."""


def draw(agents: dict[str, dict], path: Path) -> Path:
    """Policy, value, levels solved and counterfactual histories. agents: by name, `summarize` of each."""
    figure, axes = new_figure(len(agents), 4, panel=(3.1, 2.55))
    for row, (name, summary) in zip(axes, agents.items()):
        _policy(row[0], summary)
        _value(row[1], summary)
        _levels(row[2], summary)
        _counterfactual_history(row[3], summary)
        row[0].set_title(f"policy, {name}" if len(agents) > 1 else "policy")
    for axis, title in zip(axes[0, 1:], ("value", "levels solved", "one frame, two histories")):
        axis.set_title(title)
    add_caption(figure, _caption(agents), *_counts(agents))
    return save_figure(figure, path)[0]


def _policy(axis, summary: dict) -> None:
    """KL by context length."""
    _measure_by_group(axis, summary, "kl", with_labels=True)
    after_other = [by_start[1] for by_start in summary["late_steps"]["all"]["kl"]]
    _line_to_full(axis, after_other, 2, summary, label="after another episode", marker="", **NULL)
    _context_axis(axis, summary)
    _kl_axis(axis)
    axis.legend(loc="upper right")


def _value(axis, summary: dict) -> None:
    """Change of the value by context length."""
    _measure_by_group(axis, summary, "value_change", with_labels=False)
    _context_axis(axis, summary)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("change of the value (rewards)")


def _measure_by_group(axis, summary: dict, measure: str, with_labels: bool) -> None:
    """One line for each group of steps, contexts starting from the initial state."""
    for place, (label, group, style) in enumerate(_groups(summary)):
        changes = summary["late_steps"][group][measure]
        if changes:
            style = style | {"label": label} if with_labels else style
            _line_to_full(axis, [by_start[0] for by_start in changes], place, summary, **style)


def _levels(axis, summary: dict) -> None:
    """Paired change of the share of levels solved, in percentage points."""
    variants = summary["levels"]
    played = [k for k in summary["frames"] if str(k) in variants]
    axis.axhline(0, **NULL | {"linewidth": 1.0})
    changes = [[100 * x for x in variants[str(k)]["change"]] for k in played]
    _line_to_full(axis, changes, 0, summary, played, **GROUND)
    after_other = [[100 * x for x in variants["other"]["change"]]]
    position = [summary["frames"].index(1) + 2 * OFFSET]
    style = {"color": NULL["color"], "marker": "D", "linestyle": "", "label": "after another episode"}
    _errorbars(axis, position, after_other, **style)
    _context_axis(axis, summary)
    axis.set_ylabel("change (percentage points)")
    axis.legend(loc="lower right")


def _counterfactual_history(axis, summary: dict) -> None:
    """KL by the distance between the two velocities."""
    history = summary["counterfactual_history"]
    for label, style in (("ground", GROUND), ("air", AIR)):
        bins = [one for one in history[label]["by_difference"] if one["kl"]]
        if bins:
            distances = [one["difference"] for one in bins]
            _errorbars(axis, distances, [one["kl"][0] for one in bins], label=label, **style)
    other = history["all"]["kl"] and history["all"]["kl"][1]
    if other:
        axis.axhline(other[0], label="another episode's state", **NULL | {"linewidth": 1.2})
        axis.axhspan(*other[1:], color=NULL["color"], alpha=0.15, linewidth=0)
    axis.set_xlabel("difference of velocity (tiles per step)")
    _kl_axis(axis)
    axis.legend(loc="lower right", **ON_DATA)


def _groups(summary: dict) -> list[tuple[str, str, dict]]:
    """Label, group of steps and style of a row's lines: shown and black frames in a game that blinks."""
    if summary["env"]["blink"]:
        return [("shown frames", "shown", GROUND), ("black frames", "black", BLACK_FRAMES)]
    return [("ground", "ground", GROUND), ("air", "air", AIR)]


def _line_to_full(
    axis, estimates: list, place: int, summary: dict, frames: Sequence[int] | None = None, **style
) -> None:
    """Estimates by context length, and 0 at the full history, which changes nothing by definition.

    Args:
        axis: to draw on.
        estimates: (value, low, high) for each context length.
        place: number of the line, which shifts it.
        summary: of the agent.
        frames: context lengths; all of the summary's by default.
        style: of the line.
    """
    positions = [i for i, k in enumerate(summary["frames"]) if frames is None or k in frames]
    x = np.array([*positions, len(summary["frames"])]) + OFFSET * (place - 0.5)
    _errorbars(axis, x, [*estimates, (0, 0, 0)], **style)


def _errorbars(axis, x, estimates: list, **style) -> None:
    """(value, low, high) at each x, joined by a line."""
    value, low, high = np.array(estimates, float).T
    error = np.clip([value - low, high - value], 0, None)
    style = {"markersize": 3.5, "linewidth": 1.3} | style
    axis.errorbar(x, value, yerr=error, elinewidth=0.9, capsize=0, **style)


def _context_axis(axis, summary: dict) -> None:
    axis.set_xticks(range(len(summary["frames"]) + 1), [*map(str, summary["frames"]), "all"])
    axis.set_xlabel("frames remembered")


def _kl_axis(axis) -> None:
    axis.set_yscale("symlog", linthresh=KL_TICKS[1], linscale=0.5)
    axis.set_yticks(KL_TICKS, [f"{x:g}" for x in KL_TICKS])
    axis.minorticks_off()
    axis.set_ylim(-0.0001, 3)
    axis.set_ylabel("KL of the policy (nats)")


def _caption(agents: dict[str, dict]) -> str:
    late = next(iter(agents.values()))["late"]
    return (
        "The agent with a memory of its last k frames only, compared with the unchanged agent. "
        f"Policy and value: stored steps with {late} frames before them. Levels: paired change, same levels "
        "and noise. Grey: the last frames follow the state of another episode at the same time. Right: the "
        "same frame, bit for bit, reached with another velocity. Bars are 95% intervals by level."
    )


def _counts(agents: dict[str, dict]) -> tuple[str, str]:
    """Sample sizes, and the range of levels."""
    counts = []
    ranges = []
    for name, summary in agents.items():
        steps = summary["late_steps"]["all"]["n"]
        levels = summary["levels"]["all"]["levels"]
        points = summary["counterfactual_history"]["all"]["n"]
        suffix = f" ({name})" if len(agents) > 1 else ""
        counts.append(f"{steps:,} steps, {levels} levels, {points} fork points{suffix}")
        ranges += [summary["level_range"][part] for part in ("steps", "levels_all")]
    return "; ".join(counts), f"{min(low for low, _ in ranges)}-{max(high for _, high in ranges)}"
