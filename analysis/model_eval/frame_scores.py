"""PSNR of predicted frames by step, for several simulators and the baselines on the same windows.

PSNR is that of the squared error pooled over all frames at a step, of one sampled rollout (docs/pipeline.md).
Two protocols are kept apart: `posterior` frames are decoded from states that have seen them; `open_loop` sees
the first frames only and follows the recorded actions, which may reveal what comes. Baselines: the last given
frame, the given frames shifted by the true camera, and the mean frame.
"""

from collections.abc import Mapping

import numpy as np
import torch

from analysis.model_eval.camera import Camera
from analysis.model_eval.ground_truth import baselines, frames_truth, pixel_errors
from analysis.model_eval.predictions import open_loop, teacher_forced
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
    """Cameras of the frames of windows [L, B], read from the replayed states of any Procgen game.

    After the end of an episode, the last frame's camera.
    """
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
        simulators: by name; all take the same number of given frames.
        segment: recorded windows, of levels that no simulator was trained on.
        camera: of its frames, [L, B].
        mean_frame: [H, W, C] in 0-255, of other recorded frames.
        seed: of the simulators' noise.

    Returns:
        alive: whether there is a frame.
        seen_pixels: number of its pixels whose place a given frame had shown.
        error/<prediction>: mean over all pixels, pixels in [0, 1].
        seen_error/<prediction>: sum over seen pixels.

        Predictions: <simulator>/open_loop, <simulator>/posterior and the BASELINES.
    """
    k = num_given_frames(simulators)
    truth = frames_truth(segment, camera, k)
    no_partner = np.zeros(segment.mask.shape[1], np.int64)  # another window's frames are no baseline here
    simple = baselines(truth, segment.obs[:k].numpy(), mean_frame, no_partner)
    predicted = {name: frames for name, frames in simple.items() if name in BASELINES}
    for name, simulator in simulators.items():
        predicted[f"{name}/open_loop"] = open_loop(simulator, segment, seed).obs.numpy()
        predicted[f"{name}/posterior"] = teacher_forced(simulator, segment, seed).posterior.numpy()
    errors = {"alive": truth.alive, "seen_pixels": truth.visible.sum((2, 3)) * truth.alive}
    for name, frames in predicted.items():
        errors[f"error/{name}"], errors[f"seen_error/{name}"] = pixel_errors(frames, truth)
    return errors


def num_given_frames(simulators: Mapping[str, Simulator]) -> int:
    """Number of given frames of all simulators.

    Raises:
        ValueError: if they differ.
    """
    counts = {simulator.model.config.num_initializing_steps for simulator in simulators.values()}
    if len(counts) != 1:
        raise ValueError(
            f"simulators that take {sorted(counts)} first frames cannot be scored on the same windows"
        )
    return counts.pop()


def frame_scores(
    errors: Mapping[str, np.ndarray], layouts: np.ndarray, seed: int = 0
) -> dict[str, dict[str, list[dict]]]:
    """PSNR in dB with its 95% interval by layout: {"whole" or "seen": {prediction: [one for each step]}}.

    Args:
        errors: from `frame_errors`.
        layouts: [B], the layout of each window.
        seed: of the bootstrap resamples.
    """
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


def compute_mean_frame(segment: Segment) -> np.ndarray:
    """Mean frame [H, W, C] of windows, in 0-255."""
    return segment.obs[segment.mask].to(torch.float64).mean(0).numpy()
