"""The bottleneck: first frames, their motion and the agent's hidden state to a latent, a latent to a state.

The latent has a global part and a part for each 8 x 8 cell of the frame.
"""

import torch
from torch import nn

from common.policy import Policy
from common.precision import autocast_context
from generative.model.config import WorldModelConfig
from generative.model.layers import FiLM, as_flat, as_map, mlp, upsample
from generative.model.motion import MAX_MOTION

PROJ_CHANNELS = 16
"""Channels per cell of the projection that the global part is computed from."""


@torch.no_grad()
def agent_burn_in(agent: Policy, frames: torch.Tensor) -> torch.Tensor:
    """The agent's hidden state [B, D] before the last of the frames [K, B, H, W, C], starting from its
    initial state at the first.
    """
    batch = frames.shape[1]
    device = frames.device
    state = agent.initial_state(batch)
    first = torch.ones(batch, dtype=torch.bool, device=device)
    for frame in frames[:-1]:
        state = agent.advance(frame, state, first, torch.zeros(batch, device=device))
        first = torch.zeros_like(first)
    return agent.hidden(state)


class LatentHead(nn.Module):
    """The parameters of q(z | first frames)."""

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
        self.projection = nn.Conv2d(d, PROJ_CHANNELS, 1)
        inputs = PROJ_CHANNELS * config.num_cells + config.hidden_size
        inputs += 2 * (config.num_initializing_steps - 1)
        self.global_head = mlp(inputs, config.units, self.parts * config.latent_global)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, embeddings: torch.Tensor, motion: torch.Tensor, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Mean and log-variance of the latent, [B, Z] each; on the sphere the mean alone.

        Args:
            embeddings: of the K first frames, [K, B, E].
            motion: between them, [K - 1, B, 2].
            hidden: the agent's hidden state before the last of them, [B, D].
        """
        c = self.config
        maps = torch.cat([as_map(frame, c.grid_shape) for frame in embeddings], 1)
        with autocast_context(self.precision, embeddings.device.type):
            x = self.convs(maps)
            cell_part = as_flat(self.cell_head(x)).to(embeddings.dtype)
            projected = as_flat(self.projection(x)).to(embeddings.dtype)
        global_part = self.global_head(torch.cat([projected, hidden, *motion / MAX_MOTION], -1))
        cell_part = cell_part.unflatten(-1, (c.num_cells, self.parts, c.latent_cell)).unbind(2)
        return tuple(
            torch.cat([one, cells.flatten(1)], -1)
            for one, cells in zip(global_part.chunk(self.parts, -1), cell_part)
        )


class StartHead(nn.Module):
    """The start state that a latent describes."""

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
        """z [B, Z] -> h [B, Dh] in (-1, 1), and raw logits [B, G * C] of the categorical variables."""
        c = self.config
        vector = torch.tanh(self.vector_head(z))
        with autocast_context(self.precision, z.device.type):
            cell_part = as_map(z[:, c.latent_global :], c.grid_shape)
            x = self.conv(self.film(self.in_conv(cell_part), vector))
            cells = as_flat(self.map_head(x)).to(z.dtype)
            raw = as_flat(self.stoch_head(x)).to(z.dtype)
        return torch.cat([vector, torch.tanh(cells)], -1), raw
