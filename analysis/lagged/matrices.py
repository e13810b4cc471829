"""Matrices of scores by scores: heat-maps with names, marks of what is significant, and one colour bar."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

COLOURS = "RdBu_r"
NAMED = 36
"""Largest number of scores whose names fit along a matrix."""
_UNKNOWN = "#dddddd"


class FigureText(NamedTuple):
    """Caption of a figure: its first sentence, the sample size and the levels."""

    first: str
    n: str
    levels: str


def named(names: Sequence[str]) -> bool:
    """Whether the names of the scores fit along a matrix."""
    return len(names) <= NAMED


def show_matrix(ax, values: np.ndarray, order: np.ndarray, limit: float, grey: bool = False):
    """Draws values [K, K], rows and columns in an order [K]: see `show_values`."""
    return show_values(ax, values[np.ix_(order, order)], limit, grey)


def show_values(ax, values: np.ndarray, limit: float, grey: bool = False):
    """Draws values [rows, columns] on a scale from -limit to limit; unknown ones are grey.

    grey: they cannot be trusted, and their magnitudes are drawn without colour.
    """
    if grey:
        image = ax.imshow(np.abs(values), cmap="Greys", vmin=0, vmax=2 * limit)
    else:
        image = ax.imshow(values, cmap=COLOURS, vmin=-limit, vmax=limit)
    ax.set_facecolor(_UNKNOWN)
    ax.grid(False)
    return image


def name_scores(ax, names: Sequence[str]) -> None:
    """Writes the names of the scores along both axes."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(range(len(names)), names, fontsize=min(5, 115 / len(names)))
    ax.tick_params("x", rotation=90)


def mark(ax, significant: np.ndarray, order: np.ndarray, **look) -> None:
    """Dots at significant entries [K, K]."""
    rows, columns = np.nonzero(significant[np.ix_(order, order)])
    ax.scatter(columns, rows, **({"s": 60 / len(order), "color": "#111111", "linewidths": 0} | look))


def finish_grid(figure, axes: np.ndarray, count: int, image, label: str, extend: bool) -> None:
    """Removes the panels after the first `count`, and adds one colour bar for all."""
    for ax in axes.flat[count:]:
        ax.remove()
    ends = "both" if extend else "neither"
    figure.colorbar(image, ax=list(axes.flat[:count]), shrink=0.6, label=label, extend=ends)


def scale_of(values: np.ndarray, share: float = 0.99) -> float:
    """End of a colour scale: this quantile of |values|, to two digits."""
    known = np.abs(values[np.isfinite(values)])
    end = float(np.quantile(known, share)) if known.size else 0.0
    return float(f"{end:.2g}") or 1.0
