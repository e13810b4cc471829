"""Pixel registration between frames of one level: which places earlier frames have shown, and their pixels.

Procgen draws world x at column x * unit - x_off, and world y (upwards) at row (view - y) * unit + y_off; the
state bytes hold the four numbers. Scrolling is subpixel, so a registered pixel is exact up to rounding.
"""

from typing import NamedTuple

import numpy as np


class Camera(NamedTuple):
    """The projection of frames, arrays [...] of one shape.

    x_off, y_off in pixels; unit in pixels per tile; view (the width of the screen) in tiles.
    """

    x_off: np.ndarray
    y_off: np.ndarray
    unit: np.ndarray
    view: np.ndarray

    def __getitem__(self, index):
        """The cameras at `index` of the frame axes."""
        return Camera(*(np.asarray(field)[index] for field in tuple(self)))


def columns_to_x(camera: Camera, columns: np.ndarray) -> np.ndarray:
    """World x (tiles) of the centres of pixel columns [..., W], for cameras [...]."""
    x_off, unit = (np.asarray(field)[..., None] for field in (camera.x_off, camera.unit))
    return (columns + 0.5 + x_off) / unit


def rows_to_y(camera: Camera, rows: np.ndarray) -> np.ndarray:
    """World y (tiles, upwards) of the centres of pixel rows [..., H], for cameras [...]."""
    y_off, unit, view = (np.asarray(field)[..., None] for field in (camera.y_off, camera.unit, camera.view))
    return view - (rows + 0.5 - y_off) / unit


def x_to_columns(camera: Camera, x: np.ndarray) -> np.ndarray:
    """Fractional column at which world x [..., n] is drawn; its floor is the pixel."""
    x_off, unit = (np.asarray(field)[..., None] for field in (camera.x_off, camera.unit))
    return x * unit - x_off


def y_to_rows(camera: Camera, y: np.ndarray) -> np.ndarray:
    """Fractional row at which world y [..., n] is drawn; its floor is the pixel."""
    y_off, unit, view = (np.asarray(field)[..., None] for field in (camera.y_off, camera.unit, camera.view))
    return (view - y) * unit + y_off


def pixel_correspondence(earlier: Camera, later: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Integer columns [..., W] and rows [..., H] in earlier frames of every pixel of later ones.

    Values outside 0 .. size - 1 lie outside the earlier frame. Frames are `size` pixels high and wide.
    """
    pixels = np.arange(size)
    columns = x_to_columns(earlier, columns_to_x(later, pixels))
    rows = y_to_rows(earlier, rows_to_y(later, pixels))
    return np.floor(columns).astype(np.int64), np.floor(rows).astype(np.int64)


def visible_before(earlier: Camera, later: Camera, size: int) -> np.ndarray:
    """Mask [..., H, W] of the pixels of later frames that show a place visible in any of K earlier ones.

    Args:
        earlier: cameras [K, ...].
        later: cameras [...].
        size: height and width of the frames in pixels.
    """
    columns, rows = pixel_correspondence(earlier, later, size)
    return _inside_frame(rows, columns, size).any(0)


def shifted_copy(frames: np.ndarray, earlier: Camera, later: Camera) -> np.ndarray:
    """Later frames [..., H, W, C] predicted by shifting earlier ones with the true camera.

    Each pixel comes from the last of K frames that showed its place. A place that none showed takes the
    nearest pixel of the last frame, so that its edge continues.

    Args:
        frames: [K, ..., H, W, C].
        earlier: their cameras [K, ...].
        later: cameras of the predicted frames [...].
    """
    size = frames.shape[-2]
    columns, rows = pixel_correspondence(earlier, later, size)
    shifted = _gather_pixels(frames[-1], rows[-1].clip(0, size - 1), columns[-1].clip(0, size - 1))
    filled = _inside_frame(rows[-1], columns[-1], size)
    for k in range(len(frames) - 2, -1, -1):
        visible = _inside_frame(rows[k], columns[k], size)
        older = _gather_pixels(frames[k], rows[k].clip(0, size - 1), columns[k].clip(0, size - 1))
        shifted = np.where((visible & ~filled)[..., None], older, shifted)
        filled |= visible
    return shifted


def _inside_frame(rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """[..., H, W] bool from rows [..., H] and columns [..., W]."""
    row_inside, column_inside = ((pixels >= 0) & (pixels < size) for pixels in (rows, columns))
    return row_inside[..., :, None] & column_inside[..., None, :]


def _gather_pixels(frames: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Pixels of frames [..., H, W, C] at rows [..., H] and columns [..., W]."""
    frames = np.broadcast_to(frames, (*rows.shape[:-1], *frames.shape[-3:]))
    picked = np.take_along_axis(frames, rows[..., :, None, None], axis=-3)
    return np.take_along_axis(picked, columns[..., None, :, None], axis=-2)
