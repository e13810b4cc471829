"""What any figure has to keep to, read from the renderer: texts inside the picture, labels that do not lie on
each other, colours apart.
"""

from itertools import combinations

import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text


def boxes_of(figure: Figure, texts) -> list:
    """Bounding boxes, in pixels, of the texts as the figure is drawn."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [Text.get_window_extent(text, renderer) for text in texts]


def overlapping(figure: Figure, texts) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than a pixel's breadth."""
    texts = list(texts)
    boxes = boxes_of(figure, texts)
    shared = (
        (a, b)
        for a, b in combinations(range(len(texts)), 2)
        if boxes[a].padded(-1).overlaps(boxes[b].padded(-1))
    )
    return [(texts[a].get_text(), texts[b].get_text()) for a, b in shared]


def cut_texts(figure: Figure) -> list[str]:
    """Texts that reach beyond the edge of the figure, except tick labels, some of which are never drawn."""
    ticks = {
        label
        for axis in figure.findobj(Axis)
        for tick in (*axis.majorTicks, *axis.minorTicks)
        for label in (tick.label1, tick.label2)
    }
    texts = [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in ticks
    ]
    boxes, (width, height) = boxes_of(figure, texts), figure.bbox.size
    return [
        text.get_text()
        for text, box in zip(texts, boxes)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


def draws_and_notes(cut: list[str]):
    """In place of Figure.savefig: saves, at few dots per inch, and adds what is cut off to `cut`."""
    savefig = Figure.savefig

    def checked(figure, path, **options):
        cut.extend(cut_texts(figure))
        savefig(figure, path, **options | {"dpi": 30})

    return checked


def cielab(colors) -> np.ndarray:
    """Colours [n] in CIELAB (D65), where a distance of about 2 can just be seen: [n, 3]."""
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(
        [
            [0.4124564, 0.2126729, 0.0193339],
            [0.3575761, 0.7151522, 0.1191920],
            [0.1804375, 0.0721750, 0.9503041],
        ]
    )
    x, y, z = np.cbrt(np.maximum(xyz / [0.95047, 1, 1.08883], 1e-9)).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
