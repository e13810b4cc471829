"""Signed maps as colours over a frame: blue where more raises the function, red where more lowers it."""

import matplotlib
import numpy as np

PALETTE = "RdBu"
"""Matplotlib's name: red below zero, white at zero, blue above."""
SHADE = 0.35
"""How dark the brightest pixel of the frame is under a map; black pixels are white."""
GREY_DEPTH = 0.6
"""How dark the largest magnitude of a map without colour is."""
SHARE_SHOWN = 99.5
"""Percentile of magnitudes at which the scale ends: single pixels would fade all others."""
_LUMINANCE = np.array([0.299, 0.587, 0.114])


def scale_end(maps: np.ndarray) -> float:
    """End of a symmetric scale for maps of a clip; 1 where all are zero."""
    return float(np.percentile(np.abs(maps), SHARE_SHOWN)) or float(np.abs(maps).max()) or 1.0


def palette_colors(values: np.ndarray) -> np.ndarray:
    """Colours [..., 3] in [0, 1] of values in [-1, 1]; values beyond are clipped."""
    return np.asarray(matplotlib.colormaps[PALETTE]((np.clip(values, -1, 1) + 1) / 2))[..., :3]


def overlay_map(
    frame: np.ndarray, signed_map: np.ndarray, limit: float, colorless: bool = False
) -> np.ndarray:
    """A map [H, W] over the frame uint8 [H, W, 3] in pale grey: uint8 [H, W, 3].

    limit: magnitude of the darkest colour. colorless: show magnitudes alone, in grey.
    """
    paper = 1 - SHADE * (frame / 255) @ _LUMINANCE
    values = signed_map / limit
    if colorless:
        colors = 1 - GREY_DEPTH * np.clip(np.abs(values), 0, 1)[..., None].repeat(3, -1)
    else:
        colors = palette_colors(values)
    return np.round(255 * colors * paper[..., None]).astype(np.uint8)


def legend_bar(height: int, width: int) -> np.ndarray:
    """The palette from top (blue, positive) to bottom: uint8 [height, width, 3]."""
    column = palette_colors(np.linspace(1, -1, height))
    return np.round(255 * column[:, None].repeat(width, 1)).astype(np.uint8)
