"""Arrows for actions: the direction that an action's name says, and a picture of it."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
_WORDS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_SUPERSAMPLING = 8  # for smooth edges
_HEAD_ANGLE = np.deg2rad(145)


def arrow_direction(name: str) -> tuple[int, int] | None:
    """Direction on the screen of an action's name, (x to the right, y downwards): "up-left" -> (-1, -1).

    (0, 0) for "none"; None for a name without a direction, such as "key-d".
    """
    if name == "none":
        return 0, 0
    words = name.split("-")
    if not all(word in _WORDS for word in words):
        return None
    return sum(_WORDS[word][0] for word in words), sum(_WORDS[word][1] for word in words)


@lru_cache(maxsize=256)
def arrow(
    direction: tuple[int, int], size: int, color: Color = (255, 255, 255), ground: Color = (0, 0, 0)
) -> np.ndarray:
    """Picture [size, size, 3] uint8 of an arrow, a dot for (0, 0). The array is cached and read-only."""
    side = size * _SUPERSAMPLING
    picture = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(picture)
    middle = np.array([side / 2, side / 2])
    if direction == (0, 0):
        radius = side * 0.1
        # Pillow counts the lower right corner as inside
        draw.ellipse([*(middle - radius), *(middle + radius - 1)], fill=color)
    else:
        _draw_arrow(draw, middle, np.array(direction) / np.hypot(*direction), side, color)
    drawn = np.asarray(picture.resize((size, size), Image.Resampling.BOX))
    drawn.setflags(write=False)
    return drawn


def _draw_arrow(draw: ImageDraw.ImageDraw, middle: np.ndarray, unit: np.ndarray, side: float, color) -> None:
    """A shaft through the middle with a filled head; `unit` is the direction, of length one."""
    tip = middle + unit * side * 0.4
    tail = middle - unit * side * 0.36
    neck = tip - unit * side * 0.2
    draw.line([*tail, *neck], fill=color, width=max(round(side * 0.12), 1))
    corners = [tip + side * 0.42 * _rotate(unit, angle) for angle in (_HEAD_ANGLE, -_HEAD_ANGLE)]
    draw.polygon([tuple(point) for point in (tip, *corners)], fill=color)


def _rotate(vector: np.ndarray, angle: float) -> np.ndarray:
    cos = np.cos(angle)
    sin = np.sin(angle)
    return np.array([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]])
