"""The bottleneck: the first frames, how they moved and what the agent remembers of them, to a latent; a
latent to the state that it describes.

A part of the latent belongs to no place, the rest to the cells of the picture.
"""

import torch
from torch import nn

from common.policy import Policy
from common.precision import autocast_context
from generative.model.config import WorldModelConfig
from generative.model.layers import FiLM, as_flat, as_map, mlp, upsample
from generative.model.motion import REACH

NARROW = 16
"""Channels through which the part without a place is read from the cells."""


@torch.no_grad()
def agent_burn_in(agent: Policy, frames: torch.Tensor) -> torch.Tensor:
    """What the agent remembers [B, D] before it sees the last of the frames [K, B, H, W, C], had it begun
    with the first.
    """
    batch = frames.shape[1]
    device = frames.device
    state = agent.initial_state(batch)
    first = torch.ones(batch, dtype=torch.bool, device=device)
    for frame in frames[:-1]:
        state, first = (
            agent.advance(frame, state, first, torch.zeros(batch, device=device)),
            torch.zeros_like(first),
        )
    return agent.hidden(state)


class LatentHead(nn.Module):
    """Embeddings [K, B, E], the motion between their frames [K - 1, B, 2] and memory [B, D] -> mean and
    log-variance of the latent, [B, Z] each; the mean alone on the sphere.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.precision = config.precision
        d = config.depth
        self.parts = 1 if config.latent == "sphere" else 2
        self.convs = nn.Sequential(
            nn.Conv2d(config.num_initializing_steps * d, d, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(d, d, 3, padding=1),
            nn.SiLU(),
        )
        self.cell_head = nn.Conv2d(d, self.parts * config.latent_cell, 1)
        self.projection = nn.Conv2d(d, NARROW, 1)
        known = NARROW * config.cells + config.hidden_size + 2 * (config.num_initializing_steps - 1)
        self.global_head = mlp(known, config.units, self.parts * config.latent_global)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, embeddings: torch.Tensor, motion: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        c = self.config
        maps = torch.cat([as_map(frame, c.coarse) for frame in embeddings], 1)
        with autocast_context(self.precision, embeddings.device.type):
            x = self.convs(maps)
            of_cells, narrow = (
                as_flat(layer(x)).to(embeddings.dtype) for layer in (self.cell_head, self.projection)
            )
        of_all = self.global_head(torch.cat([narrow, memory, *motion / REACH], -1)).chunk(self.parts, -1)
        of_cells = of_cells.unflatten(-1, (c.cells, self.parts, c.latent_cell)).unbind(2)
        return tuple(torch.cat([one, cells.flatten(1)], -1) for one, cells in zip(of_all, of_cells))


class StartHead(nn.Module):
    """z [B, Z] -> h [B, Dh] in (-1, 1), and raw outputs [B, G * C] for the categorical variables."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.precision = config.precision
        d = config.depth
        self.vector_head = mlp(config.latent_size, config.units, config.vector_size)
        self.in_conv = nn.Conv2d(config.latent_cell, d, 3, padding=1)
        self.film = FiLM(config.vector_size, d)
        self.conv = nn.Sequential(nn.Conv2d(d, d, 3, padding=1), nn.SiLU())
        self.map_head = upsample(d, config.map_channels)
        self.stoch_head = nn.Conv2d(d, config.groups * config.classes, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        c = self.config
        vector = torch.tanh(self.vector_head(z))
        with autocast_context(self.precision, z.device.type):
            x = self.conv(self.film(self.in_conv(as_map(z[:, c.latent_global :], c.coarse)), vector))
            cells, raw = (as_flat(layer(x)).to(z.dtype) for layer in (self.map_head, self.stoch_head))
        return torch.cat([vector, torch.tanh(cells)], -1), raw
