"""Clips side by side in one video, with labels and optional arrows; finished clips freeze, darkened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from analysis.rendering.pen import Pen
from common.video import upscale

_GROUND = (22, 25, 30)
_TEXT = (238, 240, 243)
_QUIET = (150, 157, 168)
_GLYPH = (247, 201, 72)
_GAP = 6  # pixels between tiles, and above each for its label
_STRIP = 26
_TITLE = 30
_ENDED = 0.35  # brightness of a clip that has ended


@dataclass(frozen=True)
class Tile:
    """One clip.

    Args:
        frames: [T, H, W, 3] uint8, T of its own.
        label: text above the clip.
        direction: of an arrow before the label; None for no arrow.
    """

    frames: np.ndarray
    label: str
    direction: tuple[int, int] | None = None


def tile_clips(
    tiles: Sequence[Tile | None], columns: int, title: str, scale: int = 3
) -> Iterator[np.ndarray]:
    """Frames [height, width, 3] uint8 of all clips together, as many as the longest clip has.

    Args:
        tiles: row by row; None leaves a cell empty.
        columns: of the grid.
        title: above the grid, next to the step.
        scale: video pixels per clip pixel.
    """
    present = [tile for tile in tiles if tile is not None]
    rows, (height, width) = -(-len(tiles) // columns), (side * scale for side in present[0].frames.shape[1:3])
    whole = _TITLE + rows * (height + _STRIP + _GAP) + _GAP, columns * (width + _GAP) + _GAP
    for t in range(max(len(tile.frames) for tile in present)):
        picture = Image.new("RGB", whole[::-1], _GROUND)
        pen = Pen(picture, 1)
        pen.text((_GAP, _TITLE / 2), title, 13, _TEXT)
        pen.text((whole[1] - _GAP, _TITLE / 2), f"t = {t}", 13, _TEXT, anchor="rm")
        for place, tile in enumerate(tiles):
            if tile is not None:
                row, column = divmod(place, columns)
                _draw(
                    pen,
                    tile,
                    t,
                    (_GAP + column * (width + _GAP), _TITLE + row * (height + _STRIP + _GAP)),
                    scale,
                )
        yield np.asarray(picture)


def _draw(pen: Pen, tile: Tile, t: int, corner: tuple[int, int], scale: int) -> None:
    over = t >= len(tile.frames)
    frame = upscale(tile.frames[min(t, len(tile.frames) - 1)], scale)
    left, top = corner
    pen.arrow((left, top + 4), _STRIP - 8, tile.direction, _QUIET if over else _GLYPH, _GROUND)
    words = left + (_STRIP if tile.direction is not None else 2)
    pen.text(
        (words, top + _STRIP / 2),
        f"{tile.label} · ended" if over else tile.label,
        12,
        _QUIET if over else _TEXT,
    )
    shown = (frame * _ENDED).astype(np.uint8) if over else frame
    pen.picture.paste(Image.fromarray(shown), (left, top + _STRIP))
