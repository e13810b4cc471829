"""Matches detected objects to real ones: pairs of one kind in one frame, nearest first, each used once."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from analysis.model_eval.frame_objects import Objects

MATCH_RADIUS = 1.0
"""Largest distance in tiles between a real object and its detection."""
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


def _positions(objects: Objects) -> np.ndarray:
    """[n, 4]: x and y, and kind and frame, far apart."""
    return np.stack([objects.x, objects.y, objects.kind * _SEPARATION, objects.frame * _SEPARATION], 1)
