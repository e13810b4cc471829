"""Matches detected objects to real ones (pairs of one kind in one frame, nearest first, each used once), and
real objects to those of the first frame of their window.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from analysis.model_eval.frame_objects import KINDS, Objects

MATCH_RADIUS = 1.0
"""Largest distance in tiles between a real object and its detection."""
SPEED = {"enemy": 0.15}
"""Tiles per step; saws, lava, crates and coins stand still."""
_STILL = 0.02  # tiles, for rounding
_SEPARATION = 1000.0  # tiles, wider than any level: objects of different frames or kinds never match


class Matches(NamedTuple):
    """Which of n real objects were detected, and which of m detections are real."""

    distance: np.ndarray
    """[n]: tiles from each real object to its detection, NaN where there is none."""
    true_positive: np.ndarray
    """[m] bool."""


def match_objects(real: Objects, detected: Objects, radius: float = MATCH_RADIUS) -> Matches:
    """Greedy matching of objects of one kind and frame within `radius` tiles, the nearest pair first."""
    distance = np.full(len(real.x), np.nan)
    used = np.zeros(len(detected.x), bool)
    if len(distance) and len(used):
        real_tree, detected_tree = (cKDTree(_positions(objects)) for objects in (real, detected))
        pairs = real_tree.sparse_distance_matrix(detected_tree, radius, output_type="ndarray")
        for i, j, apart in np.sort(pairs, order=["v", "i", "j"]):
            if np.isnan(distance[i]) and not used[j]:
                distance[i], used[j] = apart, True
    return Matches(distance, used)


def first_frame_origins(objects: Objects, windows: int) -> np.ndarray:
    """[n]: number of the object of step 0 that each of n objects is, or -1 if it was not on the screen then.

    An object is the nearest one of its kind and height in its window's first frame, unless it is further away
    than one of its kind can have moved.

    Args:
        objects: `frame` counts step * windows + window.
        windows: number of windows.
    """
    step, window = np.divmod(objects.frame, windows)
    first = np.flatnonzero(step == 0)
    if not len(first):
        return np.full(len(step), -1)
    keys = window * _SEPARATION * len(KINDS) + objects.kind * _SEPARATION + objects.x
    points = np.stack([keys, _SEPARATION * np.round(objects.y, 1)], 1)
    distance, nearest = cKDTree(points[first]).query(points, p=np.inf)
    speed = np.array([SPEED.get(kind, 0.0) for kind in KINDS])
    reachable = distance <= speed[objects.kind] * step + _STILL
    return np.where(reachable, first[nearest], -1)


def _positions(objects: Objects) -> np.ndarray:
    """[n, 4]: x and y, and kind and frame, far apart."""
    return np.stack([objects.x, objects.y, objects.kind * _SEPARATION, objects.frame * _SEPARATION], 1)
