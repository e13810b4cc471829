"""How the picture moves in a step: free flight, or a contact on the way."""

import math
from typing import NamedTuple

import torch
from torch import nn

from generative.model.config import WorldModelConfig
from generative.model.feelers import TOUCHES, Feelers
from generative.model.motion import MAX_MOTION
from generative.model.player import NEIGHBOURHOOD, NUM_PHASE_FEATURES, Surroundings

FREE = 2
"""Outcomes per axis that go on from the last motion: a share of it plus a push."""
CONTACTS = 16
"""Phases per axis at which each free flight may be stopped. They begin evenly spaced, so that one is close to
any phase that is to be learned.
"""
OUTCOMES = FREE * (1 + CONTACTS) + 1
"""All outcomes per axis: the flights, the contacts of each, and to stand still."""
FAR_SHARE, FAR_SCALE = 0.1, 0.5
"""Share and scale in pixels of the wide part of each outcome's distribution."""
_PHASE_KNOTS = 41
_MOTION_KNOTS = 81
_SLOW = 2.0
"""Motions of up to this many pixels have fine features."""


def motion_features(motion: torch.Tensor, tile: float) -> torch.Tensor:
    """Features [B, 18] of motions [B, 2] in pixels, coarse and fine: a player who is slower than a tenth of a
    tile per step stops, so small differences matter.
    """
    angle = 2 * math.pi / tile * motion[..., None] * motion.new_tensor([1.0, 2.0, 4.0])
    scales = [motion / MAX_MOTION, torch.tanh(motion), torch.tanh(4 * motion)]
    return torch.cat([*scales, angle.sin().flatten(1), angle.cos().flatten(1)], -1)


def hats(x: torch.Tensor, low: float, high: float, knots: int) -> torch.Tensor:
    """Features [B, 2 * knots] of x [B, 2]: piecewise linear with evenly spaced knots from low to high; linear
    layers make of them any such function.
    """
    at = torch.linspace(low, high, knots, device=x.device, dtype=x.dtype)
    return (1 - (x[..., None] - at).abs() * (knots - 1) / (high - low)).clamp(min=0).flatten(1)


def fine_features(around: Surroundings, motion: torch.Tensor) -> torch.Tensor:
    """Hats of the phase and of slow motions: [B, NUM_FINE_FEATURES]."""
    slow = hats(motion.clamp(-_SLOW, _SLOW), -_SLOW, _SLOW, _MOTION_KNOTS)
    return torch.cat([hats(around.phase[:, :2], 0.0, 1.0, _PHASE_KNOTS), slow], -1)


NUM_MOTION_FEATURES = 18
NUM_FINE_FEATURES = 2 * (_PHASE_KNOTS + _MOTION_KNOTS)


class MotionOutcomes(NamedTuple):
    """The possible motions of each axis, their log-probabilities, and the flights that they belong to,
    [B, 2, OUTCOMES] each.
    """

    motion: torch.Tensor
    log_probs: torch.Tensor
    flight: torch.Tensor

    def choose(self, mode: str = "hard") -> torch.Tensor:
        """The likeliest motion [B, 2], with the gradient of the mean; in relaxed mode the mean."""
        probabilities = self.log_probs.exp()
        mean = (probabilities * self.motion).sum(-1)
        if mode == "relaxed":
            return mean
        best = self.motion.gather(-1, self.log_probs.argmax(-1, keepdim=True)).squeeze(-1)
        return best.detach() + (mean - mean.detach()) if mean.requires_grad else best

    def loss(self, motion: torch.Tensor, scale: float) -> torch.Tensor:
        """Negative log-likelihood [B] of true motions [B, 2], up to a constant.

        Each outcome is a mixture of two Laplace distributions, of `scale` and of FAR_SCALE pixels, whose
        gradient is as large far away as near. An outcome that is nearly right moves itself; one that is far
        off moves its flight, as no contact of a wrong flight is near.
        """
        passed = self.flight + (self.motion - self.flight).detach()
        near, far = ((x - motion[..., None]).abs() for x in (self.motion, passed))
        near = math.log(1 - FAR_SHARE) - near / scale
        far = math.log(FAR_SHARE * scale / FAR_SCALE) - far / FAR_SCALE
        return -(self.log_probs + torch.logaddexp(near, far)).logsumexp(-1).sum(-1)


class MotionHead(nn.Module):
    """Predicts the next motion as a choice between a few outcomes for each axis.

    Free flights first; then feelers at the places that they lead to tell whether something is in the way.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.tile = config.tile_pixels
        units = config.units
        self.tiles_layer = nn.Linear(NEIGHBOURHOOD**2 * (config.code_size + 1), units)
        other = NUM_PHASE_FEATURES + NUM_MOTION_FEATURES + NUM_FINE_FEATURES
        self.other_layer = nn.Linear(other + config.num_actions + config.vector_size, units)
        self.body = nn.Sequential(
            nn.SiLU(), nn.Linear(units, units), nn.SiLU(), nn.Linear(units, units), nn.SiLU()
        )
        self.flight = nn.Linear(units, 2 * 2 * FREE)
        self.contact_phase = nn.Parameter(torch.arange(CONTACTS).div(CONTACTS).repeat(2, 1))
        self.feelers = Feelers(config)
        self.touch_layer = nn.Linear((1 + FREE) ** 2 * TOUCHES, units)
        self.again_layer = nn.Linear(units, units)
        self.choice = nn.Sequential(
            nn.SiLU(), nn.Linear(units, units), nn.SiLU(), nn.Linear(units, 2 * OUTCOMES)
        )

    def forward(
        self,
        vector: torch.Tensor,
        around: Surroundings,
        motion: torch.Tensor,
        action: torch.Tensor,
    ) -> MotionOutcomes:
        """Possible motions after an action.

        Args:
            vector: [B, V].
            around: what the player stands among.
            motion: the last one in pixels, [B, 2].
            action: weights [B, A].
        """
        features = [around.phase, motion_features(motion, self.tile), fine_features(around, motion)]
        other = self.other_layer(torch.cat([*features, action, vector], -1))
        x = self.body(self.tiles_layer(around.tiles) + other)
        keep, push = self.flight(x).unflatten(1, (2, -1)).split(FREE, -1)
        free = torch.sigmoid(keep + 2) * motion[..., None] + push
        touched = self.feelers(around.tiles, self._rows_and_columns(around, free))
        logits = self.choice(self.again_layer(x) + self.touch_layer(touched)).unflatten(1, (2, -1))
        still = torch.zeros_like(free[..., :1])
        stopped = self._contacts(around, free)
        flight = torch.cat([free, free.repeat_interleave(CONTACTS, -1), still], -1)
        return MotionOutcomes(
            torch.cat([free, stopped.flatten(-2), still], -1), logits.log_softmax(-1), flight
        )

    def _rows_and_columns(self, around: Surroundings, flight: torch.Tensor) -> torch.Tensor:
        """Where the player is, and where each flight [B, 2, FREE] leads it along each axis, in tiles from the
        corner of its surroundings: [B, 2, 1 + FREE].
        """
        here = around.phase[:, :2, None] + NEIGHBOURHOOD // 2
        return torch.cat([here, here - flight / self.tile], -1)  # the picture moves against the player

    def _contacts(self, around: Surroundings, flight: torch.Tensor) -> torch.Tensor:
        """The motions to each contact's place nearest to the end of each flight: [B, 2, FREE, CONTACTS].

        They depend on the flight by whole tiles only.
        """
        centre = around.centre[..., None, None]
        there = (centre - flight[..., None]) / self.tile
        phase = self.contact_phase[:, None]
        return centre - self.tile * (phase + torch.round(there - phase))
