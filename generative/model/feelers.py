"""Feelers: boxes around the player that tell what it would touch at a place."""

import torch
from torch import nn

from generative.model.config import WorldModelConfig
from generative.model.player import NEIGHBOURHOOD

FEELERS = 8
SURFACES = 4
"""Properties of a tile that feelers sense, such as that it is solid."""
SHARPNESS = (0.01, 0.05)
"""Widths in tiles over which a feeler's edge passes from outside to inside a tile."""
TOUCHES = FEELERS * SURFACES * len(SHARPNESS)
"""Numbers that feelers give for each place."""
_BODY = ((-0.5, 0.5), (-0.5, 0.5))
_RIMS = (
    ((0.5, 0.6), (-0.5, 0.5)),
    ((-0.6, -0.5), (-0.5, 0.5)),
    ((-0.5, 0.5), (0.5, 0.6)),
    ((-0.5, 0.5), (-0.6, -0.5)),
)
_SPREAD = 0.05
"""Edges begin up to this far, in tiles, from those above."""


class Feelers(nn.Module):
    """Axis-aligned boxes with learned edges, and learned surfaces of tiles.

    A game's contact is a comparison of two edges to a hundredth of a tile, which dense layers approximate
    slowly. Half of the boxes begin as large as a tile, the others as thin rims on its four sides.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.surface = nn.Linear(config.code_size + 1, SURFACES)
        edges = torch.tensor([_BODY] * (FEELERS // 2) + list(_RIMS) * (FEELERS // 8))
        self.edges = nn.Parameter(edges + _SPREAD * (2 * torch.rand(edges.shape) - 1))

    def forward(self, tiles: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """How much of each surface every feeler touches, in [0, 1): [B, Q * Q * TOUCHES].

        Args:
            tiles: codes of the surroundings [B, n * n * (K + 1)].
            at: Q rows and Q columns of the player's centre, in tiles from the corner of the surroundings,
                [B, 2, Q]; the places are all pairs of them.
        """
        side = NEIGHBOURHOOD
        surfaces = torch.sigmoid(self.surface(tiles.unflatten(1, (side, side, -1))))  # [B, n, n, S]
        first = torch.arange(side, device=tiles.device, dtype=tiles.dtype)
        low, high = (at[:, :, None, :, None] + edge[..., None, None] for edge in self.edges.permute(2, 1, 0))
        overlap = torch.minimum(high, first + 1) - torch.maximum(low, first)  # [B, 2, feelers, Q, n]
        inside = torch.sigmoid(overlap[..., None, :, :] / overlap.new_tensor(SHARPNESS)[:, None, None])
        rows, columns = inside.flatten(2, 3).unbind(1)  # [B, feelers * sharpness, Q, n]
        of_rows = rows.flatten(1, 2) @ surfaces.flatten(2)  # [B, feelers * sharpness * Q, n * S]
        of_rows = of_rows.view(*rows.shape[:3], side, SURFACES).transpose(3, 4).flatten(2, 3)
        return torch.tanh(of_rows @ columns.transpose(2, 3)).flatten(1)
