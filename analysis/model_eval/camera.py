"""Where a frame's pixels lie in the world: which of them earlier frames have shown, and what those frames say
of them.

Procgen draws world x at column x * unit - x_off, and world y (upwards) at row (view - y) * unit + y_off; the
four numbers stand in the state bytes. The picture scrolls by fractions of a pixel, so a registered pixel is
right up to the rounding of its place.
"""

from typing import NamedTuple

import numpy as np


class Camera(NamedTuple):
    """How frames were drawn, arrays [...] of one shape. x_off, y_off in pixels; unit in pixels per tile; view
    in tiles.
    """

    x_off: np.ndarray
    y_off: np.ndarray
    unit: np.ndarray
    view: np.ndarray

    def __getitem__(self, index):
        """The cameras at `index` of every frame axis (a field by its name)."""
        return Camera(*(np.asarray(field)[index] for field in tuple(self)))


def columns_to_x(camera: Camera, columns: np.ndarray) -> np.ndarray:
    """World x, in tiles, of the middle of pixel columns [..., C]; a camera [...] for each row of them."""
    x_off, unit = (np.asarray(field)[..., None] for field in (camera.x_off, camera.unit))
    return (columns + 0.5 + x_off) / unit


def rows_to_y(camera: Camera, rows: np.ndarray) -> np.ndarray:
    """World y, in tiles upwards, of the middle of pixel rows [..., R]."""
    y_off, unit, view = (np.asarray(field)[..., None] for field in (camera.y_off, camera.unit, camera.view))
    return view - (rows + 0.5 - y_off) / unit


def x_to_columns(camera: Camera, x: np.ndarray) -> np.ndarray:
    """The column, a float whose whole part is the pixel's number, at which world x [..., C] is drawn."""
    x_off, unit = (np.asarray(field)[..., None] for field in (camera.x_off, camera.unit))
    return x * unit - x_off


def y_to_rows(camera: Camera, y: np.ndarray) -> np.ndarray:
    """The row, a float whose whole part is the pixel's number, at which world y [..., R] is drawn."""
    y_off, unit, view = (np.asarray(field)[..., None] for field in (camera.y_off, camera.unit, camera.view))
    return (view - y) * unit + y_off


def pixel_correspondence(earlier: Camera, later: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The place in earlier frames of every pixel of later ones: columns [..., W] and rows [..., H], whole
    numbers.

    Numbers outside 0 .. size - 1 lie outside the earlier frame. Frames are `size` pixels high and wide.
    """
    pixels = np.arange(size)
    columns = x_to_columns(earlier, columns_to_x(later, pixels))
    rows = y_to_rows(earlier, rows_to_y(later, pixels))
    return np.floor(columns).astype(np.int64), np.floor(rows).astype(np.int64)


def visible_before(earlier: Camera, later: Camera, size: int) -> np.ndarray:
    """Which pixels of later frames show a place that any of K earlier ones showed: earlier [K, ...], later
    [...] -> bool [..., H, W].
    """
    columns, rows = pixel_correspondence(earlier, later, size)
    inside = _inside(rows, size)[..., :, None] & _inside(columns, size)[..., None, :]
    return inside.any(0)


def shifted_copy(frames: np.ndarray, earlier: Camera, later: Camera) -> np.ndarray:
    """Later frames as earlier ones show them: each pixel from the last of K frames that showed its place.

    frames [K, ..., H, W, C], earlier [K, ...], later [...] -> [..., H, W, C]. A place that none showed takes
    the nearest pixel of the last frame (its edge, continued).
    """
    size = frames.shape[-2]
    columns, rows = pixel_correspondence(earlier, later, size)
    out = _gather_pixels(frames[-1], rows[-1].clip(0, size - 1), columns[-1].clip(0, size - 1))
    found = _inside(rows[-1], size)[..., :, None] & _inside(columns[-1], size)[..., None, :]
    for k in range(len(frames) - 2, -1, -1):
        here = _inside(rows[k], size)[..., :, None] & _inside(columns[k], size)[..., None, :]
        older = _gather_pixels(frames[k], rows[k].clip(0, size - 1), columns[k].clip(0, size - 1))
        out = np.where((here & ~found)[..., None], older, out)
        found |= here
    return out


def _inside(pixels: np.ndarray, size: int) -> np.ndarray:
    return (pixels >= 0) & (pixels < size)


def _gather_pixels(frames: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """frames [..., H, W, C] at rows [..., H] and columns [..., W]."""
    frames = np.broadcast_to(frames, (*rows.shape[:-1], *frames.shape[-3:]))
    picked = np.take_along_axis(frames, rows[..., :, None, None], axis=-3)
    return np.take_along_axis(picked, columns[..., None, :, None], axis=-2)
