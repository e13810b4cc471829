"""The phase of a frame: where its top-left corner lies inside its tile, read from one picture.

Edges of tiles stand at regular distances that are no whole number of pixels, so thirteen of them tell the
phase to a few hundredths of a pixel, like a vernier.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from generative.model.config import BANDS, WorldModelConfig
from generative.model.frames import as_float


class PhaseHead(nn.Module):
    """The phase [N, 2] in [0, 1) tiles, from the profiles of the differences between neighbouring pixels."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        height, width, channels = config.obs_shape
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(BANDS * size * channels, config.units),
                nn.SiLU(),
                nn.Linear(config.units, config.units),
                nn.SiLU(),
                nn.Linear(config.units, 2),
            )
            for size in (height, width)
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Sine and cosine [N, 2 axes, 2] of the phase of frames [N, H, W, C], up to their scale."""
        x = as_float(frames)
        profiles = []
        for axis in (1, 2):
            across = x if axis == 1 else x.transpose(1, 2)
            change = F.pad((across[:, 1:] - across[:, :-1]).abs(), (0, 0, 0, 0, 0, 1))
            profiles.append(change.unflatten(2, (BANDS, -1)).mean(3).flatten(1))
        return torch.stack([head(profile) for head, profile in zip(self.heads, profiles)], 1)

    def phase(self, frames: torch.Tensor) -> torch.Tensor:
        """The phase [N, 2] in [0, 1)."""
        return angle_phase(self(frames))


def angle_phase(sine_cosine: torch.Tensor) -> torch.Tensor:
    """Phases [...] in [0, 1) of sines and cosines [..., 2]."""
    return (torch.atan2(sine_cosine[..., 0], sine_cosine[..., 1]) / (2 * math.pi)) % 1


def phase_target(phase: torch.Tensor) -> torch.Tensor:
    """Sines and cosines [..., 2] of phases [...]."""
    angle = 2 * math.pi * phase
    return torch.stack([angle.sin(), angle.cos()], -1)


def align_motion(motion: torch.Tensor, before: torch.Tensor, after: torch.Tensor, tile: float):
    """Motion [..., 2] corrected to agree with the phases before and after it, by at most half a tile.

    Args:
        motion: estimated, in pixels.
        before, after: phases [..., 2] in tiles.
        tile: side of a tile in pixels.
    """
    expected = before - motion / tile
    error = after - expected
    return motion - tile * (error - torch.round(error))
