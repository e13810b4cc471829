"""Names beside points of a scatter plot, placed so that none lies on another: points that coincide share one label."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

_COINCIDE, _MARKER, _LINE = 7.0, 5.0, 2.0  # pixels: points that share a label; half a marker's side; half the breadth kept clear of a line
_DISTANCES = (5, 9, 14, 20, 27, 36, 48)  # points, from a point to its label
_WAYS = (("left", "bottom", 1, 1), ("left", "top", 1, -1), ("right", "bottom", -1, 1), ("right", "top", -1, -1), ("center", "bottom", 0, 1),
         ("center", "top", 0, -1), ("left", "center", 1, 0), ("right", "center", -1, 0))  # fmt: skip
_LEADER = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}


def name_points(axis: Axes, points: np.ndarray, names: Sequence[str], ends: np.ndarray, fontsize: float = 7) -> None:
    """Writes the name of each of points [n, 2] beside it, clear of all points and of the lines from each to its end in ends [n, 2].

    Call it last: the layout must stand.
    """
    axis.figure.draw_without_rendering()
    renderer = FigureCanvasAgg(axis.figure).get_renderer()
    pixels, far = axis.transData.transform(points), axis.transData.transform(ends)
    taken = np.concatenate([boxes(np.concatenate([pixels, far]), _MARKER), *(boxes(along(*line), _LINE) for line in zip(pixels, far))])
    for group in coinciding(pixels, _COINCIDE):
        text = ", ".join(names[i] for i in group)
        taken = np.concatenate([taken, _place(axis, renderer, points[group].mean(0), text, taken, fontsize)[None]])


def coinciding(pixels: np.ndarray, near: float) -> list[list[int]]:
    """Rows of pixels [n, 2] in groups, in which each lies within `near` of another."""
    groups: list[list[int]] = []
    for i, pixel in enumerate(pixels):
        close = [group for group in groups if np.hypot(*(pixels[group] - pixel).T).min() <= near]
        groups = [group for group in groups if group not in close] + [sorted([i, *(j for group in close for j in group)])]
    return sorted(groups)


def pushed_apart(centres: np.ndarray, size: np.ndarray, rounds: int = 400) -> np.ndarray:
    """Centres [n, 2] of boxes of `size` [2], moved as little as it takes until no two overlap: each pair in turn, the shorter way."""
    moved = centres.astype(np.float64)
    for _ in range(rounds):
        still = True
        for i in range(len(moved)):
            for j in range(i):
                gap = moved[i] - moved[j]
                lacking = size - np.abs(gap)
                if (lacking > 1e-9).all():
                    way = int(lacking.argmin())
                    push = (lacking[way] / 2 + 1e-9) * (1 if gap[way] >= 0 else -1)
                    moved[i, way] += push
                    moved[j, way] -= push
                    still = False
        if still:
            break
    return moved


def boxes(centres: np.ndarray, half: float) -> np.ndarray:
    """Squares [n, 4] as (left, bottom, right, top) around centres [n, 2]."""
    return np.concatenate([centres - half, centres + half], 1)


def along(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Points [m, 2] along a line, no further apart than the squares around them are wide."""
    return np.linspace(start, end, int(np.hypot(*(end - start)) / (2 * _LINE)) + 2)


def _place(axis: Axes, renderer, point: np.ndarray, text: str, taken: np.ndarray, fontsize: float) -> np.ndarray:
    """Writes one label at the place, of _DISTANCES and _WAYS, that overlaps boxes taken [n, 4] least, the nearest of equals.

    Returns its box [4] in pixels.
    """
    best, kept = np.inf, None
    for distance in _DISTANCES:
        for ha, va, right, up in _WAYS:
            look = {"textcoords": "offset points", "ha": ha, "va": va, "fontsize": fontsize, "zorder": 5}
            leader = _LEADER if distance > _DISTANCES[1] else None
            label = axis.annotate(text, point, (distance * right, distance * up), arrowprops=leader, **look)
            label.set_in_layout(False)
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer).extents  # without the leader
            cost = _shared(box, taken).sum() + _outside(box, axis.bbox.extents)
            if cost < best:
                if kept is not None:
                    kept[0].remove()
                best, kept = cost, (label, box)
            else:
                label.remove()
            if best == 0:
                return kept[1]
    return kept[1]


def _shared(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area [n] that a box [4] shares with each of others [n, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return sides.clip(0).prod(1)


def _outside(box: np.ndarray, frame: np.ndarray) -> float:
    return (box[2:] - box[:2]).prod() - _shared(box, frame[None])[0]
