"""Preview video of held-out windows: true frames, posterior reconstruction, and open loop from the latent."""

import numpy as np
import torch

from common.policy import Policy
from generative.model.frames import frames_to_bytes
from generative.model.latent import agent_burn_in
from generative.model.world_model import WorldModel
from generative.training.teacher_forcing import predict
from rollouts.segment import Segment

GAP = 4
"""Pixels between frames."""
PER_ROW = 2
"""Windows side by side."""


@torch.no_grad()
def preview_frames(model: WorldModel, segment: Segment, agent: Policy) -> np.ndarray:
    """Video frames [S, H', W', 3] uint8 that show true | posterior | open loop of each window.

    Args:
        model: the world model.
        segment: recorded windows [L, B].
        agent: the frozen agent.
    """
    k = model.config.num_initializing_steps
    mask, obs, action = segment.mask[k - 1 :], segment.obs[k - 1 :], segment.action[k - 1 :]
    posterior = predict(model, segment, agent, None, [None] * len(mask)).posterior
    state = model.start(model.encode(segment.obs[:k], agent_burn_in(agent, segment.obs[:k])).mean).env
    rollout = [state.frame]
    for step_action in action[:-1]:
        state = model.step(state, step_action)
        rollout.append(state.frame)
    kinds = torch.stack([obs, frames_to_bytes(posterior), frames_to_bytes(torch.stack(rollout))])
    return tile_windows((kinds * mask[..., None, None, None]).cpu().numpy())


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
