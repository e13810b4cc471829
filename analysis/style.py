"""The look of every figure: one palette, one type size, captions that name n and levels, and files written whole.

Figures are made without pyplot, so they need no display and leave nothing open.
"""

import logging
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from common.checkpoints import write_atomically
from common.runs import UsageError

REAL = {"color": "#1f5c9e", "linestyle": "-"}
SIMULATED = {"color": "#e0771a", "linestyle": "--"}
NULL = {"color": "#8f8f8f", "linestyle": "-"}
PUBLISHED = {"color": "#b59a6a", "linestyle": "-"}  # results of others, drawn behind ours
GROUPS = ("#1f5c9e", "#2a9d74", "#8a4f9e", "#56a6d8", "#7a5230", "#c2407c")
"""Line colours where several experiments share a panel; the first is that of REAL, none is that of SIMULATED."""

ABOVE = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.99), "ncols": 2, "borderaxespad": 0.1}
"""Where a legend stands that would hide data inside its panel: above it, right of the title."""
ON_DATA = {"frameon": True, "facecolor": "white", "framealpha": 0.85, "edgecolor": "none"}
"""The ground of a legend that may stand over data."""

DPI = 200
FORMATS = ("png", "svg", "pdf")
RULES = {
    "font.family": "DejaVu Sans", "font.size": 9,  # it comes with matplotlib, so figures look the same everywhere
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.edgecolor": "#444444",
    "axes.axisbelow": True, "axes.grid": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.7,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "xtick.color": "#444444", "ytick.color": "#444444",
    "legend.fontsize": 8, "legend.frameon": False, "lines.linewidth": 1.8, "lines.solid_capstyle": "round",
    "figure.facecolor": "white", "savefig.facecolor": "white", "image.interpolation": "nearest",
    "svg.fonttype": "none", "svg.hashsalt": "worldlens", "pdf.fonttype": 42,
}  # fmt: skip
_CAPTION_SIZE = 8
_CHARACTERS_PER_INCH = 15  # of caption text


def new_figure(rows: int = 1, columns: int = 1, panel: tuple[float, float] = (4.0, 2.8), **subplots):
    """A figure and its array of axes [rows, columns]; `panel` is one panel's width and height in inches."""
    matplotlib.rcParams.update(RULES)
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it reports each step of writing a PDF
    figure = Figure(figsize=(columns * panel[0], rows * panel[1]), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def add_caption(figure: Figure, text: str, n: str, levels: str) -> None:
    """Puts a caption below the figure. n: how many of what ("3 seeds"); levels: where they are from ("0-199, easy")."""
    levels = re.sub(r"\d{4,}", lambda digits: f"{int(digits[0]):,}", levels)
    whole = f"{text} n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{n}; levels {levels}."
    width = int(figure.get_figwidth() * _CHARACTERS_PER_INCH)
    figure.supxlabel(textwrap.fill(whole, width), x=0.01, ha="left", fontsize=_CAPTION_SIZE, color="#555555")


def save_figure(figure: Figure, path: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Writes `path` with the ending of each format, each whole or not at all, the same bytes each time. Returns the paths."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"unknown figure format {unknown[0]!r}; choose from: {', '.join(FORMATS)}")
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    paths = [Path(path).with_suffix(f".{name}") for name in formats]
    for target, name in zip(paths, formats):
        write_atomically(target, lambda temporary: figure.savefig(temporary, format=name, dpi=DPI, metadata=undated[name]))
    return paths
