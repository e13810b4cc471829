"""Figures of the real check: deleted hazards, effects of single actions. Each returns the figure's path."""

from pathlib import Path

import numpy as np

from analysis.io.artefacts import counts_and_levels
from analysis.plotting.label_placement import label_points
from analysis.plotting.style import (
    ABOVE,
    NULL,
    ON_DATA,
    REAL,
    SIMULATED,
    add_caption,
    new_figure,
    save_figure,
)
from common.stats import level_weights, percentile_interval
from interpret.errors_in_variables import Line
from interpret.forks.action_effects import FrameMatch, confusion_matrix

BAND_ALPHA = 0.18
SHOWN_DELETIONS = 6
WORLD_STYLES = {"real": REAL, "simulated": SIMULATED}
ARMS = {"intact": "hazard\nthere", "deleted": "hazard\ndeleted"}
_BARS = {"real": "real game", "simulated": "simulator", "watched": "simulator,\nteacher-forced"}
_POINTS = {"fmt": "o", "markersize": 4, "alpha": 0.6, "color": REAL["color"]}
_ERRORS = {"ecolor": "#8fa9c7", "elinewidth": 0.8}
Arrays = dict[str, np.ndarray]


def draw_hazards(arrays: Arrays, changes: Arrays, fitted: Line, path: Path) -> Path:
    """Left: simulated against real change of the death risk by fork point. Right: mean risks.

    Args:
        arrays: the artefact.
        changes: from `deletion_effects`.
        fitted: line of the simulated on the real change.
        path: where the figure goes.
    """
    figure, axes = new_figure(columns=2, panel=(4.0, 3.6))
    _risk_changes(axes[0, 0], changes, fitted)
    _risk_bars(axes[0, 1], arrays["layout"], changes)
    steps = len(arrays["real/intact/done"])
    draws = changes["real"].shape[1]
    text = (
        f"Risk of death within {steps} steps, hazard deleted minus hazard there; {draws} noise draws, shared "
        "by arms and worlds. Bars: standard errors (left), 95% by layout (right)."
    )
    add_caption(figure, text, *counts_and_levels(arrays))
    return save_figure(figure, path)[0]


def _risk_changes(axis, changes: Arrays, fitted: Line) -> None:
    x, y = changes["real"], changes["simulated"]
    axis.errorbar(
        x.mean(1), y.mean(1), xerr=_standard_error(x), yerr=_standard_error(y), **_POINTS, **_ERRORS
    )
    grid = np.linspace(-1.05, 1.05, 50)
    axis.plot(grid, grid, label="the same in both", **NULL | {"linewidth": 1.0})
    lines = fitted.intercept[:, None] + fitted.slope[:, None] * grid
    lines = lines[np.isfinite(lines[:, 0])]
    if len(lines) > 1:
        band = {"color": SIMULATED["color"], "alpha": BAND_ALPHA, "linewidth": 0}
        axis.fill_between(grid, *percentile_interval(lines), **band)
        low, high = percentile_interval(fitted.slope)
        label = f"slope {fitted.slope[0]:.2f} [{low:.2f}, {high:.2f}]"
        axis.plot(grid, lines[0], label=label, **SIMULATED)
    axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
    axis.set(xlabel="change in the real game", ylabel="change in the simulator")
    axis.set_title("change of the risk of death")
    axis.legend(loc="upper left", **ON_DATA)  # few deletions that save the agent look deadly to the simulator


def _standard_error(draws: np.ndarray) -> np.ndarray | None:
    """Of means over draws [M, D]; None for a single draw."""
    return draws.std(1, ddof=1) / np.sqrt(draws.shape[1]) if draws.shape[1] > 1 else None


def _risk_bars(axis, layout: np.ndarray, risks: Arrays) -> None:
    """Mean death risk by world and arm."""
    weights = level_weights(layout)
    for i, world in enumerate(_BARS):
        for j, (arm, label) in enumerate(ARMS.items()):
            risk = weights @ risks[f"{world}/{arm}"].mean(1) / weights.sum(1)
            low, high = percentile_interval(risk)
            x = i + 0.4 * j - 0.2
            color = WORLD_STYLES.get(world, SIMULATED)["color"]
            axis.bar(x, risk[0], width=0.36, color=color, alpha=1.0 if arm == "intact" else 0.45)
            axis.vlines(x, low, high, color="#333333", linewidth=1.2)
            style = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7}
            axis.annotate(label, (x, high), (0, 3), **style)
    axis.set(xticks=range(len(_BARS)), xticklabels=_BARS.values(), ylabel="risk of death")
    axis.set_ylim(0, 1.25 * axis.get_ylim()[1])
    axis.grid(axis="x", visible=False)
    axis.set_title("mean risks")


def draw_deletions(arrays: Arrays, changes: Arrays, path: Path) -> Path:
    """First frames of both worlds with and without the hazard, for fork points over the range of effects.

    Args:
        arrays: the artefact.
        changes: from `deletion_effects`.
        path: where the figure goes.
    """
    order = np.argsort(changes["real"].mean(1), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(SHOWN_DELETIONS, len(order))).astype(int)]
    rows = [(world, arm) for world in WORLD_STYLES for arm in ARMS]
    figure, axes = new_figure(len(rows), len(chosen), panel=(1.25, 1.32))
    for row, (world, arm) in zip(axes, rows):
        for axis, point in zip(row, chosen):
            show_frame(axis, arrays[f"{world}/{arm}/frame"][point])
        label = f"{world},\n{'hazard there' if arm == 'intact' else 'deleted'}"
        row[0].set_ylabel(label, color=WORLD_STYLES[world]["color"])
    for axis, point in zip(axes[0], chosen):
        axis.set_title(f"level {arrays['level'][point]}", fontsize=7, fontweight="normal", loc="center")
    text = "Left to right: from the largest reduction of the real death risk by deletion to the smallest."
    count = f"{len(chosen)} of {len(arrays['level'])} fork points"
    add_caption(figure, text, count, counts_and_levels(arrays)[1])
    return save_figure(figure, path)[0]


def draw_effects(by_hold: dict[int, Arrays], names: list[str], path: Path) -> Path:
    """Confusion of actions by their effect on the frame, and motion by action, a row for each time held.

    Args:
        by_hold: artefacts by number of steps that an action is held.
        names: of the effect classes.
        path: where the figure goes.
    """
    figure, axes = new_figure(len(by_hold), 2, panel=(4.2, 3.7))
    motions = []
    for (left, right), (hold, arrays) in zip(axes, by_hold.items()):
        _confusion(figure, left, arrays, names)
        left.set_title(f"held {hold} step{'s' * (hold > 1)}")
        motions.append((right, _motions(right, arrays)))
    text = (
        "Right: mean motion of the player by class, read from the scrolling of the frame in both worlds; "
        "lines join the two."
    )
    add_caption(figure, text, *counts_and_levels(next(iter(by_hold.values()))))
    for axis, means in motions:
        label_points(axis, means["real"], names, means["simulated"])
    return save_figure(figure, path)[0]


def _confusion(figure, axis, arrays: Arrays, names: list[str]) -> None:
    """Share of simulated frames of each class whose nearest real frame is of each class."""
    shares = confusion_matrix(FrameMatch(arrays["error"], arrays["same"], arrays["nearest"]), arrays["ended"])
    image = axis.imshow(shares, vmin=0, vmax=max(0.5, shares.max()), cmap="Blues")
    figure.colorbar(image, ax=axis, label="share", shrink=0.8)
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="nearest real frame", ylabel="action in the simulator")
    axis.grid(visible=False)


def _motions(axis, arrays: Arrays) -> Arrays:
    """Draws, and returns, the mean motion [E, 2] of each class in both worlds."""
    running = ~arrays["ended"][..., None]
    count = np.maximum(running.sum(0), 1)
    means = {world: (arrays[f"{world}_motion"] * running).sum(0) / count for world in WORLD_STYLES}
    pairs = np.stack([means["real"], means["simulated"]]).transpose(2, 0, 1)
    axis.plot(*pairs, color=NULL["color"], linewidth=0.7, zorder=1)
    for world, marker in (("real", "o"), ("simulated", "D")):
        style = {"s": 28, "color": WORLD_STYLES[world]["color"], "marker": marker, "zorder": 2}
        axis.scatter(*means[world].T, label=world, **style)
    axis.set(xlabel="to the right (pixels)", ylabel="up (pixels)")
    axis.margins(0.25, 0.2)
    axis.legend(**ABOVE)
    axis.set_title("motion")
    return means


def show_frame(axis, frame: np.ndarray) -> None:
    """A frame [H, W, C] without ticks, grid and spines."""
    axis.imshow(frame, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
