"""Reruns a recurrent core over recorded episodes: of another checkpoint, or untrained as a baseline."""

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from agents.cores import CORES


def rerun_core(
    core, features: np.ndarray, first_step: np.ndarray, length: np.ndarray, device: torch.device | str = "cpu"
) -> np.ndarray:
    """States after every step [n, S], each episode started from the initial state (zero).

    Args:
        core: a recurrent core (`agents.cores`).
        features: [n, F], the encoder's output at every step.
        first_step: [E], the row at which each episode begins.
        length: [E], its number of steps.
        device: the core's.
    """
    order = np.argsort(-length, kind="stable")  # longest first: running episodes are a prefix
    states = np.empty((len(features), core.state_size), np.float32)
    state = torch.zeros(len(order), core.state_size, device=device)
    with torch.inference_mode():
        for t in range(length.max()):
            running = order[: (length > t).sum()]
            rows = first_step[running] + t
            first = torch.full((len(running),), t == 0, device=device)
            state = core.step(torch.from_numpy(features[rows]).to(device), state[: len(running)], first)
            states[rows] = state.cpu().numpy()
    return states


def states_before(states_after: np.ndarray, first_step: np.ndarray) -> np.ndarray:
    """The state before each step [n, S] from those after it; zero where an episode begins."""
    previous = np.roll(states_after, 1, 0)
    previous[first_step] = 0
    return previous


def untrained_core(agent: ActorCritic, seed: int):
    """A core of the agent's architecture with freshly initialised weights."""
    config = agent.config
    torch.manual_seed(seed)
    return CORES[config.core](config.feature_size, config.hidden_size, config.keep_bias)
