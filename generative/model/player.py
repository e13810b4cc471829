"""The player: its surroundings, the recurrent vector, and outcomes; its motion is in motion_head.py.

All of it reads the few tiles around the centre of the view, where Procgen keeps the player, and the exact
place of the centre in its tile: whether feet meet a floor is a matter of a hundredth of a pixel.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from generative.model.canvas import base_tile, read_window, tile_phase
from generative.model.config import WorldModelConfig
from generative.model.layers import mlp
from generative.model.motion import MAX_MOTION
from generative.model.state import EnvState

NEIGHBOURHOOD = 7
"""Side in tiles of the surroundings; a step is at most 1.5 tiles."""
HARMONICS = 4


class Surroundings(NamedTuple):
    """tiles [B, n * n * (K + 1)]: codes around the centre of the view. phase [B, F]: features of the centre's
    place in its tile. centre [B, 2]: position of the centre in pixels.
    """

    tiles: torch.Tensor
    phase: torch.Tensor
    centre: torch.Tensor


def surroundings(canvas: torch.Tensor, position: torch.Tensor, config: WorldModelConfig) -> Surroundings:
    """What lies around the centre of the view at `position` [B, 2] of a canvas [B, G, G, K + 1]."""
    centre = centre_of(position, config)
    base = base_tile(centre, config.tile_pixels) - NEIGHBOURHOOD // 2
    tiles = read_window(canvas, base, (NEIGHBOURHOOD, NEIGHBOURHOOD))
    return surroundings_of(tiles, centre, config)


def centre_of(position: torch.Tensor, config: WorldModelConfig) -> torch.Tensor:
    """The centre [B, 2] of the view at `position` [B, 2], in pixels."""
    height, width, _ = config.obs_shape
    return position + position.new_tensor([height / 2, width / 2])


def surroundings_of(tiles: torch.Tensor, centre: torch.Tensor, config: WorldModelConfig) -> Surroundings:
    """Surroundings of a centre [B, 2] in the middle one of tiles [B, n, n, K + 1]."""
    return Surroundings(tiles.flatten(1), phase_features(centre / config.tile_pixels), centre)


def phase_features(place: torch.Tensor) -> torch.Tensor:
    """Features [B, 2 + 4 * HARMONICS] of places [B, 2] in tiles: the fraction, and its sines and cosines."""
    angle = 2 * math.pi * place[..., None] * torch.arange(1, HARMONICS + 1, device=place.device)
    return torch.cat([tile_phase(place, 1.0), angle.sin().flatten(1), angle.cos().flatten(1)], -1)


NUM_PHASE_FEATURES = 2 + 4 * HARMONICS


class VectorGRU(nn.Module):
    """Updates the vector with what happened in a step, and predicts the player's pose from it."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.tiles_layer = nn.Linear(NEIGHBOURHOOD**2 * (config.code_size + 1), config.units)
        inputs = config.units + NUM_PHASE_FEATURES + 2 + config.num_actions + config.pose_size
        self.mix = mlp(inputs, config.units, config.units)
        self.gru = nn.GRUCell(config.units, config.vector_size)
        self.pose_head = mlp(
            config.vector_size + NUM_PHASE_FEATURES + config.pose_size, config.units, config.pose_size
        )

    def forward(self, state: EnvState, around: Surroundings, motion: torch.Tensor, action: torch.Tensor):
        """The next vector [B, V] and pose [B, P], given the motion [B, 2] that the action [B, A] led to."""
        inputs = [self.tiles_layer(around.tiles), around.phase, motion / MAX_MOTION, action, state.pose]
        vector = self.gru(self.mix(torch.cat(inputs, -1)), state.vector)
        return vector, torch.tanh(self.pose_head(torch.cat([vector, around.phase, state.pose], -1)))


class OutcomeHead(nn.Module):
    """Reward and end of an action, from what the player meets on its way."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.tiles_layer = nn.Linear(NEIGHBOURHOOD**2 * (config.code_size + 1), config.units)
        inputs = NUM_PHASE_FEATURES + 4 + config.num_actions + config.vector_size
        self.other_layer = nn.Linear(inputs, config.units)
        self.body = nn.Sequential(nn.SiLU(), nn.Linear(config.units, config.units), nn.SiLU())
        self.out = nn.Linear(config.units, config.reward_bins + 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, before: EnvState, around: Surroundings, motion: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B, reward bins + 1] of the action that moves the picture by `motion` [B, 2]."""
        other = [around.phase, before.motion / MAX_MOTION, motion / MAX_MOTION, action, before.vector]
        x = self.tiles_layer(around.tiles) + self.other_layer(torch.cat(other, -1))
        return self.out(self.body(x))
