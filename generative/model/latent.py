"""The bottleneck: what the first frames show to a latent, a latent to a state.

The latent has a global part and a part for each tile of the view.
"""

import torch
from torch import nn
from torch.nn import functional as F

from common.policy import Policy
from common.precision import autocast_context
from generative.model.config import WorldModelConfig
from generative.model.layers import FiLM, mlp
from generative.model.motion import MAX_MOTION
from generative.model.player import NUM_PHASE_FEATURES, phase_features

PROJ_CHANNELS = 8
"""Channels per tile of the projection that the global part is computed from."""


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
    """The parameters of q(z | first frames).

    Phase and last motion also have a linear way in and out: an error of a tenth of a pixel in the motion
    becomes half a pixel ten steps later.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.precision = config.precision
        d = config.depth
        self.parts = 1 if config.latent == "sphere" else 2
        self.conv = nn.Conv2d(config.code_size, d, 3, padding=1)
        self.tile_head = nn.Linear(d, self.parts * config.latent_tile)
        self.projection = nn.Linear(d, PROJ_CHANNELS)
        inputs = PROJ_CHANNELS * config.num_tiles + config.hidden_size + config.pose_size
        inputs += NUM_PHASE_FEATURES + 2 * (config.num_initializing_steps - 1)
        self.global_head = mlp(inputs, config.units, self.parts * config.latent_global)
        self.place_layer = nn.Linear(4, self.parts * config.latent_global)
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        codes: torch.Tensor,
        phase: torch.Tensor,
        motion: torch.Tensor,
        pose: torch.Tensor,
        hidden: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Mean and log-variance of the latent, [B, Z] each; on the sphere the mean alone.

        Args:
            codes: of the tiles in view at the last frame, [B, h, w, K].
            phase: of the last frame, [B, 2] in tiles.
            motion: between the frames, [K - 1, B, 2] in pixels.
            pose: of the player in the last frame, [B, P].
            hidden: the agent's hidden state before the last frame, [B, D].
        """
        c = self.config
        with autocast_context(self.precision, codes.device.type):
            x = F.silu(self.conv(codes.permute(0, 3, 1, 2)))
        x = x.permute(0, 2, 3, 1).to(codes.dtype)
        inputs = [self.projection(x).flatten(1), phase_features(phase), pose, hidden]
        global_part = self.global_head(torch.cat([*inputs, *motion / MAX_MOTION], -1))
        global_part = global_part + self.place_layer(torch.cat([phase, motion[-1] / MAX_MOTION], -1))
        tile_part = self.tile_head(x).unflatten(-1, (self.parts, c.latent_tile)).unbind(3)
        return tuple(
            torch.cat([one, tiles.flatten(1)], -1)
            for one, tiles in zip(global_part.chunk(self.parts, -1), tile_part)
        )


class StartHead(nn.Module):
    """What a latent describes, besides the agent's part."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.precision = config.precision
        d = config.depth
        self.context_head = mlp(config.latent_global, config.units, config.vector_size)
        self.player_head = mlp(config.latent_global, config.units, 2 + 2 + config.pose_size)
        self.place_layer = nn.Linear(config.latent_global, 4)
        self.in_conv = nn.Conv2d(config.latent_tile, d, 3, padding=1)
        self.film = FiLM(config.vector_size, d)
        self.conv = nn.Conv2d(d, d, 3, padding=1)
        self.code_head = nn.Linear(d, config.code_size)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From z [B, Z]: codes [B, h, w, K], phase in tiles [B, 2] (a line, not a circle: the codes belong to
        the tiles from the first one on), motion in pixels [B, 2], and pose [B, P].
        """
        c = self.config
        global_part, tile_part = z.split([c.latent_global, z.shape[1] - c.latent_global], -1)
        context = torch.tanh(self.context_head(global_part))
        tiles = tile_part.unflatten(1, (*c.view_shape, c.latent_tile))
        with autocast_context(self.precision, z.device.type):
            x = self.film(self.in_conv(tiles.permute(0, 3, 1, 2)), context)
            x = x + F.silu(self.conv(x))
        codes = torch.tanh(self.code_head(x.permute(0, 2, 3, 1).to(z.dtype)))
        place, pose = self.player_head(global_part).split([4, c.pose_size], -1)
        phase, motion = (place + self.place_layer(global_part)).chunk(2, -1)
        return codes, 0.5 + phase, MAX_MOTION * motion, torch.tanh(pose)
