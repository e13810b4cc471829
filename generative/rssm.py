"""The recurrent state-space model: what is certain is kept in h, what is not in groups of categorical variables.

After Hafner et al. 2023 (DreamerV3). h has two parts: a vector, kept by a block-diagonal GRU, and a map of cells that lie where
the picture shows them, kept by generative/map_memory.py. The categorical variables belong to cells too. The prior guesses
them from h alone; the posterior has also seen the frame. Only this core walks through time.
"""

from typing import NamedTuple

import torch
from torch import nn

from generative.categorical import draw, with_uniform
from generative.config import WorldModelConfig
from generative.layers import BlockLinear, Modulated, as_flat, as_map, dense, halving, lower
from generative.map_memory import MapMemory


class EnvState(NamedTuple):
    """The environment's state at one step (or, time-major, at many).

    deter [..., Dh]: h, in (-1, 1), the vector and then the map, cell by cell. logits [..., G, C]: log-probabilities of the categorical part. sample [..., G, C]: the draw
    from them (one-hot, or the probabilities in relaxed mode).
    """

    deter: torch.Tensor
    logits: torch.Tensor
    sample: torch.Tensor

    def features(self) -> torch.Tensor:
        """h and the draw side by side: [..., Dh + G * C]."""
        return torch.cat([self.deter, self.sample.flatten(-2)], -1)


def stack_states(states: list[EnvState]) -> EnvState:
    """States of successive steps as one time-major state."""
    return EnvState(*(torch.stack(parts) for parts in zip(*states)))


GLANCE = 16
"""Channels of the coarse view of the map that dense layers read."""


class BlockGRU(nn.Module):
    """The vector of h from the last one and what there is to know: every block has its own recurrent weights and sees all inputs.

    The update gate has a bias of -1: at first, states change slowly.
    """

    def __init__(self, config: WorldModelConfig, sizes: tuple[int, ...]):
        super().__init__()
        self.blocks, width = config.blocks, config.vector_size // config.blocks
        self.inputs = nn.ModuleList(dense(size, config.units) for size in (config.vector_size, *sizes))
        self.mix = BlockLinear(config.blocks, width + len(self.inputs) * config.units, width)
        self.norm = nn.Sequential(nn.LayerNorm(config.vector_size), nn.SiLU())
        self.gates = BlockLinear(config.blocks, width, 3 * width)

    def forward(self, vector, *others):
        """vector [B, V] and further inputs [B, size] each -> [B, V]."""
        shared = torch.cat([layer(x) for layer, x in zip(self.inputs, (vector, *others))], -1)
        own = vector.unflatten(-1, (self.blocks, -1))
        mixed = self.mix(torch.cat([own, shared[:, None].expand(-1, self.blocks, -1)], -1)).flatten(1)
        reset, candidate, update = self.gates(self.norm(mixed).unflatten(-1, (self.blocks, -1))).chunk(3, -1)
        update = torch.sigmoid(update - 1)
        return (update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * own).flatten(1)


class CellHead(nn.Module):
    """Raw outputs [N, G * C] for the categorical variables of every cell, from vector, map and, for the posterior, an embedding [N, E]."""

    def __init__(self, config: WorldModelConfig, seen: int = 0):
        super().__init__()
        self.config, self.precision, d = config, config.precision, config.depth
        self.halve, self.mix = halving(config.map_channels, d), nn.Conv2d(d + seen, d, 3, padding=1)
        self.shade, self.out = Modulated(config.vector_size, d), nn.Conv2d(d, config.groups * config.classes, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, vector, cells, embedding=None):
        with lower(self.precision, vector.device.type):
            x = self.halve(cells)
            if embedding is not None:
                x = torch.cat([x, as_map(embedding, self.config.coarse).to(x.dtype)], 1)
            return as_flat(self.out(self.shade(self.mix(x), vector))).to(vector.dtype)


class RSSM(nn.Module):
    """The core with its prior and posterior heads."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.glance = nn.Sequential(halving(config.map_channels, GLANCE), nn.Flatten()).to(memory_format=torch.channels_last)
        self.vector = BlockGRU(config, (config.stoch_size, config.num_actions, GLANCE * config.cells))
        self.map = MapMemory(config)
        self.prior_head, self.posterior_head = CellHead(config), CellHead(config, config.depth)
        self.summary_size = config.vector_size + GLANCE * config.cells

    def parts(self, deter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """h [N, Dh] as its vector [N, V] and its map [N, M, H / 4, W / 4]."""
        vector, cells = deter.split([self.config.vector_size, self.config.deter_size - self.config.vector_size], -1)
        return vector, as_map(cells, self.config.fine)

    def summary(self, deter: torch.Tensor) -> torch.Tensor:
        """h [..., Dh] with its map seen coarsely, for dense layers: [..., V + GLANCE * cells]."""
        vector, cells = self.parts(deter.reshape(-1, deter.shape[-1]))
        return torch.cat([vector, self.glance(cells)], -1).reshape(*deter.shape[:-1], -1)

    def core(self, deter, sample, action) -> torch.Tensor:
        """h after an action: deter [B, Dh], sample [B, G, C], action [B, A] (one-hot or soft) -> [B, Dh]."""
        (vector, cells), flat = self.parts(deter), sample.flatten(1)
        vector = self.vector(vector, flat, action, self.glance(cells))
        return torch.cat([vector, as_flat(self.map(cells, as_map(flat, self.config.coarse), vector))], -1)

    def distribution(self, raw: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [..., G, C], uniform mixed in, of raw outputs [..., G * C]."""
        return with_uniform(raw.unflatten(-1, self.config.stoch_shape), self.config.uniform_mix)

    def prior(self, deter, noise=None, mode: str = "hard") -> EnvState:
        """The state [..., Dh] that no frame has been shown to; noise [..., G, C] or None for the likeliest."""
        raw = self.prior_head(*self.parts(deter.reshape(-1, deter.shape[-1])))
        logits = self.distribution(raw.reshape(*deter.shape[:-1], -1))
        return EnvState(deter, logits, draw(logits, noise, mode))

    def posterior(self, deter, embedding, noise=None) -> EnvState:
        """The state [B, Dh] that has seen its frame, as an embedding [B, E]."""
        logits = self.distribution(self.posterior_head(*self.parts(deter), embedding))
        return EnvState(deter, logits, draw(logits, noise))

    def observe(self, start: EnvState, action, embeddings, noise) -> tuple[torch.Tensor, EnvState]:
        """Walks along recorded actions, each new state corrected by its frame.

        start: state 0. action [S, B, A]: of states 0 .. S - 1. embeddings [S - 1, B, E] and noise [S - 1, B, G, C]: of
        states 1 .. S - 1; the state after the last action has no frame in the window.
        Returns h of states 1 .. S, [S, B, Dh], and the states 0 .. S - 1 that frames are decoded from.
        """
        states, deters = [start], []
        for i, taken in enumerate(action):
            deters.append(self.core(states[-1].deter, states[-1].sample, taken))
            if i < len(embeddings):
                states.append(self.posterior(deters[-1], embeddings[i], noise[i]))
        return torch.stack(deters), stack_states(states)
