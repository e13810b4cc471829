"""How good simulated frames are, step by step, beside the simplest predictions; by the rules of
docs/pipeline.md.

PSNR is that of the squared error pooled over all frames at a step, of one sampled rollout. Two protocols
are kept
apart: `posterior` sees each frame before it draws it; `open_loop` sees the first frames only and follows
the recorded
actions, which may betray what comes. Beside them: the last given frame, the given frames shifted by the
true camera, and the mean frame.
Several simulators are scored on the same windows.
"""

from collections.abc import Mapping

import numpy as np
import torch

from analysis.model_eval.camera import Camera, visible_before
from analysis.model_eval.predictions import open_loop, teacher_forced
from analysis.model_eval.window_scores import GroundTruth, baselines, pixel_errors
from common.stats import json_estimates, level_weights
from envs.procgen_body import parse
from generative.simulator import Simulator
from interpret.psnr import pooled_psnr
from rollouts.segment import Segment
from rollouts.states import replay_states
from rollouts.store import Rollouts

BASELINES = ("shifted_copy", "copy", "mean_frame")
RESAMPLES = 1000
"""Bootstrap resamples of the report card and of frame scores."""
CAMERA = ("x_off", "y_off", "unit", "view_dim")


def replay_cameras(rollouts: Rollouts, segment: Segment, env=None) -> Camera:
    """The cameras [L, B] of a window's frames, read from the states of any Procgen game; after an end, the
    last frame's again."""
    length = segment.mask.shape[0]
    last = rollouts.episodes["length"][segment.episode.numpy()] - 1
    steps = np.minimum(np.arange(length)[:, None] + segment.start.numpy(), last)
    states = replay_states(rollouts, np.tile(segment.episode.numpy(), length), steps.ravel(), env)
    fields = np.array([[parse(state.data).scene[name] for name in CAMERA] for state in states], np.float64)
    return Camera(*fields.T.reshape(len(CAMERA), length, -1))


def frame_errors(
    simulators: Mapping[str, Simulator],
    segment: Segment,
    camera: Camera,
    mean_frame: np.ndarray,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Squared errors of windows [L, B] as arrays [S, B]; index 0 is the last given frame.

    Args:
        simulators: by name; all take the same number of first frames.
        segment: recorded windows, of levels that no simulator was trained on.
        camera: of its frames, [L, B].
        mean_frame: [H, W, C] in 0-255, of other recorded frames.

    Returns:
        alive: whether there is a frame; seen_pixels: how many of its pixels a given frame had shown.
        error/<prediction>: mean over
        pixels, in [0, 1] units; seen_error/<prediction>: sum over seen pixels. Predictions:
        <simulator>/open_loop,
        <simulator>/posterior, and FLOORS.
    """
    k = num_given_frames(simulators)
    truth = _truth(segment, camera, k)
    given = segment.obs[:k].numpy()
    stand_in = np.zeros(segment.mask.shape[1], np.int64)  # another window's frames are no baseline here
    predicted = {
        name: frames
        for name, frames in baselines(truth, given, mean_frame, stand_in).items()
        if name in BASELINES
    }
    for name, simulator in simulators.items():
        predicted[f"{name}/open_loop"] = open_loop(simulator, segment, seed).obs.numpy()
        predicted[f"{name}/posterior"] = teacher_forced(simulator, segment, seed).posterior.numpy()
    out = {"alive": truth.alive, "seen_pixels": truth.visible.sum((2, 3)) * truth.alive}
    for name, frames in predicted.items():
        out[f"error/{name}"], out[f"seen_error/{name}"] = pixel_errors(frames, truth)
    return out


def num_given_frames(simulators: Mapping[str, Simulator]) -> int:
    """How many first frames the simulators take. Raises ValueError where they differ."""
    counts = {simulator.model.config.num_initializing_steps for simulator in simulators.values()}
    if len(counts) != 1:
        raise ValueError(
            f"simulators that take {sorted(counts)} first frames cannot be scored on the same windows"
        )
    return counts.pop()


def frame_scores(
    errors: Mapping[str, np.ndarray], layouts: np.ndarray, seed: int = 0
) -> dict[str, dict[str, list[dict]]]:
    """{"whole" or "seen": {prediction: PSNR in dB by step, each with its 95% interval by layout and its
    n}}. layouts [B]."""
    weights = level_weights(layouts, RESAMPLES, seed=seed)
    alive = errors["alive"]
    n = alive.sum(1)
    names = [name.removeprefix("error/") for name in errors if name.startswith("error/")]
    return {
        "whole": {
            name: json_estimates(pooled_psnr(weights, errors[f"error/{name}"], alive), n) for name in names
        },
        "seen": {
            name: json_estimates(pooled_psnr(weights, errors[f"seen_error/{name}"], errors["seen_pixels"]), n)
            for name in names
        },
    }


def _truth(segment: Segment, camera: Camera, k: int) -> GroundTruth:
    """What really happened after the first K - 1 frames; whether things stand there is not asked."""
    alive = segment.mask[k - 1 :].numpy()
    size = segment.obs.shape[2]
    shown = camera[:k]
    later = camera[k - 1 :]
    visible = np.stack([visible_before(shown, later[s], size) for s in range(len(alive))])
    return GroundTruth(segment.obs[k - 1 :].numpy(), alive, later, shown, visible, player=None, objects=None)


def compute_mean_frame(segment: Segment) -> np.ndarray:
    """The mean frame [H, W, C] of windows, in 0-255."""
    return segment.obs[segment.mask].to(torch.float64).mean(0).numpy()
