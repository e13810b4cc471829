"""What a world model makes of held-out windows, as a film: real, with every frame seen, and open loop from
the latent.
"""

import numpy as np
import torch

from common.policy import Policy
from generative.model.frames import frames_to_bytes
from generative.model.rssm import stack_states
from generative.model.world_model import WorldModel
from generative.training.teacher_forcing import Noise, Prediction, predict
from rollouts.segment import Segment

GAP = 4
PER_ROW = 2
"""Pixels between pictures; windows side by side."""


@torch.no_grad()
def preview_frames(model: WorldModel, segment: Segment, noise: Noise, agent: Policy) -> np.ndarray:
    """Frames [S, H', W', 3] uint8 of windows [L, B]: real | posterior | open loop for each; black after an
    episode's end.
    """
    mask, obs = (x[model.config.num_initializing_steps - 1 :] for x in (segment.mask, segment.obs))
    made = predict(model, segment, noise, agent)
    pictures = torch.stack([obs, *(torch.zeros_like(obs) for _ in range(2))])  # [3, S, B, H, W, C]
    pictures[1][mask] = frames_to_bytes(made.frames)
    pictures[2][mask] = frames_to_bytes(open_loop(model, made, noise))[mask]
    return tile_windows(pictures.cpu().numpy())


def open_loop(model: WorldModel, made: Prediction, noise: Noise) -> torch.Tensor:
    """Frames [S, B, H, W, C] along the recorded actions from the start state alone, as decoded."""
    states = [made.start.env]
    for action, drawn in zip(made.actions[:-1], noise.prior):
        states.append(model.step(states[-1], action, drawn))
    return stack_states(states).frame


def tile_windows(pictures: np.ndarray) -> np.ndarray:
    """[K, S, B, H, W, C] -> [S, rows, columns, C]: the K pictures of a window side by side, PER_ROW windows
    to a row, on white.
    """
    pad = ((0, 0),) * 3 + ((0, GAP), (0, GAP), (0, 0))
    spaced = np.pad(pictures, pad, constant_values=255)
    spaced = np.pad(
        spaced, ((0, 0), (0, 0), (0, -spaced.shape[2] % PER_ROW)) + ((0, 0),) * 3, constant_values=255
    )
    kinds, steps, windows, height, width, channels = spaced.shape
    grid = spaced.reshape(kinds, steps, windows // PER_ROW, PER_ROW, height, width, channels)
    return grid.transpose(1, 2, 4, 3, 0, 5, 6).reshape(
        steps, windows // PER_ROW * height, PER_ROW * kinds * width, channels
    )
