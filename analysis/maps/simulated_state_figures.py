"""The numbers beside a map of simulated steps, drawn: what its axes hold, and how stable its clusters are."""

from pathlib import Path

import numpy as np

from analysis.plotting.map_figures import Caption
from analysis.plotting.style import GROUPS, NULL, SIMULATED, add_caption, new_figure, save_figure
from interpret.clustering import STABLE

_SPACES = {"env": "environment", "joint_axes": "all of it", "moving_axes": "with its changes"}
_CLUSTERINGS = {"cluster": "clusters", "moving": "clusters of the changes"}


def draw_held(numbers: dict, caption: Caption, path: Path) -> Path:
    """Left: the variance that principal axes hold, summed. Then, for each clustering, its stability."""
    clusterings = numbers["clusterings"]
    figure, axes = new_figure(1, 1 + len(clusterings), panel=(4.0, 2.9))
    spaces = {label: numbers[name] for name, label in _SPACES.items() if name in numbers}
    for look, (label, found) in zip(GROUPS, spaces.items()):
        held = 100 * np.cumsum(found["shares"])
        axes[0, 0].plot(
            np.arange(1, len(held) + 1), held, color=look, label=f"{label}: {held[-1]:.0f}% in {len(held)}"
        )
    axes[0, 0].set(
        xlabel="principal axes", ylabel="variance held (%)", title="explained variance", ylim=(0, 102)
    )
    axes[0, 0].legend(loc="lower right")
    for axis, (name, found) in zip(axes[0, 1:], clusterings.items()):
        _stability(axis, found, _CLUSTERINGS[name])
    add_caption(
        figure,
        "Stability over episodes drawn again: Jaccard overlap of each cluster with its best partner.",
        *caption,
    )
    return save_figure(figure, path)[0]


def _stability(axis, found: dict, title: str) -> None:
    """The Jaccard overlap of every cluster, beside that of Gaussian points with the same covariance."""
    axis.set(
        title=f"stability of {title}",
        xlabel="cluster, most stable first",
        ylabel="Jaccard overlap",
        ylim=(0, 1),
    )
    if "jaccard" not in found:
        axis.text(0.5, 0.5, "untested", transform=axis.transAxes, ha="center")
        return
    for label, look, overlaps in (
        ("simulated steps", SIMULATED, found["jaccard"]),
        ("Gaussian, same covariance", NULL, found["null_jaccard"]),
    ):
        axis.plot(
            np.sort(overlaps)[::-1],
            label=f"{label}: {np.sum(np.array(overlaps) >= STABLE)} of {len(overlaps)} stable",
            **look,
        )
    axis.axhline(STABLE, **NULL | {"linestyle": ":", "linewidth": 1})
    axis.legend(loc="upper right")
