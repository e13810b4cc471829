"""Names beside points of a scatter plot, placed so that none lies on another: points that coincide share one
label.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

_COINCIDE = 7.0  # pixels: points that share a label; half a marker's side
_MARKER = 5.0
_DISTANCES = (5, 9, 14, 20, 27, 36, 48)  # points, from a point to its label
_WAYS = (
    ("left", "bottom", 1, 1),
    ("left", "top", 1, -1),
    ("right", "bottom", -1, 1),
    ("right", "top", -1, -1),
    ("center", "bottom", 0, 1),
    ("center", "top", 0, -1),
    ("left", "center", 1, 0),
    ("right", "center", -1, 0),
)
_LEADER = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}


def name_points(
    axis: Axes, points: np.ndarray, names: Sequence[str], others: np.ndarray, fontsize: float = 7
) -> None:
    """Writes the name of each of points [n, 2] beside it, clear of all points and of others [m, 2]. Call it
    last: the layout must stand.
    """
    axis.figure.draw_without_rendering()
    renderer = FigureCanvasAgg(axis.figure).get_renderer()
    pixels = axis.transData.transform(points)
    taken = [_box(pixel) for pixel in np.concatenate([pixels, axis.transData.transform(others)])]
    for group in coinciding(pixels, _COINCIDE):
        text = ", ".join(names[i] for i in group)
        taken.append(_place(axis, renderer, points[group].mean(0), text, taken, fontsize))


def coinciding(pixels: np.ndarray, near: float) -> list[list[int]]:
    """Rows of pixels [n, 2] in groups, in which each lies within `near` of another."""
    groups: list[list[int]] = []
    for i, pixel in enumerate(pixels):
        close = [group for group in groups if np.hypot(*(pixels[group] - pixel).T).min() <= near]
        groups = [group for group in groups if group not in close] + [
            sorted([i, *(j for group in close for j in group)])
        ]
    return sorted(groups)


def pushed_apart(centres: np.ndarray, size: np.ndarray, rounds: int = 400) -> np.ndarray:
    """Centres [n, 2] of boxes of `size` [2], moved as little as it takes until no two overlap: each pair in
    turn, the shorter way.
    """
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


def _place(axis: Axes, renderer, point: np.ndarray, text: str, taken: list[Bbox], fontsize: float) -> Bbox:
    """Writes one label at the place, of _DISTANCES and _WAYS, that overlaps least, the nearest of equals.
    Returns its box in pixels.
    """
    best = np.inf
    kept = None
    for distance in _DISTANCES:
        for ha, va, right, up in _WAYS:
            look = {"textcoords": "offset points", "ha": ha, "va": va, "fontsize": fontsize, "zorder": 5}
            leader = _LEADER if distance > _DISTANCES[1] else None
            label = axis.annotate(text, point, (distance * right, distance * up), arrowprops=leader, **look)
            label.set_in_layout(False)
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer)  # without the leader
            cost = sum(_shared(box, other) for other in taken) + _outside(box, axis.bbox)
            if cost < best:
                if kept is not None:
                    kept[0].remove()
                best = cost
                kept = (label, box)
            else:
                label.remove()
            if best == 0:
                return kept[1]
    return kept[1]


def _box(pixel: np.ndarray) -> Bbox:
    return Bbox([pixel - _MARKER, pixel + _MARKER])


def _shared(one: Bbox, other: Bbox) -> float:
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else both.width * both.height


def _outside(box: Bbox, frame: Bbox) -> float:
    return box.width * box.height - _shared(box, frame)
