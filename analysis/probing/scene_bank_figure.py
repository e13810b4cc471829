"""Figure of a scene bank: one scene for each kind and distance, above its twin."""

from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle

from analysis.plotting.style import GROUPS, add_caption, new_figure, save_figure
from rollouts.scene_bank import WITH, WITHOUT, SceneBank

PANEL = 0.82  # inches
MARK = GROUPS[-1]


def draw(bank: SceneBank, path: Path) -> Path:
    """Rows: kinds, with and without the object; columns: distances. Shows the first pair of least height."""
    kinds = np.unique(bank.columns["kind"])
    distances = np.unique(bank.columns["distance"])
    figure, axes = new_figure(2 * len(kinds), len(distances), panel=(PANEL, PANEL))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    for row, kind in enumerate(kinds):
        for column, distance in enumerate(distances):
            _show(bank, axes[2 * row : 2 * row + 2, column], kind, distance)
        axes[2 * row, 0].set_ylabel(bank.about["kinds"][kind], fontweight="bold")
        axes[2 * row + 1, 0].set_ylabel("without", color="#777777", fontsize=7)
    for axis, distance in zip(axes[0], distances):
        axis.set_title(f"{distance} tiles", fontsize=8, fontweight="normal", loc="center")
    level = bank.columns["level"]
    text = (
        "Constructed scenes and, below each, the same state without the object, rendered by the game, by the "
    )
    text += "object's distance. Framed: pixels that differ."
    add_caption(
        figure,
        text,
        f"{len(bank)} pairs on {len(np.unique(bank.columns['layout']))} layouts",
        f"{level.min()}-{level.max()}",
    )
    return save_figure(figure, path)[0]


def _show(bank: SceneBank, axes, kind: int, distance: int) -> None:
    """A scene above its twin; nothing if the bank has none."""
    candidates = np.flatnonzero((bank.columns["kind"] == kind) & (bank.columns["distance"] == distance))
    if len(candidates):
        chosen = candidates[np.argmin(bank.columns["height"][candidates])]
        for axis, side in zip(axes, (WITH, WITHOUT)):
            axis.imshow(bank.frames[chosen, side])
        rows, columns = np.nonzero((bank.frames[chosen, WITH] != bank.frames[chosen, WITHOUT]).any(-1))
        if len(rows):
            corner = (columns.min() - 1.5, rows.min() - 1.5)
            size = (np.ptp(columns) + 3, np.ptp(rows) + 3)
            axes[0].add_patch(Rectangle(corner, *size, fill=False, linewidth=0.8, edgecolor=MARK))
