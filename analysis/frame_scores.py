"""How good simulated frames are, step by step, beside the simplest alternatives; by the rules of docs/pipeline.md.

PSNR is that of the squared error pooled over all frames at a step, of one sampled rollout. Two protocols are kept
apart: `posterior` sees each frame before it draws it; `open loop` sees the first frames only and follows the recorded
actions, which may betray what comes.
"""

from dataclasses import dataclass

import numpy as np
import torch

from analysis.predictions import open_loop, teacher_forced
from generative.simulator import Simulator
from rollouts.segment import Segment


@dataclass(frozen=True)
class FrameScores:
    """By steps after the last conditioning frame (index 0 is that frame itself): PSNR in dB, and the windows still alive.

    psnr: name -> [S]; n: [S] windows with a frame at that step; windows: their number at the start.
    """

    psnr: dict[str, np.ndarray]
    n: np.ndarray
    windows: int


def frame_scores(simulator: Simulator, segment: Segment, seed: int = 0) -> FrameScores:
    """Scores a simulator on windows [L, B] of recorded play, which should be of levels that it was not trained on."""
    k = simulator.model.config.num_initializing_steps
    real, mask = segment.obs[k - 1 :], segment.mask[k - 1 :]
    predictions = {
        "posterior": posterior_frames(simulator, segment, seed),
        "open loop": open_loop_frames(simulator, segment, seed),
        "copy of the last seen frame": real[:1].expand_as(real),
        "mean frame": real[mask].float().mean(0).expand_as(real),
    }
    error = {name: _pooled_error(frames, real, mask) for name, frames in predictions.items()}
    with np.errstate(divide="ignore"):  # the copy of the last seen frame is exact at step 0: infinite PSNR
        psnr = {name: -10 * np.log10(e) for name, e in error.items()}
    return FrameScores(psnr, mask.sum(1).numpy(), mask.shape[1])


def posterior_frames(simulator: Simulator, segment: Segment, seed: int) -> torch.Tensor:
    """Frames [S, B, H, W, C] in 0-255 drawn from states that have seen them."""
    return teacher_forced(simulator, segment, seed).posterior.float()


def open_loop_frames(simulator: Simulator, segment: Segment, seed: int) -> torch.Tensor:
    """Frames [S, B, H, W, C] in 0-255 of one sampled rollout from the first frames, along the recorded actions."""
    return open_loop(simulator, segment, seed).obs.float()


def _pooled_error(frames: torch.Tensor, real: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Mean squared error [S] over the pixels, in [0, 1], of all frames that exist at each step."""
    squared = ((frames.float() - real.float()) / 255).square().flatten(2).mean(2)
    return ((squared * mask).sum(1) / mask.sum(1).clamp(min=1)).numpy()
