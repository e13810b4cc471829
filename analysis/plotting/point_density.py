"""Rasterised scatter plots: fast for any number of points."""

import numpy as np

WHITE = np.array([255, 255, 255], np.float32)


def data_limits(points: np.ndarray, margin: float = 0.03) -> np.ndarray:
    """Range [2, dims] of points [n, dims] between the 0.1% and 99.9% quantiles, with a margin."""
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    room = np.maximum(high - low, 1e-6) * margin
    return np.stack([low - room, high + room])


def raster(
    points: np.ndarray,
    colors: np.ndarray,
    bounds: np.ndarray,
    size: tuple[int, int],
    radius: int = 2,
    ground: np.ndarray | None = None,
) -> np.ndarray:
    """Picture [height, width, 3] uint8 of points as discs, later ones on top, y upwards.

    Args:
        points: [n, 2].
        colors: [n, 3] in 0-255.
        bounds: lowest and highest x and y [2, 2]; points outside are dropped.
        size: (width, height) in pixels.
        radius: of a disc, in pixels.
        ground: picture to draw on; default: white.
    """
    width, height = size
    picture = np.full((height, width, 3), 255, np.uint8) if ground is None else ground.copy()
    scaled = (points - bounds[0]) / (bounds[1] - bounds[0]) * [width, height]
    column, row = np.floor(scaled).astype(int).T
    row = height - 1 - row
    seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row, colors = column[seen], row[seen], np.asarray(colors)[seen]
    offsets = [
        (dy, dx)
        for dy in range(-radius, radius + 1)
        for dx in range(-radius, radius + 1)
        if dy**2 + dx**2 <= radius**2 + 1.2
    ]
    places = np.stack(
        [(row[:, None] + np.array(offsets)[:, 0]), (column[:, None] + np.array(offsets)[:, 1])]
    )  # [2, n, discs]
    inside = (places[0] >= 0) & (places[0] < height) & (places[1] >= 0) & (places[1] < width)
    owner = np.broadcast_to(np.arange(len(column))[:, None], inside.shape)
    flat = (places[0] * width + places[1])[inside]
    top = np.full(height * width, -1)
    np.maximum.at(top, flat, owner[inside])
    covered = top >= 0
    picture.reshape(-1, 3)[covered] = colors[top[covered]]
    return picture


def rotate_points(points: np.ndarray, azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray]:
    """Orthographic view of points [n, 3] from an angle in degrees: positions [n, 2] and depths [n]."""
    a, e = np.deg2rad([azimuth, elevation])
    right = np.array([-np.sin(a), np.cos(a), 0])
    toward = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    up = np.cross(toward, right)
    return points @ np.stack([right, up], 1), points @ toward
