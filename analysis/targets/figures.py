"""Figure of a run: for each target its curve, the values and the plausibility of all arms, and the check in
the real game.
"""

from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from analysis.plotting.style import GROUPS, NULL, REAL, add_caption, new_figure, save_figure
from analysis.targets.experiment import ARMS, NO_LEVEL
from common.stats import FEWEST_CLUSTERS, NO_INTERVALS

OPTIMISED = {"color": GROUPS[5], "linestyle": "-"}
START = {"color": "#c9b37e", "linestyle": "-"}
STYLES = {"start": START, "optimised": OPTIMISED, "best_recorded": REAL, "best_random": NULL}
LABELS = {
    "start": "start",
    "optimised": "optimised",
    "best_recorded": "best recorded",
    "best_random": "best random",
}
MEAN = {"color": "#222222", "marker": "o", "markersize": 4}
WANTED = {"color": "#222222", "linewidth": 1.0, "linestyle": "--"}
NEAR_LINE = {"color": "#444444", "linewidth": 1.0, "linestyle": ":"}
EQUAL = {"color": "#444444", "linewidth": 0.8, "linestyle": "-."}
ALL_RECORDED = {"color": NULL["color"], "linewidth": 1.0, "linestyle": "-"}
PER_FIGURE = 4
_ARROWS = {"increase": " \N{UPWARDS ARROW}", "decrease": " \N{DOWNWARDS ARROW}"}


def draw_run(directory: Path, numbers: dict) -> list[Path]:
    """Writes targets_<n>.png, four targets each; returns the paths."""
    names = list(numbers["targets"])
    pages = [names[i : i + PER_FIGURE] for i in range(0, len(names), PER_FIGURE)]
    return [
        draw_targets(numbers, page, directory / f"targets_{number}.png") for number, page in enumerate(pages)
    ]


def level_words(levels: np.ndarray) -> str:
    """The range of levels that starts were taken from, for captions."""
    return "none (random latents)" if (levels == NO_LEVEL).any() else f"{levels.min():,}-{levels.max():,}"


def draw_targets(numbers: dict, names: list[str], path: Path) -> Path:
    """One row of panels per target."""
    figure, axes = new_figure(len(names), 4, panel=(3.3, 2.7))
    for row, name in zip(axes, names):
        target = numbers["targets"][name]
        _curve(row[0], name, target, numbers)
        _values(row[1], target)
        _plausibility(row[2], target, numbers["near_percentile"])
        _real_check(row[3], target)
    for axis, title in zip(axes[0], ("", "fresh noise", "plausibility", "real game")):
        if title:
            axis.set_title(title)
    shown = [numbers["targets"][name] for name in names]
    few = any(few_levels(target) for target in shown)
    figure.legend(handles=_legend(shown, numbers, few), loc="outside upper center", ncols=5, fontsize=7.5)
    levels = [target["start_levels"] or [NO_LEVEL] for target in shown]
    bands = NO_INTERVALS if few else "bands and bars: 95%"
    add_caption(
        figure,
        "Left: the function while latents are optimised (thin: each start; the baselines at equal cost; "
        f"{bands}). Then its mean over {numbers['report_rollouts']} rollouts with fresh noise, one point "
        "per latent; how far latents are from the prior's shell, as the share of recorded latents that are "
        "nearer; and the function in one simulated rollout against the real recorded moment whose hidden "
        "state is nearest at the last step that is read. An arrow after a name, or a dashed line, says what "
        "is wanted.",
        f"{numbers['starts']} starts, {numbers['moments']:,} recorded moments of {numbers['moment_levels']} "
        "levels",
        f"{level_words(np.concatenate(levels))} (starts){_moment_levels(numbers)}",
    )
    return save_figure(figure, path)[0]


def _moment_levels(numbers: dict) -> str:
    """The range of levels that the moments are of; runs of earlier versions do not know it."""
    known = numbers.get("moment_level_range")
    return f", {known[0]:,}-{known[1]:,} (moments)" if known else ""


def few_levels(target: dict) -> bool:
    """Whether the starts of a target are of too few levels for intervals."""
    return target["arms"]["start"]["value"]["clusters"] < FEWEST_CLUSTERS


def _legend(targets: list[dict], numbers: dict, few: bool) -> list[Line2D]:
    """What every line and point of the figure is, where there is one."""
    dot = {"marker": "o", "markersize": 3.5}
    arms = [Line2D([], [], **STYLES[arm] | dot, label=LABELS[arm]) for arm in ARMS]
    mean = Line2D([], [], linestyle="", **MEAN, label="mean" if few else "mean, 95%")
    near = Line2D([], [], **NEAR_LINE, label=f"{numbers['near_percentile']:.0f}% of recorded latents")
    lines = [*arms, mean, near]
    if any(target["goal"] not in _ARROWS for target in targets):
        lines.append(Line2D([], [], **WANTED, label="wanted"))
    if any(target["real"] is not None for target in targets):
        hollow = {"marker": "o", "markersize": 4, "color": "#777777", "markerfacecolor": "none"}
        lines += [
            Line2D([], [], linestyle="", **hollow, label="no real moment near"),
            Line2D([], [], **EQUAL, label="simulated = real"),
            Line2D([], [], **ALL_RECORDED, label="mean of all recorded"),
        ]
    return lines


def _curve(axis, name: str, target: dict, numbers: dict) -> None:
    curve = np.array(target["curves"]["value"])
    every = np.arange(len(curve)) * numbers["eval_every"]
    iteration = np.minimum(every, numbers["iterations"])
    axis.plot(iteration, curve, color=OPTIMISED["color"], linewidth=0.6, alpha=0.35)
    axis.plot(iteration, curve.mean(1), **OPTIMISED)
    for arm in ("best_recorded", "best_random"):
        value = target["arms"][arm]["value"]
        axis.axhline(value["mean"], **STYLES[arm], linewidth=1.4)
        if value["low"] is not None:
            axis.axhspan(value["low"], value["high"], color=STYLES[arm]["color"], alpha=0.15, linewidth=0)
    _wanted(axis, target)
    axis.set_title(f"{name}{_ARROWS.get(target['goal'], '')}")
    axis.set_xlabel("iteration")
    axis.set_ylabel(_quantity(target))


def _wanted(axis, target: dict) -> None:
    """A line at the value that the function is to come to."""
    if target["goal"] not in _ARROWS:
        axis.axhline(target["goal"], **WANTED)


def _quantity(target: dict) -> str:
    step = "summed over steps" if target["step"] == "sum" else f"at step {target['step']}"
    return f"{target['function']}\n{step}"


def _values(axis, target: dict) -> None:
    for place, arm in enumerate(ARMS):
        latents = [latent["value"] for latent in target["arms"][arm]["latents"]]
        _points(axis, place, latents, arm)
        value = target["arms"][arm]["value"]
        if value["low"] is not None:
            axis.plot([place, place], [value["low"], value["high"]], color=MEAN["color"], zorder=3)
        axis.plot(place, value["mean"], linestyle="", **MEAN, zorder=3)
    _wanted(axis, target)
    _name_arms(axis)


def _plausibility(axis, target: dict, near: float) -> None:
    for place, arm in enumerate(ARMS):
        percentiles = [latent["percentile"] for latent in target["arms"][arm]["latents"]]
        _points(axis, place, [np.nan if x is None else x for x in percentiles], arm)
    axis.axhline(near, **NEAR_LINE)
    axis.set_ylim(-3, 103)
    axis.set_ylabel("prior percentile")
    _name_arms(axis)


def _points(axis, place: int, values: list[float], arm: str) -> None:
    """Points side by side, in the order given."""
    offsets = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [0.0]
    axis.scatter(
        place + np.array(offsets), values, s=13, color=STYLES[arm]["color"], alpha=0.75, linewidths=0
    )


def _name_arms(axis) -> None:
    axis.set_xticks(range(len(ARMS)), [LABELS[arm].replace(" ", "\n") for arm in ARMS])
    axis.set_xlim(-0.5, len(ARMS) - 0.5)


def _real_check(axis, target: dict) -> None:
    if target["real"] is None:
        axis.text(0.5, 0.5, "predicted by the\nsimulator only", ha="center", va="center", color="#777777")
        axis.set_axis_off()
        return
    seen = []
    for arm in ("best_recorded", "optimised"):
        for near in (True, False):
            pairs = [
                (match["simulated_value"], match["real_value"])
                for match in (latent["hidden"] for latent in target["arms"][arm]["latents"])
                if match["near"] == near and match["real_value"] is not None
            ]
            if pairs:
                face = STYLES[arm]["color"] if near else "none"
                x, y = zip(*pairs)
                axis.scatter(x, y, s=18, facecolors=face, edgecolors=STYLES[arm]["color"], linewidths=0.9)
                seen += pairs
    if target["real"]["mean"] is not None:
        axis.axhline(target["real"]["mean"], **ALL_RECORDED)
    if seen:
        ends = np.nanmin(seen), np.nanmax(seen)
        axis.plot(ends, ends, **EQUAL)
    axis.set_xlabel("simulated")
    axis.set_ylabel("real, nearest moment")
