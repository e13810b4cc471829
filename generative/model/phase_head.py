"""The phase of a frame: where its top-left corner lies inside its tile, read from one picture.

Edges of tiles stand at regular distances that are no whole number of pixels, so thirteen of them tell the
phase to a few hundredths of a pixel, like a vernier. The phase is a choice between bins and not a regression:
two phases can fit the same edges, and what lies between them fits neither.
"""

import torch
from torch import nn
from torch.nn import functional as F

from generative.model.config import BANDS, WorldModelConfig
from generative.model.frames import as_float

BINS = 96
"""Bins of the phase along each axis."""
BLUR = 1.0
"""Standard deviation in bins of the target around the true phase; the mean of the bins near the best one
tells the place between them.
"""
NEAR = 4
"""Bins on either side of the best one that its place is a mean of."""
VISIBLE_EDGE = 0.02
"""Difference between neighbouring pixels, of [0, 1], from which on they count as an edge."""


class PhaseHead(nn.Module):
    """The phase [N, 2] in [0, 1) tiles, from the profiles of the differences between neighbouring pixels."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        height, width, _ = config.obs_shape
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(2 * BANDS * size, config.units),
                nn.SiLU(),
                nn.Linear(config.units, config.units),
                nn.SiLU(),
                nn.Linear(config.units, BINS),
            )
            for size in (height, width)
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Logits [N, 2 axes, BINS] of the phase of frames [N, H, W, C]."""
        x = as_float(frames)
        logits = []
        for axis, head in zip((1, 2), self.heads):
            across = x if axis == 1 else x.transpose(1, 2)
            change = F.pad((across[:, 1:] - across[:, :-1]).abs().amax(-1), (0, 0, 0, 1))
            edges = torch.stack([change, (change > VISIBLE_EDGE).to(change.dtype)], 1)
            logits.append(head(edges.unflatten(3, (BANDS, -1)).mean(4).flatten(1)))
        return torch.stack(logits, 1)

    def phase(self, frames: torch.Tensor) -> torch.Tensor:
        """The phase [N, 2] in [0, 1)."""
        return likeliest_phase(self(frames))


def likeliest_phase(logits: torch.Tensor) -> torch.Tensor:
    """Phases [...] in [0, 1) of logits [..., BINS]: the mean of the bins around the best one."""
    probabilities = logits.softmax(-1)
    around = torch.arange(-NEAR, NEAR + 1, device=logits.device)
    best = logits.argmax(-1, keepdim=True)
    near = probabilities.gather(-1, (best + around) % BINS)
    place = best[..., 0] + 0.5 + (near * around).sum(-1) / near.sum(-1)
    return (place / BINS) % 1


def phase_loss(logits: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    """KL [...] of the predicted bins [..., BINS] from the true ones, blurred around phases [...]."""
    centres = (torch.arange(BINS, device=phase.device) + 0.5) / BINS
    distance = phase[..., None] - centres
    distance = BINS * (distance - torch.round(distance))
    target = (-0.5 * (distance / BLUR).square()).log_softmax(-1)
    return (target.exp() * (target - logits.log_softmax(-1))).sum(-1)


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
