"""Variables that colour maps: their titles, their colour maps, and the colour of every point."""

from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_rgb

FLAG_OFF = "#c9ccd1"
FLAG_ON = "#c2407c"
CLASSES = (
    "#1f5c9e",
    "#e0771a",
    "#2a9d74",
    "#c2407c",
    "#5ab8ee",
    "#6b4423",
    "#8a4fd0",
    "#e8c51e",
    "#c8201f",
    "#8a9a1e",
    "#f49ac1",
    "#123a35",
    "#69f078",
    "#e1b478",
    "#1e4b00",
    "#5a2d4b",
    "#b4a5ff",
    "#ff69e1",
    "#b4e196",
    "#ff8778",
    "#008700",
    "#00f0e1",
    "#697887",
    "#1e78f0",
)
"""Colours of classes; any two, and OTHERS, are at least 30 apart in CIELAB."""
OTHERS = "#c9ccd1"
PLAIN = 255.0


class Scale(NamedTuple):
    """Range and name of a colour map, and whether it is logarithmic."""

    low: float
    high: float
    colours: str
    log: bool

    def mappable(self) -> ScalarMappable:
        """For a colour bar."""
        return ScalarMappable((LogNorm if self.log else Normalize)(self.low, self.high), self.colours)

    def marks(self, count: int) -> np.ndarray:
        """Evenly spaced values [count] on the scale."""
        return (np.geomspace if self.log else np.linspace)(self.low, self.high, count)


class ColouredPoints(NamedTuple):
    """Colours of n points.

    Args:
        rgb: [n, 3] in 0-255.
        order: drawing order of the points, bottom to top [n].
        key: (name, colour) of each class, or the scale.
    """

    rgb: np.ndarray
    order: np.ndarray
    key: list[tuple[str, tuple]] | Scale


class Colouring(NamedTuple):
    """A variable that colours maps.

    Args:
        label: of the column.
        title: of the panel.
        kind: scale, log, classes, named (classes with names) or flag.
        colours: name of the colour map, for scales.
    """

    label: str
    title: str
    kind: str
    colours: str = ""


HIDDEN_COLOURINGS = (
    Colouring("entropy", "policy entropy (nats)", "scale", "viridis"),
    Colouring("likeliest", "most likely action", "named"),
    Colouring("taken", "action taken", "named"),
    Colouring("cluster", "cluster", "classes"),
    Colouring("nmf", "strongest NMF component", "classes"),
    Colouring("ica", "strongest independent component", "classes"),
    Colouring("length", "episode length (steps)", "log", "cividis"),
    Colouring("progress", "fraction of episode elapsed", "scale", "plasma"),
    Colouring("done", "last step of the episode", "flag"),
    Colouring("value", "value (agent's units)", "scale", "viridis"),
    Colouring("rewarded", "episode with a reward", "flag"),
    Colouring("reward", "reward at this step", "flag"),
)
"""Colourings of hidden states, in the order of the grid."""


def colour(
    colouring: Colouring,
    values: np.ndarray,
    names: list[str] | None = None,
    seed: int = 0,
    numbered_at: np.ndarray | None = None,
) -> ColouredPoints:
    """Colours of a column [n].

    Scales end at the 1st and 99th percentile. With more classes than CLASSES has colours, the largest classes
    have one each and the others share a grey; with `numbered_at`, all have colours, which repeat far apart,
    and the key is empty.

    Args:
        colouring: of the column.
        values: [n].
        names: of the numbers of `named` classes.
        seed: of the drawing order.
        numbered_at: points [n, 2] of classes whose numbers are written in the map.
    """
    order = np.random.default_rng(seed).permutation(len(values))  # so that no class lies on top of another
    if colouring.kind in ("scale", "log"):
        return _colour_scale(colouring, values, order)
    if colouring.kind == "flag":
        return _colour_flag(values, order)
    kinds, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    words = [names[kind] if colouring.kind == "named" and names else str(kind) for kind in kinds]
    if len(kinds) > len(CLASSES) and numbered_at is not None:
        middles = np.stack([np.median(numbered_at[index == i], axis=0) for i in range(len(kinds))])
        return ColouredPoints(_rgb(CLASSES)[repeated_far_apart(middles)][index] * PLAIN, order, [])
    shown = _class_colours(kinds, counts)
    key = [(word, tuple(color)) for word, color, other in zip(words, shown, _others(counts)) if not other]
    left = len(kinds) - len(key)
    rest = [(f"{left} other{'s' * (left > 1)}", tuple(_rgb([OTHERS])[0]))] if left else []
    return ColouredPoints(shown[index] * PLAIN, order, key + rest)


def _colour_scale(colouring: Colouring, values: np.ndarray, order: np.ndarray) -> ColouredPoints:
    log = colouring.kind == "log"
    scaled = np.log10(np.maximum(values, 1e-9)) if log else np.asarray(values, np.float64)
    low, high = np.quantile(scaled, [0.01, 0.99])
    high = max(high, low + 1e-9)
    rgb = matplotlib.colormaps[colouring.colours](np.clip((scaled - low) / (high - low), 0, 1))[:, :3]
    ends = (10**low, 10**high) if log else (low, high)
    return ColouredPoints(rgb * PLAIN, order, Scale(float(ends[0]), float(ends[1]), colouring.colours, log))


def _colour_flag(values: np.ndarray, order: np.ndarray) -> ColouredPoints:
    """Set flags are drawn on top."""
    on = np.asarray(values) > 0
    off_on = _rgb([FLAG_OFF, FLAG_ON])
    key = [("no", tuple(off_on[0])), ("yes", tuple(off_on[1]))]
    return ColouredPoints(off_on[on.astype(int)] * PLAIN, order[np.argsort(on[order], kind="stable")], key)


def short(value: float) -> str:
    """A tick label: three digits, without an exponent below a million."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def _rgb(colors) -> np.ndarray:
    return np.array([to_rgb(color) for color in colors])


def _others(counts: np.ndarray) -> np.ndarray:
    """Mask of the smallest classes, beyond the number of colours, from the class sizes."""
    others = np.zeros(len(counts), bool)
    others[np.argsort(-counts, kind="stable")[len(CLASSES) :]] = True
    return others


def _class_colours(kinds: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Colour of each class: by its number, the same in every panel, or by rank if numbers are too large."""
    palette = _rgb(CLASSES)
    others = _others(counts)
    if kinds.max(initial=0) < len(palette):
        return palette[kinds]
    shown = np.tile(_rgb([OTHERS]), (len(kinds), 1))
    shown[~others] = palette[: (~others).sum()]
    return shown


def repeated_far_apart(middles: np.ndarray) -> np.ndarray:
    """Indices in CLASSES for classes centred at middles [k, 2]; neighbouring classes differ.

    Each class takes the colour whose nearest use so far is farthest away.
    """
    chosen = np.full(len(middles), -1)
    for i, middle in enumerate(middles):
        distance = np.hypot(*(middles[:i] - middle).T)
        nearest = [distance[chosen[:i] == color].min(initial=np.inf) for color in range(len(CLASSES))]
        chosen[i] = int(np.argmax(nearest))
    return chosen
