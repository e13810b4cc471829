"""Drawing on a picture in layout units: text, boxes, arrows and smooth curves, at any scale."""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.rendering.arrows import Color, arrow

_SUPERSAMPLING = 4  # of curves


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", max(size, 1)
    )


class Pen:
    """Draws on `picture` in layout coordinates (x, y); a layout unit is `unit` pixels."""

    def __init__(self, picture: Image.Image, unit: float):
        self.picture = picture
        self.unit = unit
        self.draw = ImageDraw.Draw(picture)

    def text(
        self, at: tuple[float, float], words: str, size: float, color: Color, anchor: str = "lm"
    ) -> None:
        """Text at a point; anchor: Pillow's name of that point, "lm" for the middle of the left end."""
        self.draw.text(
            (at[0] * self.unit, at[1] * self.unit),
            words,
            fill=color,
            font=_font(round(size * self.unit)),
            anchor=anchor,
        )

    def box(self, corners: tuple[float, float, float, float], color: Color) -> None:
        """Filled box (left, top, right, bottom), at least one pixel high; nothing if under one pixel wide."""
        left, top, right, bottom = (round(corner * self.unit) for corner in corners)
        if right > left:
            self.draw.rectangle((left, top, right - 1, max(bottom - 1, top)), fill=color)

    def arrow(
        self,
        at: tuple[float, float],
        size: float,
        direction: tuple[int, int] | None,
        color: Color,
        ground: Color,
    ) -> None:
        """Arrow in a square with upper left corner `at`; nothing without a direction."""
        if direction is not None:
            glyph = arrow(direction, round(size * self.unit), color, ground)
            self.picture.paste(Image.fromarray(glyph), (round(at[0] * self.unit), round(at[1] * self.unit)))

    def curve(
        self, corners: tuple[float, float, float, float], points: np.ndarray, color: Color, end_color: Color
    ) -> None:
        """Line through points [n, 2] within the box `corners`, with a dot at its end."""
        rim = 6
        scale = self.unit * _SUPERSAMPLING
        left, top, right, bottom = corners
        size = [round(length * self.unit) for length in (right - left + 2 * rim, bottom - top + 2 * rim)]
        moved = (points - [left - rim, top - rim]) * scale
        radius = 3.5 * scale
        for stroke_color, draw in (
            (
                color,
                lambda pen: pen.line(moved.ravel().tolist(), fill=255, width=round(2 * scale), joint="curve"),
            ),
            (end_color, lambda pen: pen.ellipse([*(moved[-1] - radius), *(moved[-1] + radius)], fill=255)),
        ):
            mask = Image.new("L", [length * _SUPERSAMPLING for length in size])
            draw(ImageDraw.Draw(mask))
            self.picture.paste(
                stroke_color,
                (round((left - rim) * self.unit), round((top - rim) * self.unit)),
                mask.reduce(_SUPERSAMPLING),
            )
