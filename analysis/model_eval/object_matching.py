"""Which found thing is which real one: pairs of one kind in one frame, nearest first, each used once."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from analysis.model_eval.frame_objects import Objects

MATCH_RADIUS = 1.0
"""Tiles within which a found thing may stand for a real one."""
_APART = 1000.0  # tiles: more than a world is wide, so that things of different frames or kinds never meet


class Matches(NamedTuple):
    """error [n]: distance in tiles from each real thing to what was found for it, NaN where nothing was.
    found [m] bool: whether each found thing stands for a real one.
    """

    error: np.ndarray
    found: np.ndarray


def match_objects(real: Objects, found: Objects, reach: float = MATCH_RADIUS) -> Matches:
    """Pairs things of one kind and one frame that lie within `reach` tiles, the nearest pair first."""
    error = np.full(len(real.x), np.nan)
    used = np.zeros(len(found.x), bool)
    if len(error) and len(used):
        pairs = cKDTree(_places(real)).sparse_distance_matrix(
            cKDTree(_places(found)), reach, output_type="ndarray"
        )
        for i, j, distance in np.sort(pairs, order=["v", "i", "j"]):
            if np.isnan(error[i]) and not used[j]:
                error[i], used[j] = distance, True
    return Matches(error, used)


def _places(objects: Objects) -> np.ndarray:
    """[n, 4]: x, y and, far apart, kind and frame."""
    return np.stack([objects.x, objects.y, objects.kind * _APART, objects.frame * _APART], 1)
