"""An agent whose hidden state carries known concepts along known directions, some of which its heads read."""

import numpy as np
import torch
from torch import nn

from common.policy import CategoricalPolicy

WIDTH = 12
LEVELS = 120
STEPS = 40
SIDE = 4  # a frame of SIDE x SIDE x 3 numbers: the concepts, then the noise of each hidden unit, then nothing


class PlantedAgent(CategoricalPolicy, nn.Module):
    """A Policy: state = mixing @ concepts + noise, where a frame spells out both. Heads read the concepts
    numbered `value` and `policy`.
    """

    def __init__(self, concepts: int, noise: float = 0.02, value: int = 0, policy: int = 1):
        super().__init__()
        rng = np.random.default_rng(0)
        scales = np.exp(rng.normal(size=(WIDTH, 1)))  # features of different units
        self.mixing = scales * rng.normal(size=(WIDTH, concepts))
        self.num_actions = 3
        self.memory = nn.Linear(SIDE * SIDE * 3, WIDTH)
        self.value_head = nn.Linear(WIDTH, 1)
        self.policy_head = nn.Linear(WIDTH, 3)
        reading = np.linalg.pinv(self.mixing)
        with torch.no_grad():
            self.memory.weight.zero_()
            self.memory.weight[:, :concepts] = torch.from_numpy(self.mixing)
            self.memory.weight[:, concepts : concepts + WIDTH] = torch.from_numpy(
                np.diag(noise * scales[:, 0])
            )
            self.memory.bias.copy_(torch.from_numpy(rng.normal(size=WIDTH)))
            self.value_head.weight.copy_(torch.from_numpy(reading[value]))
            self.policy_head.weight.zero_()
            self.policy_head.weight[1] = torch.from_numpy(reading[policy])

    def initial_state(self, n, target_return=None):
        return torch.zeros(n, WIDTH)

    def advance(self, obs, state, first, reward):
        return self.memory(obs.flatten(1))

    def heads(self, state):
        return self.policy_head(state), self.value_head(state).squeeze(-1)


def frames_of(sources: np.ndarray, seed: int = 1) -> torch.Tensor:
    """Frames [n, SIDE, SIDE, 3] that show the agent concepts sources [n, K], and noise."""
    n, count = sources.shape
    pixels = np.zeros((n, SIDE * SIDE * 3), np.float32)
    pixels[:, :count] = sources
    pixels[:, count : count + WIDTH] = np.random.default_rng(seed).normal(size=(n, WIDTH))
    return torch.from_numpy(pixels.reshape(n, SIDE, SIDE, 3))


def levels() -> np.ndarray:
    """The level of each of LEVELS * STEPS states."""
    return np.repeat(np.arange(LEVELS), STEPS)


def independent(count: int, seed: int = 0) -> np.ndarray:
    """Sources [n, count] of mean 0 and variance 1, none Gaussian: sparse ones, flat ones, and a truth value,
    in turn.
    """
    rng = np.random.default_rng(seed)
    n = LEVELS * STEPS
    kinds = (
        lambda: rng.laplace(size=n) / np.sqrt(2),
        lambda: rng.uniform(-1, 1, n) * np.sqrt(3),
        lambda: rng.choice([-1.0, 1.0], n),
    )
    return np.stack([kinds[i % 3]() for i in range(count)], 1)


def states_of(agent: PlantedAgent, sources: np.ndarray) -> np.ndarray:
    """Hidden states [n, WIDTH] of the agent that sees these concepts."""
    with torch.no_grad():
        return agent.advance(frames_of(sources), None, None, None).numpy()
