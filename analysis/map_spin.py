"""The rotating animation: points on three axes, seen from all sides, coloured by one variable."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from analysis.cloud import limits, raster, turned
from analysis.colourings import Coloured, Scale, short
from analysis.pen import Pen
from common.video import write_video

SIZE, TITLE, KEY = 440, 26, 30
FRAMES, FPS, ELEVATION = 72, 12, 30


def write_spin(points: np.ndarray, painted: Coloured, title: str, path: Path) -> Path:
    """An mp4 of points [n, 3], once around in six seconds."""
    low, high = limits(points)
    inside = ((points >= low) & (points <= high)).all(1)
    unit = ((points[inside] - low) / (high - low) - 0.5) * 2
    rgb, key = painted.rgb[inside], _key_strip(painted)
    head = _words(title)

    def frames():
        for azimuth in np.arange(FRAMES) * 360 / FRAMES:
            flat, depth = turned(unit, azimuth, ELEVATION)
            order = np.argsort(depth)
            shade = 0.55 + 0.45 * (depth[order] - depth.min()) / np.ptp(depth)  # farther points are paler
            faded = 255 - (255 - rgb[order]) * shade[:, None]
            yield np.concatenate([head, raster(flat[order], faded, np.array([[-1.3, -1.2], [1.3, 1.2]]), (SIZE, SIZE - TITLE - KEY + 40), 1), key])

    write_video(path, frames(), FPS)
    return path


def _words(text: str) -> np.ndarray:
    picture = Image.new("RGB", (SIZE, TITLE), "white")
    Pen(picture, 1).text((8, TITLE / 2), text, 13, (40, 40, 40))
    return np.asarray(picture)


def _key_strip(painted: Coloured) -> np.ndarray:
    """What the colours mean: a scale with its ends, or the first classes by name."""
    picture = Image.new("RGB", (SIZE, KEY), "white")
    pen = Pen(picture, 1)
    if isinstance(painted.key, Scale):
        low, high, name, log = painted.key
        bar = (matplotlib.colormaps[name](np.linspace(0, 1, 160))[None, :, :3] * 255).astype(np.uint8).repeat(10, 0)
        picture.paste(Image.fromarray(bar), (SIZE // 2 - 80, 8))
        pen.text((SIZE // 2 - 88, 13), short(low), 11, (40, 40, 40), "rm")
        pen.text((SIZE // 2 + 88, 13), f"{short(high)}{', log scale' * log}", 11, (40, 40, 40), "lm")
    elif len(painted.key) <= 10:
        for i, (name, look) in enumerate(painted.key):
            x, y = 8 + (i % 5) * SIZE / 5, 8 + i // 5 * 14
            pen.box((x, y - 4, x + 8, y + 4), tuple(round(part * 255) for part in look))
            pen.text((x + 12, y), name, 11, (40, 40, 40))
    return np.asarray(picture)
