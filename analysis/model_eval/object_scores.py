"""Detected objects of frames against the real ones: counts per window and step, before any averaging."""

import numpy as np

from analysis.model_eval.agent_view import HAZARD_RADIUS
from analysis.model_eval.camera import Camera
from analysis.model_eval.frame_objects import HAZARDS, KINDS, Objects
from analysis.model_eval.ground_truth import GroundTruth
from analysis.model_eval.object_detector import Detector, detect, object_pixels
from analysis.model_eval.object_matching import first_frame_origins, match_objects

OBJECT_RADIUS = 6.0
"""Objects are scored within this many tiles of the player, in x and in y; the screen ends at 6.5."""
DETECTOR_SEARCHED = ("real", "open_loop", "posterior", "shifted_copy")
"""Frames that the object detector is run on."""


def detection_scores(
    detector: Detector, frames: dict[str, np.ndarray], truth: GroundTruth
) -> dict[str, np.ndarray]:
    """`object_scores` of the DETECTOR_SEARCHED frames [S, b, H, W, C], as "objects_<measure>/<frames>"."""
    scores = {}
    camera = flatten_camera(truth.camera)
    for name in DETECTOR_SEARCHED:
        detected = detect(detector, frames[name].reshape(-1, *frames[name].shape[2:]), camera)
        measures = object_scores(detected, truth)
        scores |= {f"objects_{measure}/{name}": x for measure, x in measures.items()}
    return scores


def object_scores(detected: Objects, truth: GroundTruth) -> dict[str, np.ndarray]:
    """Counts [kinds, S, b] of real and detected objects within OBJECT_RADIUS of the player.

    Returns:
        At previously visible places: `real` objects, those that were `detected`, the sum of their `distance`
        to what was detected (tiles), `hit` real ones and `true_positive` detections. At newly visible places:
        `new` detections. `kept_real`: real objects that were also within the radius in the first frame;
        `kept_hit`: of these, detected ones; `drawn_real` and `drawn_hit`: the same of objects that were
        detected in the first frame.
    """
    shape = truth.alive.shape
    detected = detected.take(truth.alive.ravel()[detected.frame])
    matches = match_objects(truth.objects, detected)
    real_counts, detected_counts = (
        _within_radius(objects, truth) & _at_visible_place(objects, truth)
        for objects in (truth.objects, detected)
    )
    hit = real_counts & ~np.isnan(matches.distance)
    origin = first_frame_origins(truth.objects, shape[1])
    kept = real_counts & (origin >= 0) & _within_radius(truth.objects, truth)[origin]
    drawn = kept & hit[origin]
    return {
        "real": _count(truth.objects, real_counts, shape),
        "hit": _count(truth.objects, hit, shape),
        "distance": _count(truth.objects, hit, shape, matches.distance),
        "detected": _count(detected, detected_counts, shape),
        "true_positive": _count(detected, detected_counts & matches.true_positive, shape),
        "new": _count(detected, ~_at_visible_place(detected, truth), shape),
        "kept_real": _count(truth.objects, kept, shape),
        "kept_hit": _count(truth.objects, kept & hit, shape),
        "drawn_real": _count(truth.objects, drawn, shape),
        "drawn_hit": _count(truth.objects, drawn & hit, shape),
    }


def hazard_near(truth: GroundTruth, radius: float = HAZARD_RADIUS) -> np.ndarray:
    """[S, b] bool: whether any hazard is within `radius` tiles of the player, in x and in y."""
    hazards = truth.objects.of_kinds(HAZARDS)
    near = hazards.take(_within_radius(hazards, truth, radius))
    return np.bincount(near.frame, minlength=truth.alive.size).reshape(truth.alive.shape) > 0


def flatten_camera(camera: Camera) -> Camera:
    """Cameras [S, b] as [S * b]."""
    return Camera(*(field.reshape(-1) for field in camera))


def _within_radius(objects: Objects, truth: GroundTruth, radius: float = OBJECT_RADIUS) -> np.ndarray:
    player = truth.player.reshape(-1, 2)[objects.frame]
    return (np.abs(objects.x - player[:, 0]) <= radius) & (np.abs(objects.y - player[:, 1]) <= radius)


def _at_visible_place(objects: Objects, truth: GroundTruth) -> np.ndarray:
    size = truth.frames.shape[2]
    row, column = (
        pixels.clip(0, size - 1) for pixels in object_pixels(objects, flatten_camera(truth.camera))
    )
    return truth.visible.reshape(-1, size, size)[objects.frame, row, column]


def _count(
    objects: Objects, selected: np.ndarray, shape: tuple[int, int], amount: np.ndarray | None = None
) -> np.ndarray:
    """Number of selected objects, or the sum of an amount over them, as [kinds, S, b]."""
    size = shape[0] * shape[1]
    index = objects.kind[selected] * size + objects.frame[selected]
    weights = None if amount is None else amount[selected]
    return np.bincount(index, weights, minlength=len(KINDS) * size).reshape(len(KINDS), *shape)
