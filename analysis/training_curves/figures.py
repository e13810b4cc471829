"""Figures of training: return against environment steps, with the published curve, and all other columns."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from agents.training_log import WINDOW
from analysis.plotting.style import GROUPS, NULL, PUBLISHED, add_caption, new_figure
from analysis.training_curves.curves import (
    TrainingRun,
    common_curves,
    evaluation_levels,
    group_runs,
    published_for,
    smooth,
    training_levels,
)

TRAIN = "mean_episode_rewards"
UNSEEN = "val_mean_episode_rewards"
PANELS = (
    (TRAIN, "Return, training levels", "return per episode"),
    (UNSEEN, "Return, unseen levels", "return per episode"),
    ("mean_episode_len", "Episode length", "steps"),
    ("mean_entropy_loss", "Entropy of the policy", "nats"),
    ("explained_variance", "Explained variance of returns", "1 - var(error) / var"),
    ("mean_episode_value", "Value estimate", "scaled return"),
    ("mean_value_loss", "Value loss", "scaled return, squared"),
    ("mean_policy_loss", "Policy loss", "clipped objective"),
    ("approx_kl", "Approximate KL", "nats per update"),
    ("clip_fraction", "Clip fraction", "fraction of steps"),
    ("learning_rate", "Learning rate", "Adam step size"),
    ("steps_per_second", "Speed", "steps per second"),
)
_UNSEEN_MARKS = {"marker": "o", "markersize": 4, "markerfacecolor": "white", "markeredgewidth": 1.1}
_UNSEEN_COLOR = {"color": GROUPS[1]}
"""Colour of unseen levels in a panel with one experiment."""
_COLUMNS = 4
_UNITS = (("M", 1e6), ("k", 1e3), ("", 1))


def draw_returns(runs: Sequence[TrainingRun], window: float) -> Figure:
    """Return on training and unseen levels in one panel; window: of the smoothing, in environment steps."""
    groups = group_runs(runs)
    published = published_for(runs)
    figure, axes = new_figure(1, 1, panel=(6.4, 4.4))
    axis = axes[0, 0]
    _draw_published(axis, published, ("train", "unseen"), _last_step(runs, published))
    _draw_groups(axis, groups, TRAIN, window)
    _draw_groups(axis, groups, UNSEEN, window, **_UNSEEN_MARKS, **(_UNSEEN_COLOR if len(groups) == 1 else {}))
    _label_steps(axis, _last_step(runs, published))
    _label_returns(axis, published)
    figure.legend(handles=_legend(groups, published), loc="outside upper left", ncols=2)
    add_caption(figure, _caption(runs, window, published), *_seeds_and_levels(groups))
    return figure


def draw_columns(runs: Sequence[TrainingRun], window: float) -> Figure:
    """One panel per column of PANELS that any run has; window: of the smoothing, in environment steps."""
    groups = group_runs(runs)
    published = published_for(runs)
    panels = [panel for panel in PANELS if any(len(run.curve(panel[0])[0]) for run in runs)]
    rows = -(-len(panels) // _COLUMNS)
    columns = min(_COLUMNS, len(panels))
    figure, axes = new_figure(rows, columns, panel=(3.3, 2.35))
    for axis, (name, title, unit) in zip(axes.flat, panels):
        behind = {TRAIN: ("train",), UNSEEN: ("unseen",)}.get(name, ())
        _draw_published(axis, published, behind, _last_step(runs, published))
        _draw_groups(axis, groups, name, window, **(_UNSEEN_MARKS if name == UNSEEN else {}))
        _label_steps(axis, _last_step(runs, published if behind else None))
        axis.set_title(title)
        axis.set_ylabel(unit)
    _same_range(axes.flat[: len([panel for panel in panels if panel[0] in (TRAIN, UNSEEN)])])
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.legend(handles=_legend(groups, published, kinds=False), loc="outside upper left", ncols=4)
    add_caption(figure, _caption(runs, window, published), *_seeds_and_levels(groups))
    return figure


def _draw_groups(axis: Axes, groups: list[list[TrainingRun]], name: str, window: float, **marks) -> None:
    for color, group in zip(_colors(groups), groups):
        for step in {step for run in group for step in run.joints()}:
            axis.axvline(step, color=color, linewidth=0.9, linestyle=":", zorder=1.3)
        color = marks.get("color", color)
        curves = [
            (steps, smooth(steps, values, window))
            for steps, values in (run.curve(name) for run in group)
            if len(steps)
        ]
        if len(curves) > 1:
            for steps, values in curves:
                axis.plot(steps, values, color=color, linewidth=0.6, alpha=0.5)
        if curves:
            steps, seeds = common_curves(curves)
            if len(curves) > 1:
                axis.fill_between(steps, seeds.min(0), seeds.max(0), color=color, alpha=0.15, linewidth=0)
            axis.plot(
                steps,
                seeds.mean(0),
                **{"color": color} | (marks | {"markevery": _spacing(steps)} if marks else {}),
            )


def _spacing(points: np.ndarray) -> int:
    """Interval between marks, for about 25 of them."""
    return max(len(points) // 25, 1)


def _draw_published(axis: Axes, published: dict | None, kinds: Sequence[str], last: float) -> None:
    """The published curves of these kinds up to step `last`, their spread, and the random policy."""
    if published is None or not kinds:
        return
    shown = [i for i, steps in enumerate(published["steps"]) if steps <= last]
    for kind in kinds:
        marks = _UNSEEN_MARKS if kind == "unseen" else {"marker": "s", "markersize": 3}
        axis.plot(
            *([published[of][i] for i in shown] for of in ("steps", kind)),
            **PUBLISHED,
            **marks,
            linewidth=1.2,
            zorder=1.5,
        )
        spread = published["spread"]
        if spread["steps"] <= last:
            axis.vlines(
                spread["steps"], *spread[kind], color=PUBLISHED["color"], linewidth=6, alpha=0.35, zorder=1.4
            )
    axis.axhline(published["random_return"], **NULL, linewidth=1.2, zorder=1.4)


def _last_step(runs: Sequence[TrainingRun], published: dict | None) -> float:
    """Last step of the axis: of the longest run, or the next point of the published curve after it."""
    last = max(run.last_step for run in runs)
    return min((steps for steps in published["steps"] if steps >= last), default=last) if published else last


def _label_steps(axis: Axes, last: float) -> None:
    unit, size = next((name, size) for name, size in _UNITS if last >= size)
    axis.set_xlim(0, last * 1.03)
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda steps, _: f"{steps / size:g}{unit}" if steps else "0")
    )
    axis.set_xlabel("environment steps")


def _label_returns(axis: Axes, published: dict | None) -> None:
    axis.set_ylabel("mean return per episode")
    if published:
        percent = published["percent_solved_per_return"]
        right = axis.secondary_yaxis("right", functions=(lambda x: x * percent, lambda x: x / percent))
        right.set_ylabel("levels solved (%)")


def _same_range(axes: Sequence[Axes]) -> None:
    low = min(axis.get_ylim()[0] for axis in axes)
    high = max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(low, high)


def _legend(groups: list[list[TrainingRun]], published: dict | None, kinds: bool = True) -> list[Line2D]:
    """Handles: a colour per experiment, marks of training and unseen levels (`kinds`), published results."""
    ours = [(color, _name(group, groups)) for color, group in zip(_colors(groups), groups)]
    if kinds and len(ours) == 1:
        handles = _kinds(ours[0][0], f"{ours[0][1]}, ")
    else:
        handles = [Line2D([], [], color=color, label=name) for color, name in ours] + (
            _kinds("#444444", "") if kinds else []
        )
    if published:
        handles.append(Line2D([], [], **PUBLISHED, linewidth=1.2, label=published["label"]))
        handles.append(Line2D([], [], **NULL, linewidth=1.2, label="random policy"))
    return handles


def _kinds(color: str, name: str) -> list[Line2D]:
    plain = {"label": f"{name}training levels"}
    marked = {"label": f"{name}unseen levels", **_UNSEEN_MARKS}
    own = _UNSEEN_COLOR if name else {}
    return [Line2D([], [], color=color, **plain), Line2D([], [], **{"color": color} | marked | own)]


def _name(group: list[TrainingRun], groups: list[list[TrainingRun]]) -> str:
    """The experiment's directory, with the run's if two experiments share it."""
    folder = group[0].dir.resolve().parent
    shared = [other for other in groups if other[0].dir.resolve().parent == folder]
    return folder.name if len(shared) == 1 else f"{folder.name}/{group[0].dir.name}"


def _colors(groups: list) -> list[str]:
    return [GROUPS[i % len(GROUPS)] for i in range(len(groups))]


def _caption(runs: Sequence[TrainingRun], window: float, published: dict | None) -> str:
    parts = [f"Return on training levels: mean of the last {WINDOW} training episodes."]
    parts.append(
        f"Curves are moving averages over {steps_in_words(window)} environment steps."
        if window
        else "Curves are not smoothed."
    )
    if len(runs) > len(group_runs(runs)):
        parts.append(
            "Thin lines: seeds; thick: their mean; band: their range, up to the last step of the shortest "
            "run."
        )
    parts += dict.fromkeys(
        f"After the dotted line: {words}." for words in map(_continuations_in_words, runs) if words
    )
    if published and published["spread"]["steps"] <= _last_step(runs, published):
        parts.append(f"Bars at {steps_in_words(published['spread']['steps'])}: spread of the published runs.")
    return " ".join(parts)


def _seeds_and_levels(groups: list[list[TrainingRun]]) -> tuple[str, str]:
    """Number of seeds, and levels of each experiment, in words."""
    counts = [f"{len(group)}\N{NO-BREAK SPACE}seed{'s' if len(group) > 1 else ''}" for group in groups]
    named = (
        counts
        if len(groups) == 1
        else [f"{count} ({_name(group, groups)})" for count, group in zip(counts, groups)]
    )
    levels = dict.fromkeys(
        f"{training_levels(run)} (training) and {evaluation_levels(run)} (unseen)"
        for group in groups
        for run in group
    )
    return ", ".join(named), "; ".join(levels)


def _continuations_in_words(run: TrainingRun) -> str:
    """Preset and step of each continuation of a run, in words."""
    presets = [part.config.get("args", {}).get("param_name", "another run") for part in run.parts()[1:]]
    return ", ".join(
        f"{preset} ({steps_in_words(step)} steps)" for preset, step in zip(presets, run.joints())
    )


def steps_in_words(steps: float) -> str:
    """1500000 -> 1.5M, 20000 -> 20k; three digits."""
    unit, size = next((name, size) for name, size in _UNITS if steps >= size)
    return f"{steps / size:.3g}{unit}"
