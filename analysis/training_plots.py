"""Pictures of training: return against environment steps, seeds thin, the published curve behind; and every other column."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from agents.training_log import WINDOW
from analysis.style import GROUPS, NULL, PUBLISHED, add_caption, new_figure
from analysis.training_curves import TrainingRun, evaluation_levels, group_runs, mean_curve, published_for, smooth, training_levels

TRAIN, UNSEEN = "mean_episode_rewards", "val_mean_episode_rewards"
PANELS = (
    (TRAIN, "Return, training levels", "return per episode"),
    (UNSEEN, "Return, unseen levels", "return per episode"),
    ("mean_episode_len", "Episode length", "steps"),
    ("mean_entropy_loss", "Entropy of the policy", "nats"),
    ("explained_variance", "Explained variance of returns", "1 - var(error) / var"),
    ("mean_episode_value", "Value estimate", "scaled return"),
    ("mean_value_loss", "Value loss", "scaled return, squared"),
    ("mean_policy_loss", "Policy loss", "clipped objective"),
    ("approx_kl", "Change of the policy", "KL, nats per update"),
    ("clip_fraction", "Clipped share of steps", "share"),
    ("learning_rate", "Learning rate", "Adam step size"),
    ("steps_per_second", "Speed", "environment steps / s"),
)
_UNSEEN_MARKS = {"marker": "o", "markersize": 4, "markerfacecolor": "white", "markeredgewidth": 1.1}
_COLUMNS = 4


def draw_returns(runs: Sequence[TrainingRun], window: float) -> Figure:
    """Return on training and on unseen levels in one panel. window: of the smoothing, in environment steps."""
    groups, published = group_runs(runs), published_for(runs)
    figure, axes = new_figure(1, 1, panel=(6.4, 4.2))
    axis = axes[0, 0]
    _draw_published(axis, published, ("train", "unseen"))
    _draw_groups(axis, groups, TRAIN, window)
    _draw_groups(axis, groups, UNSEEN, window, **_UNSEEN_MARKS)
    _label_steps(axis, runs, published)
    _label_returns(axis, published)
    axis.legend(handles=_legend(groups, published), loc="lower right")
    add_caption(figure, _caption(window), *_numbers_of(groups))
    return figure


def draw_columns(runs: Sequence[TrainingRun], window: float) -> Figure:
    """One panel for each column of PANELS that any run has. window: of the smoothing, in environment steps."""
    groups, published = group_runs(runs), published_for(runs)
    panels = [panel for panel in PANELS if any(len(run.curve(panel[0])[0]) for run in runs)]
    rows, columns = -(-len(panels) // _COLUMNS), min(_COLUMNS, len(panels))
    figure, axes = new_figure(rows, columns, panel=(3.3, 2.35))
    for axis, (name, title, unit) in zip(axes.flat, panels):
        _draw_published(axis, published, {TRAIN: ("train",), UNSEEN: ("unseen",)}.get(name, ()))
        _draw_groups(axis, groups, name, window, **(_UNSEEN_MARKS if name == UNSEEN else {}))
        _label_steps(axis, runs, published if name in (TRAIN, UNSEEN) else None)
        axis.set_title(title)
        axis.set_ylabel(unit)
    _same_range(axes.flat[: len([panel for panel in panels if panel[0] in (TRAIN, UNSEEN)])])
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.legend(handles=_legend(groups, published, kinds=False), loc="outside upper left", ncols=4)
    add_caption(figure, _caption(window), *_numbers_of(groups))
    return figure


def _draw_groups(axis: Axes, groups: list[list[TrainingRun]], name: str, window: float, **marks) -> None:
    for color, group in zip(_colors(groups), groups):
        curves = [(steps, smooth(steps, values, window)) for steps, values in (run.curve(name) for run in group) if len(steps)]
        if len(curves) > 1:
            for steps, values in curves:
                axis.plot(steps, values, color=color, linewidth=0.7, alpha=0.45)
        if curves:
            axis.plot(*mean_curve(curves), color=color, **(marks | {"markevery": _spacing(mean_curve(curves)[0])} if marks else {}))


def _spacing(points: np.ndarray) -> int:
    """Every how many points to set a mark, so that there are at most about 25."""
    return max(len(points) // 25, 1)


def _draw_published(axis: Axes, published: dict | None, kinds: Sequence[str]) -> None:
    if published is None or not kinds:
        return
    behind = {**PUBLISHED, "linewidth": 1.2, "zorder": 1}
    for kind in kinds:
        marks = _UNSEEN_MARKS if kind == "unseen" else {"marker": "s", "markersize": 3}
        axis.plot(published["steps"], published[kind], **behind, **marks)
        spread = published["spread"]
        axis.vlines(spread["steps"], *spread[kind], color=PUBLISHED["color"], linewidth=5, alpha=0.3, zorder=0)
    axis.axhline(published["random_return"], **NULL, linewidth=1, zorder=0)


def _label_steps(axis: Axes, runs: Sequence[TrainingRun], published: dict | None) -> None:
    """Steps from 0 to the last of ours; behind a published curve, on to its next point."""
    last = max(run.last_step for run in runs)
    if published:
        last = min((steps for steps in published["steps"] if steps >= last), default=last)
    axis.set_xlim(0, last * 1.03)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: steps_in_words(steps)))
    axis.set_xlabel("environment steps")


def _label_returns(axis: Axes, published: dict | None) -> None:
    axis.set_ylabel("mean return per episode")
    if published:
        percent = published["percent_solved_per_return"]
        right = axis.secondary_yaxis("right", functions=(lambda x: x * percent, lambda x: x / percent))
        right.set_ylabel("levels solved (%)")


def _same_range(axes: Sequence[Axes]) -> None:
    low, high = min(axis.get_ylim()[0] for axis in axes), max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(low, high)


def _legend(groups: list[list[TrainingRun]], published: dict | None, kinds: bool = True) -> list[Line2D]:
    handles = [Line2D([], [], color=color, label=_name(group, groups)) for color, group in zip(_colors(groups), groups)]
    if kinds:
        handles += [Line2D([], [], color="#444444", label="on training levels"), Line2D([], [], color="#444444", label="on unseen levels", **_UNSEEN_MARKS)]
    if published:
        handles += [Line2D([], [], **PUBLISHED, linewidth=1.2, label=published["label"]), Line2D([], [], **NULL, linewidth=1, label="random play")]
    return handles


def _name(group: list[TrainingRun], groups: list[list[TrainingRun]]) -> str:
    """The experiment's folder; the run's too where two experiments share that folder."""
    folder = group[0].dir.resolve().parent
    shared = [other for other in groups if other[0].dir.resolve().parent == folder]
    return folder.name if len(shared) == 1 else f"{folder.name}/{group[0].dir.name}"


def _colors(groups: list) -> list[str]:
    return [GROUPS[i % len(GROUPS)] for i in range(len(groups))]


def _caption(window: float) -> str:
    smoothing = f"Curves are centred means over {steps_in_words(window)} environment steps" if window else "Curves are not smoothed"
    return f"Return on training levels: mean of the last {WINDOW} training episodes. {smoothing}; with several seeds, thin lines are seeds and thick ones their mean."


def _numbers_of(groups: list[list[TrainingRun]]) -> tuple[str, str]:
    counts = [len(group) for group in groups]
    n = ", ".join(f"{count} seed{'s' if count > 1 else ''}" for count in counts)
    one = groups[0][0]
    return n, f"{training_levels(one)} (training), {evaluation_levels(one)} (unseen)"


def steps_in_words(steps: float) -> str:
    """1500000 -> 1.5M, 20000 -> 20k."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(steps) >= size:
            return f"{steps / size:g}{unit}"
    return f"{steps:g}"
