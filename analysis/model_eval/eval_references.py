"""What per-window scores refer to, fit once on real frames of training levels."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from analysis.model_eval.agent_view import Whitener, fit_whitener
from analysis.model_eval.detector_training_frames import hazard_frames
from analysis.model_eval.eval_windows import EvalWindows
from analysis.model_eval.frame_objects import concat_scenes
from analysis.model_eval.object_detector import Detector, fit_detector
from common.words import counted


class EvalReferences(NamedTuple):
    """Mean frame, whitening of the agent's hidden states, and object detector."""

    mean_frame: np.ndarray
    """[H, W, C] in 0-255."""
    whitener: Whitener
    detector: Detector


def fit_references(
    training: EvalWindows, times: Sequence[int], batch_size: int, env, seed: int
) -> EvalReferences:
    """Fits mean frame and whitening on frames of training windows, the detector also on frames near hazards.

    Args:
        training: windows of training levels.
        times: steps within a window whose frames are taken.
        batch_size: windows read at a time.
        env: CoinRun; its slots are overwritten.
        seed: of the detector and of the frames near hazards.
    """
    frames, hidden, scenes = training.sample(times, batch_size, env)
    mean_frame = np.mean(frames, axis=0, dtype=np.float64)
    near_hazards = hazard_frames(env, training.levels(), seed)
    if near_hazards is not None:
        frames = np.concatenate([frames, near_hazards[0]])
        scenes = concat_scenes(scenes, near_hazards[1])
    logging.info("fitting the detector on %s", counted(len(frames), "frame"))
    return EvalReferences(mean_frame, fit_whitener(hidden), fit_detector(frames, scenes, seed))


def pack(references: EvalReferences) -> dict[str, np.ndarray]:
    """The references as arrays by name, to be stored."""
    mean, axes = references.whitener
    weights = {f"detector/{name}": x.numpy() for name, x in references.detector.state_dict().items()}
    return {"mean_frame": references.mean_frame, "mean": mean, "axes": axes} | weights


def unpack(arrays: dict[str, np.ndarray]) -> EvalReferences:
    """The references that `pack` stored."""
    prefix = "detector/"
    weights = {name: torch.from_numpy(x) for name, x in arrays.items() if name.startswith(prefix)}
    detector = Detector()
    detector.load_state_dict({name.removeprefix(prefix): x for name, x in weights.items()})
    whitener = Whitener(arrays["mean"], arrays["axes"])
    return EvalReferences(arrays["mean_frame"], whitener, detector.eval().requires_grad_(False))
