"""Figure of a policy field: arrows of the expected move on the drawn level, the value behind, and differences
on one scale.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.interventions.policy_fields import EDITED, MOVED, ORIGINAL, field_of
from analysis.plotting.style import add_caption, new_figure, save_figure
from common.words import counted

PANEL_WIDTH = 6.2
VALUES, CHANGES = "viridis", "RdBu_r"
BLANK = "#f2f2f2"
ARROW = 0.85
"""Length in tiles of a sure move to one side."""


class Panel(NamedTuple):
    """What one panel shows: a title, a picture of the level, an arrow [P, 2] and a number [P] per place."""

    title: str
    picture: np.ndarray
    arrows: np.ndarray
    values: np.ndarray


def panels(numbers: dict, drawn: dict[str, np.ndarray]) -> tuple[list[Panel], list[Panel]]:
    """Fields, and differences from the original one; the first is that of showing a frame fewer times."""
    shown, moves = numbers["asked"]["frames_shown"], np.array(numbers["drawn"]["moves"])
    variants = [ORIGINAL, MOVED] + [EDITED] * (f"{EDITED}/{shown}/value" in drawn)
    fields = {name: field_of(drawn, name, shown) for name in variants}
    base = fields[ORIGINAL]

    def panel(title: str, name: str, field, less=None) -> Panel:
        picture = drawn[f"picture/{name}" if name == MOVED else f"picture/{ORIGINAL}"]
        arrows, values = field.expected_move(moves), field.value
        if less is not None:
            arrows, values = arrows - less.expected_move(moves), values - less.value
        return Panel(title, picture, arrows, values)

    once = min((int(one) for one in numbers["frames_shown"]), default=shown)
    title = f"frame shown {counted(once, 'time')} less {counted(shown, 'time')}"
    changes = [panel(title, ORIGINAL, field_of(drawn, ORIGINAL, once), base)]
    changes += [panel(f"{name} less original", name, fields[name], base) for name in variants[1:]]
    return [panel(name, name, field) for name, field in fields.items()], changes


def draw(numbers: dict, drawn: dict[str, np.ndarray], path: Path) -> Path:
    """The figure: fields on the left, differences on the right."""
    left, right, bottom, top = numbers["drawn"]["extent"]
    height = PANEL_WIDTH * (top - bottom) / (right - left) + 0.3
    fields, changes = panels(numbers, drawn)
    figure, axes = new_figure(len(fields), 2, panel=(PANEL_WIDTH + 0.45, height))
    limits = {0: _value_limits(fields), 1: _change_limits(changes)}
    for column, (part, colours) in enumerate(((fields, VALUES), (changes, CHANGES))):
        for axis, panel in zip(axes[:, column], part):
            image = draw_panel(axis, panel, drawn, numbers["drawn"]["extent"], colours, limits[column])
        label = ("value", "change of the value")[column]
        figure.colorbar(image, ax=axes[:, column], fraction=0.02, pad=0.01, label=label, shrink=0.7)
    shown = numbers["asked"]["frames_shown"]
    text = (
        "The agent at every place of a level where the player fits. Arrows: its expected move, by effect "
        "class; an arrow one tile long is a sure move (the same scale in all panels, differences too). The "
        f"agent sees the frame of a place {shown} times from a state of zeros, as if it had stood there. "
        "Left: fields. Right: differences on one scale."
    )
    if numbers.get("beyond"):
        shares = ", ".join(f"{name} {share[0]:.0%}" for name, share in numbers["beyond"].items())
        over = counted(len(numbers["levels"]), "level")
        text += f" States beyond the 99th percentile of recorded ones, over {over}: {shares}."
    n = f"{numbers['drawn']['places']} places of one level, one agent"
    add_caption(figure, text, n, f"{numbers['drawn']['level']}")
    return save_figure(figure, path)[0]


def _value_limits(fields: list[Panel]) -> tuple[float, float]:
    values = np.concatenate([panel.values for panel in fields])
    return float(values.min()), float(values.max())


def _change_limits(changes: list[Panel]) -> tuple[float, float]:
    end = float(np.abs(np.concatenate([panel.values for panel in changes])).max()) or 1.0
    return -end, end


def cell_values(values: np.ndarray, x: np.ndarray, y: np.ndarray, extent: list[int]) -> np.ndarray:
    """Numbers [P] of places as an image [rows, columns] of the extent, lowest row first; NaN elsewhere."""
    left, right, bottom, top = extent
    image = np.full((top - bottom, right - left), np.nan)
    rows, columns = np.floor(y).astype(int) - bottom, np.floor(x).astype(int) - left
    inside = rows < len(image)
    image[rows[inside], columns[inside]] = values[inside]
    return image


def draw_panel(axis, panel: Panel, drawn: dict, extent: list[int], colours: str, limits: tuple):
    """One panel; returns the image of its values."""
    x, y = drawn["x"], drawn["y"]
    axis.set_facecolor(BLANK)
    image = axis.imshow(
        cell_values(panel.values, x, y, extent), cmap=colours, vmin=limits[0], vmax=limits[1], extent=extent,
        origin="lower", aspect="equal",
    )  # fmt: skip
    seen = (panel.picture > 0).any(-1)
    axis.imshow(np.dstack([panel.picture, 255 * seen.astype(np.uint8)]), extent=extent, aspect="equal")
    axis.quiver(
        x, y, *panel.arrows.T, angles="xy", scale_units="xy", scale=1 / ARROW, pivot="mid", color="white",
        edgecolor="black", linewidth=0.35, width=0.0032, headwidth=3.6, headlength=3.6, headaxislength=3.2,
    )  # fmt: skip
    axis.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_title(panel.title, fontsize=9)
    return image
