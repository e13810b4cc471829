"""Figures of the numbers of a map of simulated steps: explained variance, and stability of clusters."""

from pathlib import Path

import numpy as np

from analysis.plotting.map_figures import Caption
from analysis.plotting.style import GROUPS, NULL, SIMULATED, add_caption, new_figure, save_figure
from interpret.clustering import STABLE

_SPACES = {
    "env": "environment",
    "joint_axes": "joint state",
    "moving_axes": "joint state and its changes",
    "jacobian_axes": "Jacobians",
}
_CLUSTERINGS = {"cluster": "clusters", "moving": "clusters of state and change"}


def draw_explained_variance(numbers: dict, caption: Caption, path: Path) -> Path:
    """Left: cumulative explained variance of each space. Then, for each clustering, its stability."""
    clusterings = numbers["clusterings"]
    figure, axes = new_figure(1, 1 + len(clusterings), panel=(4.0, 2.9))
    spaces = {label: numbers[name] for name, label in _SPACES.items() if name in numbers}
    for color, (label, space) in zip(GROUPS, spaces.items()):
        explained = 100 * np.cumsum(space["shares"])
        components = np.arange(1, len(explained) + 1)
        label = f"{label}: {explained[-1]:.0f}% in {len(explained)}"
        axes[0, 0].plot(components, explained, color=color, label=label)
    axes[0, 0].set(xlabel="principal components", ylabel="explained variance (%)", ylim=(0, 102))
    axes[0, 0].set_title("explained variance")
    axes[0, 0].legend(loc="lower right")
    for axis, (name, clustering) in zip(axes[0, 1:], clusterings.items()):
        _draw_stability(axis, clustering, _CLUSTERINGS[name])
    text = "Stability over refits on resampled episodes: Jaccard overlap of each cluster with its best match."
    add_caption(figure, text, *caption)
    return save_figure(figure, path)[0]


def _draw_stability(axis, clustering: dict, title: str) -> None:
    """Jaccard overlap of every cluster, and of clusters of Gaussian points with equal covariance."""
    axis.set(xlabel="cluster, most stable first", ylabel="Jaccard overlap", ylim=(0, 1))
    axis.set_title(f"stability of {title}")
    if "jaccard" not in clustering:
        axis.text(0.5, 0.5, "untested", transform=axis.transAxes, ha="center")
        return
    for name, look, key in (
        ("simulated steps", SIMULATED, "jaccard"),
        ("Gaussian, equal covariance", NULL, "null_jaccard"),
    ):
        overlaps = np.sort(clustering[key])[::-1]
        label = f"{name}: {np.sum(overlaps >= STABLE)} of {len(overlaps)} stable"
        axis.plot(overlaps, label=label, **look)
    axis.axhline(STABLE, **NULL | {"linestyle": ":", "linewidth": 1})
    axis.legend(loc="upper right")
