"""Clips side by side in one video: a tile each, with a label and perhaps an arrow; one that has ended stands
still, darkened.
"""

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
    """One clip. frames [T, H, W, 3] uint8, each tile with its own T; label: words above it; way: an arrow
    before them, as `arrow` takes it.
    """

    frames: np.ndarray
    label: str
    way: tuple[int, int] | None = None


def tile_clips(
    tiles: Sequence[Tile | None], columns: int, title: str, scale: int = 3
) -> Iterator[np.ndarray]:
    """The pictures [height, width, 3] uint8 of all clips together, as long as the longest of them.

    tiles: row by row; None leaves a place empty. title: stands above, with the step.
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
    pen.arrow((left, top + 4), _STRIP - 8, tile.way, _QUIET if over else _GLYPH, _GROUND)
    words = left + (_STRIP if tile.way is not None else 2)
    pen.text(
        (words, top + _STRIP / 2),
        f"{tile.label} · ended" if over else tile.label,
        12,
        _QUIET if over else _TEXT,
    )
    shown = (frame * _ENDED).astype(np.uint8) if over else frame
    pen.picture.paste(Image.fromarray(shown), (left, top + _STRIP))
