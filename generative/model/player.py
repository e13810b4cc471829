"""What the player does: its surroundings, the motion of the picture, the recurrent vector, and outcomes.

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
FREE = 2
"""Outcomes per axis that go on from the last motion: a share of it plus a push."""
SNAPS = 2
"""Outcomes per axis that end at a fixed phase, as on contact."""
OUTCOMES = FREE + SNAPS + 1
"""All outcomes per axis; the last is to stand still."""


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


def motion_features(motion: torch.Tensor, tile: float) -> torch.Tensor:
    """Features [B, NUM_MOTION_FEATURES] of motions [B, 2] in pixels, coarse and fine: a player who is slower
    than a tenth of a tile per step stops, so small differences matter.
    """
    angle = 2 * math.pi / tile * motion[..., None] * motion.new_tensor([1.0, 2.0, 4.0])
    scales = [motion / MAX_MOTION, torch.tanh(motion), torch.tanh(4 * motion)]
    return torch.cat([*scales, angle.sin().flatten(1), angle.cos().flatten(1)], -1)


NUM_MOTION_FEATURES = 18


class MotionOutcomes(NamedTuple):
    """The possible motions of an axis and their log-probabilities, [B, 2, OUTCOMES] each."""

    motion: torch.Tensor
    log_probs: torch.Tensor

    def choose(self, mode: str = "hard") -> torch.Tensor:
        """The likeliest motion [B, 2], with the gradient of the mean; in relaxed mode the mean."""
        probabilities = self.log_probs.exp()
        mean = (probabilities * self.motion).sum(-1)
        if mode == "relaxed":
            return mean
        best = self.motion.gather(-1, self.log_probs.argmax(-1, keepdim=True)).squeeze(-1)
        return best.detach() + (mean - mean.detach()) if mean.requires_grad else best

    def loss(self, motion: torch.Tensor, scale: float) -> torch.Tensor:
        """Negative log-likelihood [B] of true motions [B, 2], up to a constant, each outcome being a Laplace
        distribution of `scale` pixels: its gradient is as large far away as near.
        """
        error = (self.motion - motion[..., None]).abs() / scale
        return -(self.log_probs - error).logsumexp(-1).sum(-1)


class MotionHead(nn.Module):
    """Predicts the next motion as a choice between a few outcomes for each axis."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.tile = config.tile_pixels
        units = config.units
        self.tiles_layer = nn.Linear(NEIGHBOURHOOD**2 * (config.code_size + 1), units)
        self.other_layer = nn.Linear(
            NUM_PHASE_FEATURES + NUM_MOTION_FEATURES + config.num_actions + config.vector_size, units
        )
        self.body = nn.Sequential(
            nn.SiLU(), nn.Linear(units, units), nn.SiLU(), nn.Linear(units, units), nn.SiLU()
        )
        self.out = nn.Linear(units, 2 * (OUTCOMES + 2 * FREE))
        self.snap_phase = nn.Parameter(torch.tensor([[0.0, 0.5], [0.0, 0.5]]))

    def forward(
        self,
        vector: torch.Tensor,
        around: Surroundings,
        motion: torch.Tensor,
        action: torch.Tensor,
    ) -> MotionOutcomes:
        """Possible motions after an action.

        In training, contact passes its gradient on to the free motion before it: where feet are stopped by a
        floor the fall above would otherwise learn nothing.

        Args:
            vector: [B, V].
            around: what the player stands among.
            motion: the last one in pixels, [B, 2].
            action: weights [B, A].
        """
        other = torch.cat([around.phase, motion_features(motion, self.tile), action, vector], -1)
        x = self.out(self.body(self.tiles_layer(around.tiles) + self.other_layer(other))).unflatten(
            1, (2, -1)
        )
        logits, keep, push = x.split([OUTCOMES, FREE, FREE], -1)
        free = torch.sigmoid(keep + 2) * motion[..., None] + push
        flight = free[..., :1].detach() if self.training else free[..., :1]
        to_snap = self.snap_phase - (around.centre[..., None] - flight) / self.tile
        snapped = free[..., :1] - self.tile * (to_snap - torch.round(to_snap))
        still = torch.zeros_like(free[..., :1])
        return MotionOutcomes(torch.cat([free, snapped, still], -1), logits.log_softmax(-1))


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
