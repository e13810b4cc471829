"""Drawing on a picture in a layout's own units: text, boxes, arrows and smooth curves, at any enlargement."""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.rendering.arrows import Color, arrow

_FINER = 4  # curves are drawn this many times larger, then averaged down


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", max(size, 1)
    )


class Pen:
    """Draws on `picture`, which is `unit` times as large as the layout whose coordinates (x, y) it is given."""

    def __init__(self, picture: Image.Image, unit: float):
        self.picture = picture
        self.unit = unit
        self.draw = ImageDraw.Draw(picture)

    def text(
        self, at: tuple[float, float], words: str, size: float, color: Color, anchor: str = "lm"
    ) -> None:
        """anchor: where in the words `at` lies, as Pillow names it; "lm" is the middle of the left end."""
        self.draw.text(
            (at[0] * self.unit, at[1] * self.unit),
            words,
            fill=color,
            font=_font(round(size * self.unit)),
            anchor=anchor,
        )

    def box(self, corners: tuple[float, float, float, float], color: Color) -> None:
        """A filled box (left, top, right, bottom), at least one pixel high; nothing when it is less than a
        pixel wide.
        """
        left, top, right, bottom = (round(corner * self.unit) for corner in corners)
        if right > left:
            self.draw.rectangle((left, top, right - 1, max(bottom - 1, top)), fill=color)

    def arrow(
        self, at: tuple[float, float], size: float, way: tuple[int, int] | None, color: Color, ground: Color
    ) -> None:
        """An arrow in a square whose upper left corner is `at`; nothing for an action without a way."""
        if way is not None:
            glyph = arrow(way, round(size * self.unit), color, ground)
            self.picture.paste(Image.fromarray(glyph), (round(at[0] * self.unit), round(at[1] * self.unit)))

    def curve(
        self, corners: tuple[float, float, float, float], points: np.ndarray, color: Color, end_color: Color
    ) -> None:
        """A line through points [n, 2] that lie within the box `corners`, with a dot at its end."""
        rim = 6
        scale = self.unit * _FINER
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
            mask = Image.new("L", [length * _FINER for length in size])
            draw(ImageDraw.Draw(mask))
            self.picture.paste(
                stroke_color,
                (round((left - rim) * self.unit), round((top - rim) * self.unit)),
                mask.reduce(_FINER),
            )
