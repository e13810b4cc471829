"""Recorded episodes lived through again by a recurrent core: the states of another checkpoint, or of a core
that nobody has trained.
"""

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from agents.cores import CORES


def rerun_core(
    core, features: np.ndarray, first_step: np.ndarray, length: np.ndarray, device: torch.device | str = "cpu"
) -> np.ndarray:
    """States after every step [n, S], each episode begun at zero: features [n, F] of episodes that begin at
    rows first_step [E] and have `length` [E] steps. device: the core's.
    """
    order = np.argsort(-length, kind="stable")
    states = np.empty((len(features), core.state_size), np.float32)
    now = torch.zeros(len(order), core.state_size, device=device)
    with torch.inference_mode():
        for t in range(length.max()):
            live = order[: (length > t).sum()]
            rows = first_step[live] + t
            seen = torch.from_numpy(features[rows]).to(device)
            now = core.step(seen, now[: len(live)], torch.full((len(live),), t == 0, device=device))
            states[rows] = now.cpu().numpy()
    return states


def before(states: np.ndarray, first_step: np.ndarray) -> np.ndarray:
    """The state before each step [n, S] from those after it: zero where an episode begins."""
    earlier = np.roll(states, 1, 0)
    earlier[first_step] = 0
    return earlier


def untrained_core(agent: ActorCritic, seed: int):
    """A core like the agent's, with weights as they are before training."""
    config = agent.config
    torch.manual_seed(seed)
    return CORES[config.core](config.feature_size, config.hidden_size, config.keep_bias)
