"""Rotating animation of points on three axes, coloured by one variable."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from analysis.plotting.colourings import ColouredPoints, Scale, short
from analysis.plotting.point_density import data_limits, raster, rotate_points
from analysis.rendering.pen import Pen
from common.video import write_video

SIZE = 440
TITLE = 26
KEY = 30
FRAMES = 72
FPS = 12
ELEVATION = 30


def write_rotation(points: np.ndarray, painted: ColouredPoints, title: str, path: Path) -> Path:
    """An mp4 of points [n, 3], one rotation in six seconds."""
    low, high = data_limits(points)
    inside = ((points >= low) & (points <= high)).all(1)
    unit = ((points[inside] - low) / (high - low) - 0.5) * 2
    rgb = painted.rgb[inside]
    key = _key_strip(painted)
    head = _words(title)

    def frames():
        for azimuth in np.arange(FRAMES) * 360 / FRAMES:
            flat, depth = rotate_points(unit, azimuth, ELEVATION)
            order = np.argsort(depth)
            shade = 0.55 + 0.45 * (depth[order] - depth.min()) / np.ptp(depth)  # farther points are paler
            faded = 255 - (255 - rgb[order]) * shade[:, None]
            yield np.concatenate(
                [
                    head,
                    raster(
                        flat[order],
                        faded,
                        np.array([[-1.3, -1.2], [1.3, 1.2]]),
                        (SIZE, SIZE - TITLE - KEY + 40),
                        1,
                    ),
                    key,
                ]
            )

    write_video(path, frames(), FPS)
    return path


def _words(text: str) -> np.ndarray:
    picture = Image.new("RGB", (SIZE, TITLE), "white")
    Pen(picture, 1).text((8, TITLE / 2), text, 13, (40, 40, 40))
    return np.asarray(picture)


def _key_strip(painted: ColouredPoints) -> np.ndarray:
    """Legend: a scale with its range, or up to ten classes by name."""
    picture = Image.new("RGB", (SIZE, KEY), "white")
    pen = Pen(picture, 1)
    if isinstance(painted.key, Scale):
        low, high, name, log = painted.key
        bar = (
            (matplotlib.colormaps[name](np.linspace(0, 1, 160))[None, :, :3] * 255)
            .astype(np.uint8)
            .repeat(10, 0)
        )
        picture.paste(Image.fromarray(bar), (SIZE // 2 - 80, 8))
        pen.text((SIZE // 2 - 88, 13), short(low), 11, (40, 40, 40), "rm")
        pen.text((SIZE // 2 + 88, 13), f"{short(high)}{', log scale' * log}", 11, (40, 40, 40), "lm")
    elif len(painted.key) <= 10:
        for i, (name, look) in enumerate(painted.key):
            x = 8 + (i % 5) * SIZE / 5
            y = 8 + i // 5 * 14
            pen.box((x, y - 4, x + 8, y + 4), tuple(round(part * 255) for part in look))
            pen.text((x + 12, y), name, 11, (40, 40, 40))
    return np.asarray(picture)
