"""Figures of the agent in the loop, in the game and in the simulator. Each returns the figure's path."""

from pathlib import Path

import numpy as np

from analysis.game_check.real_check_figures import BAND_ALPHA, WORLD_STYLES, show_frame
from analysis.io.artefacts import counts_and_levels
from analysis.plotting.style import NULL, SIMULATED, add_caption, new_figure, save_figure
from common.stats import level_weights, percentile_interval
from interpret.forks.world_comparison import (
    PAIRED_STEPS,
    STRIP_STEPS,
    Runs,
    action_agreement,
    action_distribution,
    cumulative_incidence,
    hidden_distance,
    value_distribution,
)

CASE_PERCENTILES = {"good": 10, "median": 50, "worst decile": 90}
TITLES = (
    "survival",
    "how runs end",
    "same action?",
    "hidden states, real and simulated",
    f"actions from step {PAIRED_STEPS} on",
    f"values from step {PAIRED_STEPS} on",
)
Arrays = dict[str, np.ndarray]
Worlds = dict[str, Runs]


def draw_closed_loop(
    arrays: Arrays,
    worlds: Worlds,
    mismatched: Runs,
    effect_classes,
    names: list[str],
    event_names: dict[str, str],
    path: Path,
) -> Path:
    """Top: survival, events, agreement of actions. Bottom: distance of hidden states over the first steps;
    distributions of actions and values beyond.

    Args:
        arrays: the artefact.
        worlds: runs in the game and in the simulator.
        mismatched: runs of the game paired with other fork points.
        effect_classes: [A].
        names: of the effect classes.
        event_names: what each event is called in this game.
        path: where the figure goes.
    """
    figure, axes = new_figure(2, 3, panel=(3.6, 2.9))
    weights = level_weights(arrays["layout"])
    _survival(axes[0, 0], axes[0, 1], worlds, event_names, weights)
    _agreement(axes[0, 2], worlds, mismatched, effect_classes, weights)
    _hidden_distance(axes[1, 0], worlds, weights)
    if len(worlds["real"].done) > PAIRED_STEPS:
        _frequencies(axes[1, 1], worlds, effect_classes, names, weights)
        _values(axes[1, 2], worlds, weights)
    for axis, title in zip(axes.ravel(), TITLES):
        axis.set_title(title)
        if axis.has_data():
            axis.legend(fontsize=7)
        else:  # no run is that long
            axis.set_axis_off()
    text = (
        f"{arrays['real/done'].shape[2]} noise draws per fork point, the same in both worlds. Grey: baseline "
        "from another fork point. Bands and bars: 95% by layout; bars at curves' ends: of the last step."
    )
    add_caption(figure, text, *counts_and_levels(arrays))
    return save_figure(figure, path)[0]


def _survival(survival, endings, worlds: Worlds, event_names: dict[str, str], weights: np.ndarray) -> None:
    """Share of runs still running, and share that has ended in each way, by step."""
    for world, runs in worlds.items():
        cumulative = cumulative_incidence(runs, weights)
        steps = np.arange(1, len(runs.done) + 1)
        _band(survival, steps, 1 - cumulative["end"], world, WORLD_STYLES[world])
        for event, width in (("death", 1.8), ("coin", 0.9)):
            style = WORLD_STYLES[world] | {"linewidth": width}
            _line_with_end_bar(endings, steps, cumulative[event], f"{world}: {event_names[event]}", style)
    survival.set(xlabel="steps", ylabel="share of runs still running", ylim=(0, 1.02))
    endings.set(xlabel="steps", ylabel="share of runs", ylim=(0, None))


def _agreement(axis, worlds: Worlds, mismatched: Runs, effect_classes, weights: np.ndarray) -> None:
    """Share of runs with the same effect class in both worlds, by step."""
    steps = _first_steps(worlds)
    same = action_agreement(*worlds.values(), effect_classes, weights)
    by_noise = action_agreement(worlds["real"], mismatched, effect_classes, weights)
    _band(axis, steps, same, "same noise, same fork point", SIMULATED)
    _band(axis, steps, by_noise, "same noise, another fork point", NULL)
    axis.set(xlabel="steps", ylabel="same effect class", ylim=(0, 1.02))


def _hidden_distance(axis, worlds: Worlds, weights: np.ndarray) -> None:
    """Distance of hidden states between the worlds, by step."""
    distance, other = hidden_distance(*worlds.values(), weights)
    _band(axis, _first_steps(worlds), distance, "same fork point", SIMULATED)
    _band(axis, _first_steps(worlds), other, "another fork point", NULL)
    axis.set(xlabel="steps", ylabel="whitened distance", ylim=(0, None))


def _first_steps(worlds: Worlds) -> np.ndarray:
    return np.arange(min(PAIRED_STEPS, len(worlds["real"].done)))


def _line_with_end_bar(axis, x: np.ndarray, statistic: np.ndarray, label: str, style: dict) -> None:
    """A line and the interval of its last point only: four overlapping bands would be unreadable."""
    axis.plot(x, statistic[0], label=label, **style)
    end = x[-1] + 0.025 * len(x) * len(axis.lines)
    low, high = percentile_interval(statistic[:, -1])
    axis.vlines(end, low, high, color=style["color"], linewidth=style["linewidth"])
    axis.plot(end, statistic[0, -1], "o", markersize=3.5, color=style["color"])


def _values(axis, worlds: Worlds, weights: np.ndarray) -> None:
    """Distribution of the agent's values in both worlds."""
    edges = np.linspace(*np.quantile(worlds["real"].value[worlds["real"].running], [0.01, 0.99]), 13)
    edges[[0, -1]] = -np.inf, np.inf
    bins = np.arange(len(edges) - 1)
    for world, runs in worlds.items():
        _band(axis, bins, value_distribution(runs, weights, edges), world, WORLD_STYLES[world])
    labelled = bins[1:-1:3]
    axis.set_xticks(labelled, [f"{(edges[i] + edges[i + 1]) / 2:.1f}" for i in labelled])
    axis.set(xlabel="value (the agent's units)", ylabel="share of steps", ylim=(0, None))


def _frequencies(axis, worlds: Worlds, effect_classes, names: list[str], weights: np.ndarray) -> None:
    """Frequency of each effect class in both worlds."""
    x = np.arange(len(names))
    for offset, (world, runs) in zip((-0.2, 0.2), worlds.items()):
        share = action_distribution(runs, effect_classes, weights)
        axis.bar(x + offset, share[0], width=0.38, color=WORLD_STYLES[world]["color"], label=world)
        axis.vlines(x + offset, *percentile_interval(share), color="#333333", linewidth=1)
    axis.set_xticks(x, names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_ylabel("share of steps")
    axis.grid(axis="x", visible=False)


def _band(axis, x: np.ndarray, statistic: np.ndarray, label: str, style: dict) -> None:
    """A line with its 95% interval, where it is defined."""
    defined = np.isfinite(statistic).any(0)
    x, statistic = x[defined], statistic[:, defined]
    low, high = percentile_interval(statistic)
    axis.fill_between(x, low, high, color=style["color"], alpha=BAND_ALPHA, linewidth=0)
    axis.plot(x, statistic[0], label=label, **style)


def strip_cases(arrays: Arrays) -> dict[str, int]:
    """Fork points of a good, a median and a bad run, by percentile of the squared error over shown steps."""
    real, simulated = (arrays[f"{world}/frames"].astype(np.float64) for world in WORLD_STYLES)
    error = ((real - simulated) ** 2).mean((0, 2, 3, 4))
    running = arrays["real/running"][_shown_steps(arrays)[-1], :, 0]
    candidates = np.flatnonzero(running) if running.any() else np.arange(len(error))
    order = candidates[np.argsort(error[candidates], kind="stable")]
    return {name: int(order[round((len(order) - 1) * p / 100)]) for name, p in CASE_PERCENTILES.items()}


def draw_strips(arrays: Arrays, cases: dict[str, int], path: Path) -> Path:
    """Frames of the game, of the simulator and their difference, for each case.

    Args:
        arrays: the artefact.
        cases: from `strip_cases`.
        path: where the figure goes.
    """
    steps = _shown_steps(arrays)
    figure, axes = new_figure(3 * len(cases), len(steps), panel=(1.1, 1.1))
    for axis, step in zip(axes[0], steps):
        axis.set_title(f"k = {step}", loc="center", fontsize=8)
    for i, (name, point) in enumerate(cases.items()):
        real, simulated = (arrays[f"{world}/frames"][:, point] for world in WORLD_STYLES)
        difference = np.abs(real.astype(int) - simulated).mean(-1, keepdims=True).repeat(3, -1)
        strips = {
            f"{name}\nreal": real,
            "simulated": simulated,
            "difference": 255 - difference.astype(np.uint8),
        }
        for row, (label, frames) in zip(axes[3 * i :], strips.items()):
            for axis, frame in zip(row, frames):
                show_frame(axis, frame)
            row[0].set_ylabel(label, fontsize=7)
    places = ", ".join(
        f"{name}: level {arrays['level'][point]} from step {arrays['step'][point]}"
        for name, point in cases.items()
    )
    text = f"The agent acts in both worlds, with the recording's noise. {places}."
    add_caption(figure, text, *counts_and_levels(arrays))
    return save_figure(figure, path)[0]


def _shown_steps(arrays: Arrays) -> list[int]:
    return [s for s in STRIP_STEPS if s < len(arrays["real/running"])]
