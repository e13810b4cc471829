"""The variables that maps are coloured by: what each means, how it is shown, and the colour of every point."""

from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, hsv_to_rgb

FLAG_OFF, FLAG_ON = "#c9ccd1", "#c2407c"
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


def hues(count: int) -> np.ndarray:
    """`count` colours [count, 3] in 0-1, neighbours in number far apart in hue."""
    golden = (np.arange(count) * 0.618034) % 1
    saturation, value = 0.45 + 0.4 * (np.arange(count) % 2), 0.9 - 0.25 * (np.arange(count) // 2 % 2)
    return hsv_to_rgb(np.stack([golden, saturation, value], 1))


def colour(how: Colouring, values: np.ndarray, names: list[str] | None = None, seed: int = 0) -> Coloured:
    """Colours of a column [n]. names: what the numbers of `named` classes stand for. Scales end at the 1st and 99th percentile."""
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
        both = np.array([matplotlib.colors.to_rgb(FLAG_OFF), matplotlib.colors.to_rgb(FLAG_ON)])
        return Coloured(both[on.astype(int)] * PLAIN, order[np.argsort(on[order], kind="stable")], [("no", tuple(both[0])), ("yes", tuple(both[1]))])
    kinds, index = np.unique(values, return_inverse=True)
    palette = hues(int(kinds.max()) + 1 if len(kinds) else 1)
    shown = palette[kinds]
    words = [names[kind] if how.how == "named" and names else str(kind) for kind in kinds]
    return Coloured(shown[index] * PLAIN, order, list(zip(words, map(tuple, shown))))
