"""Figures of the demo's report, small enough for a narrow screen; the page holds their captions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.model_eval.frame_scores import BASELINES
from analysis.plotting.style import NULL, REAL, SIMULATED, new_figure, save_figure
from interpret.forks.world_comparison import STRIP_STEPS

PANEL = (4.3, 3.1)
BAND = 0.18
PREDICTIONS = {
    "posterior": ("posterior (given the frame)", SIMULATED | {"linestyle": ":"}),
    "open_loop": ("simulated, open loop", SIMULATED),
    "shifted_copy": ("camera-shifted copy", NULL | {"linestyle": "--"}),
    "copy": ("copy of the last given frame", NULL | {"linestyle": ":"}),
    "mean_frame": ("mean frame", NULL | {"linestyle": "-."}),
}
"""Label and line style of every prediction."""
_WORLDS = {"real": REAL, "simulated": SIMULATED}
_ARMS = {"intact": 1.0, "deleted": 0.5}  # opacity
_SHOWN = (0, 2, 4, 8, 12)
_MAPS = {"agent": "agent, real frame", "untrained": "untrained weights", "simulator": "through the simulator"}


def draw_psnr(
    scores: Mapping[str, list[dict]], simulator: str, path: Path, title: str, limits: tuple[float, float]
) -> Path:
    """PSNR of one simulator and of the baselines by step, with intervals.

    Args:
        scores: {name: score of each step}.
        simulator: name of the simulator in `scores`.
        path: of the figure.
        title: of the panel.
        limits: of the PSNR axis.
    """
    figure, axes = new_figure(panel=(PANEL[0], 3.5))
    for name, (label, look) in PREDICTIONS.items():
        line = scores[name if name in BASELINES else f"{simulator}/{name}"]
        value, low, high = (
            np.array([np.nan if s[key] is None else s[key] for s in line]) for key in ("value", "low", "high")
        )
        axes[0, 0].plot(value, label=label, **look)
        axes[0, 0].fill_between(
            np.arange(len(value)), low, high, color=look["color"], alpha=BAND, linewidth=0
        )
    axes[0, 0].set(xlabel="steps after the last given frame", ylabel="PSNR (dB)", ylim=limits, title=title)
    figure.legend(loc="outside upper left", ncols=2, fontsize=7.5)
    return save_figure(figure, path)[0]


def psnr_limits(scores: Mapping[str, list[dict]]) -> tuple[float, float]:
    """One range of the PSNR axis for all panels."""
    bounds = [
        s[key] for line in scores.values() for s in line for key in ("low", "high") if s[key] is not None
    ]
    return (min(bounds) - 1, max(bounds) + 1) if bounds else (0, 1)


def draw_map_by_value(points: np.ndarray, value: np.ndarray, path: Path) -> Path:
    """Map of real hidden states [n, 2], coloured by the agent's value [n]."""
    figure, axes = new_figure(panel=(PANEL[0], 3.7))
    low, high = np.nanquantile(value, [0.02, 0.98])
    dots = axes[0, 0].scatter(*points.T, c=value, s=4, cmap="viridis", vmin=low, vmax=high, linewidths=0)
    figure.colorbar(dots, ax=axes[0, 0], label="value (agent's units)", shrink=0.8)
    _style_map(axes[0, 0])
    return save_figure(figure, path)[0]


def draw_map_of_worlds(real: np.ndarray, simulated: np.ndarray, path: Path) -> Path:
    """Simulated states [m, 2] on the map of the real ones [n, 2]."""
    figure, axes = new_figure(panel=(PANEL[0], 3.7))
    axes[0, 0].scatter(*real.T, s=4, linewidths=0, color=REAL["color"], alpha=0.55, label="real")
    axes[0, 0].scatter(
        *simulated.T, s=7, linewidths=0.5, marker="x", color=SIMULATED["color"], alpha=0.7, label="simulated"
    )
    _style_map(axes[0, 0])
    figure.legend(loc="outside upper left", ncols=2, markerscale=3)
    return save_figure(figure, path)[0]


def _style_map(axis) -> None:
    axis.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2", box_aspect=1)
    axis.grid(False)


def draw_probes(rows: list[tuple[str, dict, dict]], path: Path) -> Path:
    """Probe scores with intervals; rows: concept, score of the hidden state and of the best baseline."""
    figure, axes = new_figure(panel=(4.6, 0.6 + 0.27 * len(rows)))
    for i, (_, hidden, baseline) in enumerate(rows):
        for score, look, offset, label in (
            (baseline, NULL, 0.13, "best baseline"),
            (hidden, REAL, -0.13, "hidden state"),
        ):
            axes[0, 0].plot(
                [score["low"], score["high"]], [i + offset] * 2, color=look["color"], linewidth=1.2
            )
            axes[0, 0].plot(
                score["value"],
                i + offset,
                "o",
                color=look["color"],
                markersize=4,
                label=label if i == 0 else None,
            )
    lowest = min(min(score["low"] for score in scores) for _, *scores in rows)
    axes[0, 0].set(xlim=(max(lowest, -0.3) - 0.05, 1.05), xlabel="AUROC, or $R^2$ where marked")
    axes[0, 0].set(yticks=range(len(rows)), yticklabels=[name for name, *_ in rows])
    axes[0, 0].invert_yaxis()
    axes[0, 0].grid(axis="y", visible=False)
    figure.legend(loc="outside upper left", ncols=2)
    return save_figure(figure, path)[0]


def draw_gradient_maps(
    arrays: Mapping[str, np.ndarray], chosen: Mapping[str, int], greyed: set[str], path: Path
) -> Path:
    """One row per chosen state: the frame, and its gradient map by each route.

    Args:
        arrays: part `gradients`.
        chosen: {row label: index of the frame}.
        greyed: routes that are drawn in grey.
        path: of the figure.
    """
    figure, axes = new_figure(len(chosen), 1 + len(_MAPS), panel=(1.32, 1.38))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, hspace=0, wspace=0)
    for row, (name, i) in zip(axes, chosen.items()):
        _show(row[0], arrays["frame"][i])
        row[0].set_ylabel(name, fontsize=7)
        for axis, route in zip(row[1:], _MAPS):
            strength = _smooth(arrays[f"map/{route}"][i])
            _show(
                axis,
                strength,
                cmap="gray" if route in greyed else "inferno",
                vmin=0,
                vmax=np.quantile(strength, 0.995) or 1.0,
            )
    for axis, title in zip(axes[0], ("frame", *_MAPS.values())):
        axis.set_title(title, fontsize=7, fontweight="normal", loc="center")
    return save_figure(figure, path)[0]


def draw_check(predicted: np.ndarray, measured: np.ndarray, look: dict, path: Path) -> Path:
    """Changes of the value [n, P], predicted by the gradient against measured, one point per patch."""
    figure, axes = new_figure(panel=(3.4, 3.1))
    limit = 1.05 * max(np.abs(predicted).max(), np.abs(measured).max(), 1e-6)
    axes[0, 0].plot([-limit, limit], [-limit, limit], label="equal", **NULL | {"linewidth": 1.0})
    axes[0, 0].scatter(predicted, measured, s=7, linewidths=0, color=look["color"], alpha=0.5)
    axes[0, 0].set(
        xlabel="predicted by the gradient",
        ylabel="measured",
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        box_aspect=1,
    )
    axes[0, 0].locator_params(nbins=5)
    axes[0, 0].legend(loc="upper left")
    return save_figure(figure, path)[0]


def draw_deletion_strip(found: Mapping[str, np.ndarray], point: int, path: Path) -> Path:
    """One fork point in both worlds, with the hazard and without; black: the episode has ended."""
    steps = [s for s in _SHOWN if s < len(found["real/intact/running"])]
    rows = [(world, arm) for world in _WORLDS for arm in _ARMS]
    figure, axes = new_figure(len(rows), len(steps), panel=(1.05, 1.1))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, hspace=0, wspace=0)
    for row, (world, arm) in zip(axes, rows):
        frames = found[f"{world}/{arm}/frames"][:, point]
        running = found[f"{world}/{arm}/running"][:, point, 0]
        for axis, step in zip(row, steps):
            _show(axis, frames[STRIP_STEPS.index(step)] if running[step] else np.zeros_like(frames[0]))
        row[0].set_ylabel(
            f"{'game' if world == 'real' else 'simulator'},\n{'hazard' if arm == 'intact' else 'deleted'}",
            fontsize=7,
        )
    for axis, step in zip(axes[0], steps):
        axis.set_title(f"k = {step}", fontsize=7.5, fontweight="normal", loc="center")
    return save_figure(figure, path)[0]


def draw_deletion_lines(lines: Mapping[str, np.ndarray], ylabel: str, path: Path) -> Path:
    """Curves by step in both worlds and arms, {"real/intact": [T], ...}; pale: the hazard is deleted."""
    figure, axes = new_figure(panel=(PANEL[0], 3.0))
    for world, look in _WORLDS.items():
        for arm, opacity in _ARMS.items():
            label = (
                f"{'game' if world == 'real' else 'simulator'}, {'hazard' if arm == 'intact' else 'deleted'}"
            )
            axes[0, 0].plot(lines[f"{world}/{arm}"], label=label, alpha=opacity, **look)
    axes[0, 0].set(xlabel="steps", ylabel=ylabel)
    figure.legend(loc="outside upper left", ncols=2)
    return save_figure(figure, path)[0]


def _smooth(strength: np.ndarray, side: int = 3) -> np.ndarray:
    """Box filter of a map [H, W]: single pixels of a gradient are noise."""
    padded = np.pad(strength, side // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (side, side)).mean((2, 3))


def _show(axis, picture: np.ndarray, **how) -> None:
    axis.imshow(picture, **how)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
