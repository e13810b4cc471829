"""How far a model's motion of the picture is from the true one, in pixels.

Motion is in pixels, down and right, as in generative.model.motion; the true one is that of the camera in the
state bytes. Step 0 is the last frame given to the model: errors accumulate from there on.
"""

import numpy as np
import torch

from analysis.model_eval.camera import Camera
from common.stats import ratio, weighted_quantile
from generative.model.motion import estimate_motion

MOTIONS = ("open_loop", "teacher_forced", "registered", "still")
"""Predicted on own pictures, predicted on real ones, measured between real ones, and none."""
LARGE = 1.0
"""Pixels."""


def true_motion(camera: Camera) -> np.ndarray:
    """Motion [S, b, 2] of the picture on the way to each of the steps of cameras [S, b]; 0 for the first."""
    down = np.diff(camera.y_off, axis=0, prepend=camera.y_off[:1])
    right = -np.diff(camera.x_off, axis=0, prepend=camera.x_off[:1])
    return np.stack([down, right], -1)


def motion_scores(
    camera: Camera, frames: np.ndarray, open_loop: np.ndarray, teacher_forced: np.ndarray
) -> dict[str, np.ndarray]:
    """Distance [S, b] in pixels between each of MOTIONS and the true motion.

    Args:
        camera: [S, b].
        frames: the real ones [S, b, H, W, C] uint8.
        open_loop: [S, b, 2], of an open-loop rollout.
        teacher_forced: [S, b, 2], each from the true frames before.

    Returns:
        "motion_step/<name>": of the step alone. "motion_sum/<name>": of the displacement since step 0.
    """
    truth = true_motion(camera)
    measured = estimate_motion(torch.from_numpy(np.ascontiguousarray(frames))).numpy()
    predicted = {
        "open_loop": open_loop,
        "teacher_forced": teacher_forced,
        "registered": np.concatenate([truth[:1], measured]),
        "still": np.zeros_like(truth),
    }
    scores = {}
    for name in MOTIONS:
        error = predicted[name].astype(np.float64) - truth
        error[0] = 0  # on the way to the last given frame
        scores[f"motion_step/{name}"] = np.linalg.norm(error, axis=-1)
        scores[f"motion_sum/{name}"] = np.linalg.norm(error.cumsum(0), axis=-1)
    return scores


def error_statistics(weights: np.ndarray, error: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Median, 90th percentile and share above LARGE pixels, for each row of bootstrap weights.

    Args:
        weights: [R, n].
        error: [n], in pixels.
        counts: [n] bool, the windows that are included.

    Returns:
        {"median", "p90", "large": [R]}.
    """
    return {
        "median": weighted_quantile(weights[:, counts], error[counts], 0.5),
        "p90": weighted_quantile(weights[:, counts], error[counts], 0.9),
        "large": ratio(weights, error > LARGE, counts),
    }
