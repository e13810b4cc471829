"""The variables that maps are coloured by: what each means, how it is shown, and the colour of every point."""

from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_rgb

FLAG_OFF, FLAG_ON = "#c9ccd1", "#c2407c"
CLASSES = (
    "#1f5c9e", "#e0771a", "#2a9d74", "#c2407c", "#5ab8ee", "#6b4423", "#8a4fd0", "#e8c51e", "#c8201f", "#8a9a1e", "#f49ac1", "#123a35",
    "#69f078", "#e1b478", "#1e4b00", "#5a2d4b", "#b4a5ff", "#ff69e1", "#b4e196", "#ff8778", "#008700", "#00f0e1", "#697887", "#1e78f0",
)  # fmt: skip
"""Colours of classes: no two of them, nor OTHERS, are nearer than 30 in CIELAB."""
OTHERS = "#c9ccd1"
PLAIN = 255.0


class Scale(NamedTuple):
    """The values at the ends of a colour map, and whether it goes by their logarithms."""

    low: float
    high: float
    colours: str
    log: bool

    def mappable(self) -> ScalarMappable:
        """What a colour bar is drawn from."""
        return ScalarMappable((LogNorm if self.log else Normalize)(self.low, self.high), self.colours)

    def marks(self, count: int) -> np.ndarray:
        """Values [count] evenly along the scale."""
        return (np.geomspace if self.log else np.linspace)(self.low, self.high, count)


class Coloured(NamedTuple):
    """rgb [n, 3] in 0-255; order [n]: rows from bottom to top; key: (name, colour) of each class, or a scale."""

    rgb: np.ndarray
    order: np.ndarray
    key: list[tuple[str, tuple]] | Scale


class Colouring(NamedTuple):
    """label: the column of it; title; how: scale, log, classes, named (classes with names) or flag; colours: a colour map, for scales."""

    label: str
    title: str
    how: str
    colours: str = ""


HIDDEN = (
    Colouring("entropy", "entropy of the choice (nats)", "scale", "viridis"),
    Colouring("likeliest", "likeliest act", "named"),
    Colouring("taken", "act taken", "named"),
    Colouring("cluster", "cluster", "classes"),
    Colouring("nmf", "strongest NMF part", "classes"),
    Colouring("ica", "strongest independent component", "classes"),
    Colouring("length", "length of the episode (steps)", "log", "cividis"),
    Colouring("progress", "share of the episode gone", "scale", "plasma"),
    Colouring("done", "last step of the episode", "flag"),
    Colouring("value", "value (the agent's units)", "scale", "viridis"),
    Colouring("rewarded", "episode with a reward", "flag"),
    Colouring("reward", "reward at this step", "flag"),
)
"""The twelve that hidden states have, in the order of the grid."""


def colour(
    how: Colouring, values: np.ndarray, names: list[str] | None = None, seed: int = 0, numbered_at: np.ndarray | None = None
) -> Coloured:
    """Colours of a column [n]. names: what the numbers of `named` classes stand for. Scales end at the 1st and 99th percentile.

    Of more classes than CLASSES has colours, the largest have one each and the others share a grey; or, where each class has its number
    written at its points numbered_at [n, 2], all have colours, which repeat far apart, and the key is empty.
    """
    order = np.random.default_rng(seed).permutation(len(values))  # so that no class lies on top of another
    if how.how in ("scale", "log"):
        shown = np.log10(np.maximum(values, 1e-9)) if how.how == "log" else np.asarray(values, np.float64)
        low, high = np.quantile(shown, [0.01, 0.99])
        high = max(high, low + 1e-9)
        rgb = matplotlib.colormaps[how.colours](np.clip((shown - low) / (high - low), 0, 1))[:, :3]
        ends = (10**low, 10**high) if how.how == "log" else (low, high)
        return Coloured(rgb * PLAIN, order, Scale(float(ends[0]), float(ends[1]), how.colours, how.how == "log"))
    if how.how == "flag":
        on = np.asarray(values) > 0
        both = _rgb([FLAG_OFF, FLAG_ON])
        return Coloured(both[on.astype(int)] * PLAIN, order[np.argsort(on[order], kind="stable")], [("no", tuple(both[0])), ("yes", tuple(both[1]))])
    kinds, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    words = [names[kind] if how.how == "named" and names else str(kind) for kind in kinds]
    if len(kinds) > len(CLASSES) and numbered_at is not None:
        middles = np.stack([np.median(numbered_at[index == i], axis=0) for i in range(len(kinds))])
        return Coloured(_rgb(CLASSES)[repeated_far_apart(middles)][index] * PLAIN, order, [])
    shown = _class_colours(kinds, counts)
    key = [(word, tuple(color)) for word, color, other in zip(words, shown, _others(counts)) if not other]
    left = len(kinds) - len(key)
    rest = [(f"{left} other{'s' * (left > 1)}", tuple(_rgb([OTHERS])[0]))] if left else []
    return Coloured(shown[index] * PLAIN, order, key + rest)


def short(value: float) -> str:
    """A number beside a scale: three digits, and never an exponent for hundreds and thousands."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def _rgb(colors) -> np.ndarray:
    return np.array([to_rgb(color) for color in colors])


def _others(counts: np.ndarray) -> np.ndarray:
    """Which classes are too many for a colour of their own, the smallest: bool, for classes of these sizes."""
    others = np.zeros(len(counts), bool)
    others[np.argsort(-counts, kind="stable")[len(CLASSES) :]] = True
    return others


def _class_colours(kinds: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """A colour for each class: that of its number, so that it is the same in every panel, or of its rank where numbers go too far."""
    palette, others = _rgb(CLASSES), _others(counts)
    if kinds.max(initial=0) < len(palette):
        return palette[kinds]
    shown = np.tile(_rgb([OTHERS]), (len(kinds), 1))
    shown[~others] = palette[: (~others).sum()]
    return shown


def repeated_far_apart(middles: np.ndarray) -> np.ndarray:
    """Numbers of colours of CLASSES for classes at middles [k, 2]: each takes the one that is farthest away from it so far, so that no
    class has the colour of its nearest neighbour."""
    chosen = np.full(len(middles), -1)
    for i, middle in enumerate(middles):
        distance = np.hypot(*(middles[:i] - middle).T)
        nearest = [distance[chosen[:i] == color].min(initial=np.inf) for color in range(len(CLASSES))]
        chosen[i] = int(np.argmax(nearest))
    return chosen
