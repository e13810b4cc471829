"""Recorded frames to compare predictions with, the baselines that need no model, and pixel errors.

Step 0 is the last frame given to the model. After the end of an episode `alive` is False and nothing counts.
"""

from typing import NamedTuple

import numpy as np

from analysis.model_eval.camera import Camera, shifted_copy, visible_before
from analysis.model_eval.frame_objects import Objects, Scenes
from rollouts.segment import Segment


class GroundTruth(NamedTuple):
    """The recorded windows from the last of their K given frames on: S steps, b windows."""

    frames: np.ndarray
    """[S, b, H, W, C] uint8."""
    alive: np.ndarray
    """[S, b] bool: whether the step exists."""
    camera: Camera
    """[S, b]."""
    given_camera: Camera
    """[K, b], of the given frames."""
    visible: np.ndarray
    """[S, b, H, W] bool: pixels whose place a given frame had shown."""
    player: np.ndarray | None
    """[S, b, 2], in tiles."""
    objects: Objects | None
    """`frame` counts step * b + window."""


def ground_truth(segment: Segment, scenes: Scenes, k: int) -> GroundTruth:
    """What was recorded after the first K - 1 frames of windows.

    Args:
        segment: windows [L, b].
        scenes: of the L * b frames, step by step; any scene where there is no frame.
        k: number of given frames.
    """
    batch = segment.mask.shape[1]
    camera = Camera(*(field.reshape(-1, batch) for field in scenes.camera))
    alive = segment.mask[k - 1 :].cpu().numpy()
    objects = scenes.objects.take(scenes.objects.frame >= (k - 1) * batch)
    objects = objects._replace(frame=objects.frame - (k - 1) * batch)
    objects = objects.take(alive.ravel()[objects.frame])
    player = scenes.player.reshape(-1, batch, 2)[k - 1 :]
    return frames_truth(segment, camera, k)._replace(player=player, objects=objects)


def frames_truth(segment: Segment, camera: Camera, k: int) -> GroundTruth:
    """`ground_truth` without player and objects, for any Procgen game. camera: of the frames [L, b]."""
    given, predicted = camera[:k], camera[k - 1 :]
    alive = segment.mask[k - 1 :].cpu().numpy()
    size = segment.obs.shape[2]
    visible = np.stack([visible_before(given, predicted[s], size) for s in range(len(alive))])
    frames = segment.obs[k - 1 :].cpu().numpy()
    return GroundTruth(frames, alive, predicted, given, visible, player=None, objects=None)


def baselines(
    truth: GroundTruth, given: np.ndarray, mean_frame: np.ndarray, partner: np.ndarray
) -> dict[str, np.ndarray]:
    """Predictions [S, b, H, W, C] uint8 that need no model, by name.

    Args:
        truth: the recorded windows.
        given: their given frames [K, b, H, W, C].
        mean_frame: [H, W, C] in 0-255.
        partner: [b], for each window another one, of a different level.
    """
    steps = np.arange(len(truth.alive))
    last = truth.alive.sum(0) - 1
    shape = truth.frames.shape
    shifted = [shifted_copy(given, truth.given_camera, truth.camera[s]) for s in steps]
    return {
        "copy": np.broadcast_to(given[-1], shape),
        "mean_frame": np.broadcast_to(np.round(mean_frame).astype(np.uint8), shape),
        "shifted_copy": np.stack(shifted),
        "other_episode": truth.frames[np.minimum(steps[:, None], last[partner]), partner],
    }


def pixel_errors(frames: np.ndarray, truth: GroundTruth) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors [S, b], pixels in [0, 1]: mean over all pixels, sum over previously visible ones."""
    error = squared_error(frames, truth)
    return error.mean((2, 3)), (error * truth.visible).sum((2, 3))


def squared_error(frames: np.ndarray, truth: GroundTruth) -> np.ndarray:
    """Squared error [S, b, H, W] of frames [S, b, H, W, C], pixels in [0, 1], averaged over channels."""
    pairs = zip(frames, truth.frames.astype(np.float32))
    return np.stack([((f.astype(np.float32) - r) / 255) ** 2 for f, r in pairs]).mean(-1)
