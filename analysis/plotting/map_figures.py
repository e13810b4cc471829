"""Figures of a map: grids of colourings, episode paths, single clusters, real and simulated states."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from analysis.plotting.colourings import CLASSES, ColouredPoints, Colouring, Scale, colour, short
from analysis.plotting.label_placement import push_apart
from analysis.plotting.point_density import data_limits, raster
from analysis.plotting.style import NULL, REAL, SIMULATED, add_caption, new_figure, save_figure

TITLES = {"pca": ("PC 1", "PC 2"), "tsne": ("t-SNE 1", "t-SNE 2"), "umap": ("UMAP 1", "UMAP 2")}
_PIXELS = 560  # of a panel's side
_NUMBER = 6.5  # points: size of a cluster's number
_SIDE = 165  # points, at least: a panel's side
_ROOM = 40  # cluster numbers that fit into a panel
_HOP = 0.12  # fraction of the map; longer jumps between steps are faint lines
_MANY = 8000  # points that are drawn smaller
_PALE = 228.0  # grey level of background points
_CLOCK = ListedColormap(
    matplotlib.colormaps["plasma"](np.linspace(0, 0.88, 256)), "clock"
)  # without yellow, which is invisible on white
_OUTLINE = [withStroke(linewidth=2.2, foreground="white")]


class Caption(NamedTuple):
    """Sample size and levels, in words."""

    n: str
    levels: str


def draw_grid(
    kind: str,
    points: np.ndarray,
    labels: Mapping[str, np.ndarray],
    colourings: Sequence[Colouring],
    names: list[str],
    caption: Caption,
    path: Path,
) -> Path:
    """One panel per colouring of the same points.

    Args:
        kind: of the map.
        points: [n, 2].
        labels: {label: [n]}.
        colourings: of the panels.
        names: of the actions.
        caption: sample size and levels.
        path: of the figure.
    """
    columns = 4 if len(colourings) > 9 else 3
    figure, axes = new_figure(-(-len(colourings) // columns), columns, panel=(3.1, 3.4))
    bounds = data_limits(points)
    for axis, colouring in zip(axes.flat, colourings):
        values = labels[colouring.label]
        numbered = colouring.label == "cluster"
        painted = colour(colouring, values, names, numbered_at=points if numbered else None)
        show_cloud(
            axis,
            raster(
                points[painted.order], painted.rgb[painted.order], bounds, (_PIXELS, _PIXELS), _radius(points)
            ),
            bounds,
            kind,
        )
        axis.set_title(colouring.title)
        _key(figure, axis, painted, len(points))
        if numbered:
            _number(axis, points, values)
    for axis in axes.flat[len(colourings) :]:
        axis.set_axis_off()
    text = (
        "Every point is a step, the same points in every panel, in random drawing order (set flags on top). "
        f"Of more than {len(CLASSES)} classes, the largest have colours of their own; numbered clusters "
        "repeat colours far apart."
    )
    if len(np.unique(labels.get("cluster", ()))) > _ROOM:
        text += f" The {_ROOM} largest clusters are numbered."
    add_caption(figure, text, *caption)
    return save_figure(figure, path)[0]


def show_cloud(axis: Axes, picture: np.ndarray, bounds: np.ndarray, kind: str) -> None:
    """Draws a rasterised cloud into an axis with the map's units."""
    (left, low), (right, high) = bounds
    axis.imshow(picture, extent=(left, right, low, high), aspect="auto", interpolation="antialiased")
    axis.set(xlabel=TITLES[kind][0], ylabel=TITLES[kind][1], xticks=[], yticks=[], box_aspect=1)
    axis.grid(False)


def draw_paths(
    kind: str, ground: np.ndarray, paths: Sequence[tuple[str, np.ndarray]], caption: Caption, path: Path
) -> Path:
    """One panel per episode: its steps, coloured by time, over all steps in grey.

    Args:
        kind: of the map.
        ground: all steps [n, 2].
        paths: (title, steps [T, 2]) of each episode.
        caption: sample size and levels.
        path: of the figure.
    """
    columns = min(len(paths), 4)
    figure, axes = new_figure(-(-len(paths) // columns), columns, panel=(max(3.1, 6.4 / columns), 3.1))
    bounds = data_limits(np.concatenate([ground, *(steps for _, steps in paths)]))
    cloud = raster(ground, np.full((len(ground), 3), _PALE), bounds, (_PIXELS, _PIXELS))
    latest = max(len(steps) for _, steps in paths) - 1
    clock = ScalarMappable(Normalize(0, max(latest, 1)), _CLOCK)
    for axis, (title, steps) in zip(axes.flat, paths):
        show_cloud(axis, cloud, bounds, kind)
        _draw_path(axis, steps, clock, _HOP * np.hypot(*(bounds[1] - bounds[0])))
        axis.set_title(title, fontsize=7.5)
    for axis in axes.flat[len(paths) :]:
        axis.set_axis_off()
    figure.colorbar(clock, ax=axes, label="step of episode", shrink=0.8, aspect=30)
    text = (
        "One episode per panel, projected onto the map of all steps (grey). Dots: steps, coloured by time; "
        f"circle: first step; square: last. Faint lines: jumps over more than {_HOP:.0%} of the map, which "
        "preserves neighbourhoods, not distances."
    )
    add_caption(figure, text, *caption)
    return save_figure(figure, path)[0]


def _draw_path(axis: Axes, steps: np.ndarray, clock: ScalarMappable, hop: float) -> None:
    """Steps [T, 2] as dots joined by lines, coloured by time; jumps longer than `hop` are faint."""
    colors = clock.to_rgba(np.arange(len(steps)))
    jumps = np.hypot(*np.diff(steps, axis=0).T) > hop
    if len(jumps):  # an episode of one step has no line
        look = {"linewidths": np.where(jumps, 0.4, 1.2), "alpha": np.where(jumps, 0.18, 0.8)}
        lines = np.stack([steps[:-1], steps[1:]], 1)
        axis.add_collection(LineCollection(lines, colors=colors[:-1], zorder=2, **look))
    axis.scatter(*steps.T, s=11, c=colors, linewidths=0, zorder=3)
    ends = {"s": 42, "edgecolors": "#222222", "linewidths": 1.1, "zorder": 4}
    axis.scatter(*steps[:1].T, marker="o", c=colors[:1], **ends)
    axis.scatter(*steps[-1:].T, marker="s", c=colors[-1:], **ends)


def draw_worlds(
    maps: Mapping[str, Mapping[str, np.ndarray]], notes: Mapping[str, str], caption: Caption, path: Path
) -> Path:
    """Real and simulated states in every map.

    Args:
        maps: {kind: {"real": [n, 2], "simulated": [m, 2]}}.
        notes: {kind: text after the number of simulated states}.
        caption: sample size and levels.
        path: of the figure.
    """
    figure, axes = new_figure(2, len(maps), panel=(3.4, 3.5))
    for column, (kind, arrays) in enumerate(maps.items()):
        bounds = data_limits(np.concatenate([arrays["real"], arrays["simulated"]]))
        pale = raster(
            arrays["real"],
            np.tile(_rgb(NULL) + (255 - _rgb(NULL)) * 0.5, (len(arrays["real"]), 1)),
            bounds,
            (_PIXELS, _PIXELS),
        )
        few = np.random.default_rng(0).permutation(len(arrays["real"]))[: len(arrays["simulated"])]
        for axis, shown, look in zip(
            axes[:, column], (arrays["real"][few], arrays["simulated"]), (REAL, SIMULATED)
        ):
            show_cloud(
                axis,
                raster(shown, np.tile(_rgb(look), (len(shown), 1)), bounds, (_PIXELS, _PIXELS), ground=pale),
                bounds,
                kind,
            )
        axes[0, column].set_title(f"{len(few):,} real", fontsize=9)
        simulated = f"{len(arrays['simulated']):,} simulated"
        axes[1, column].set_title(f"{simulated}; {notes[kind]}" if kind in notes else simulated, fontsize=9)
    text = (
        "Grey: all real states of the map. Blue: a random sample of them, as large as the simulated one at "
        "most. Orange: simulated states, projected onto the map."
    )
    add_caption(figure, text, *caption)
    return save_figure(figure, path)[0]


def draw_cluster(
    maps: Mapping[str, np.ndarray],
    member: np.ndarray,
    frames: np.ndarray,
    title: str,
    facts: str,
    caption: Caption,
    path: Path,
) -> Path:
    """One cluster: its members in every map, and some of their frames.

    Args:
        maps: {kind: [n, 2]}.
        member: [n] bool.
        frames: of members [M, H, W, C].
        title: of the figure.
        facts: first sentences of the caption.
        caption: sample size and levels.
        path: of the figure.
    """
    figure, axes = new_figure(1, len(maps) + 1, panel=(3.0, 3.1), width_ratios=[1] * len(maps) + [1.5])
    for axis, (kind, points) in zip(axes[0], maps.items()):
        bounds = data_limits(points)
        rgb = np.where(member[:, None], _rgb(REAL), 215.0)
        order = np.argsort(member, kind="stable")
        show_cloud(axis, raster(points[order], rgb[order], bounds, (_PIXELS, _PIXELS)), bounds, kind)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    axes[0, -1].imshow(montage(frames))
    axes[0, -1].set_axis_off()
    axes[0, -1].set_title("random members")
    add_caption(figure, facts, *caption)
    return save_figure(figure, path)[0]


def montage(frames: np.ndarray, columns: int = 6, gap: int = 2) -> np.ndarray:
    """Frames [n, H, W, C] in rows of `columns`, on white: [height, width, C]."""
    n, height, width, channels = frames.shape
    rows = max(1, -(-n // columns))
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i, frame in enumerate(frames):
        y = i // columns * (height + gap)
        x = i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = frame
    return sheet


def _radius(points: np.ndarray) -> int:
    return 3 if len(points) < _MANY else 2


def _rgb(look: Mapping[str, str]) -> np.ndarray:
    return np.array(to_rgb(look["color"])) * 255


def _key(figure, axis: Axes, painted: ColouredPoints, n: int) -> None:
    """Colour bar or legend of a panel; nothing for classes that are numbered in the map."""
    if isinstance(painted.key, Scale):
        bar = figure.colorbar(
            painted.key.mappable(), cax=axis.inset_axes((0.1, -0.16, 0.8, 0.035)), orientation="horizontal"
        )
        if painted.key.log:
            bar.set_ticks(painted.key.marks(4), labels=[short(mark) for mark in painted.key.marks(4)])
            bar.minorticks_off()
        bar.ax.tick_params(labelsize=7)
    elif painted.key:
        marks = [
            Line2D([], [], marker="o", linestyle="", color=look, markersize=4, label=name)
            for name, look in painted.key
        ]
        columns = 8 if painted.key[0][0].isdigit() else 3
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.09), "ncols": min(columns, len(marks))}
        axis.legend(handles=marks, **below, handletextpad=0.1, columnspacing=0.8, fontsize=7)


def _number(axis: Axes, points: np.ndarray, labels: np.ndarray) -> None:
    """Numbers of the _ROOM largest clusters at the median of their members, pushed apart if they overlap."""
    kinds, counts = np.unique(labels, return_counts=True)
    clusters = np.sort(kinds[np.argsort(-counts, kind="stable")[:_ROOM]])
    middles = np.stack([np.median(points[labels == cluster], 0) for cluster in clusters])
    digits = len(str(clusters.max()))
    sides = np.array([np.ptp(axis.get_xlim()), np.ptp(axis.get_ylim())])
    for cluster, (x, y) in zip(
        clusters, push_apart(middles, sides * _NUMBER * np.array([0.7 * digits + 0.15, 1.15]) / _SIDE)
    ):
        axis.text(
            x,
            y,
            str(cluster),
            fontsize=_NUMBER,
            fontweight="bold",
            ha="center",
            va="center",
            path_effects=_OUTLINE,
        )
