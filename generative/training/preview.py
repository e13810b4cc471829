"""Preview video of held-out windows: true frames, posterior reconstruction, and open loop from the latent."""

import numpy as np
import torch

from common.policy import Policy
from generative.model.frames import frames_to_bytes
from generative.model.rssm import stack_states
from generative.model.world_model import WorldModel
from generative.training.teacher_forcing import Noise, Prediction, predict
from rollouts.segment import Segment

GAP = 4
"""Pixels between frames."""
PER_ROW = 2
"""Windows side by side."""


@torch.no_grad()
def preview_frames(model: WorldModel, segment: Segment, noise: Noise, agent: Policy) -> np.ndarray:
    """Video frames [S, H', W', 3] uint8 that show true | posterior | open loop of each window.

    Args:
        model: the world model.
        segment: recorded windows [L, B].
        noise: see `draw_noise`.
        agent: the frozen agent.
    """
    mask, obs = (x[model.config.num_initializing_steps - 1 :] for x in (segment.mask, segment.obs))
    pred = predict(model, segment, noise, agent)
    kinds = torch.stack([obs, torch.zeros_like(obs), torch.zeros_like(obs)])  # [3, S, B, H, W, C]
    kinds[1][mask] = frames_to_bytes(pred.frames)
    kinds[2][mask] = frames_to_bytes(open_loop(model, pred, noise))[mask]
    return tile_windows(kinds.cpu().numpy())


def open_loop(model: WorldModel, pred: Prediction, noise: Noise) -> torch.Tensor:
    """Decoded frames [S, B, H, W, C] along the recorded actions, from the start states alone."""
    states = [pred.start.env]
    for action, step_noise in zip(pred.actions[:-1], noise.prior):
        states.append(model.step(states[-1], action, step_noise))
    return stack_states(states).frame


def tile_windows(frames: np.ndarray) -> np.ndarray:
    """[K, S, B, H, W, C] -> [S, rows, columns, C]: the K kinds of a window side by side, PER_ROW windows per
    row, on white.
    """
    pad = ((0, 0),) * 3 + ((0, GAP), (0, GAP), (0, 0))
    spaced = np.pad(frames, pad, constant_values=255)
    missing = -spaced.shape[2] % PER_ROW
    spaced = np.pad(spaced, ((0, 0), (0, 0), (0, missing)) + ((0, 0),) * 3, constant_values=255)
    kinds, steps, windows, height, width, channels = spaced.shape
    rows = windows // PER_ROW
    grid = spaced.reshape(kinds, steps, rows, PER_ROW, height, width, channels)
    return grid.transpose(1, 2, 4, 3, 0, 5, 6).reshape(
        steps, rows * height, PER_ROW * kinds * width, channels
    )
