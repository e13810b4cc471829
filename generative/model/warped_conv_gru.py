"""The map of the environment state: what lies where the picture shows it, moved as the picture moves and
corrected in place.

A picture that scrolls is a memory of the old one, shifted. So the map is carried along by the motion that the
state foretells, and a convolutional GRU (Shi et al. 2015) writes what has changed into it. A vector alone
would have to draw every picture anew.
"""

import torch
from torch import nn

from common.precision import autocast_context
from generative.model.config import CELL, WorldModelConfig
from generative.model.layers import FiLM, upsample
from generative.model.motion import warp_features


class WarpedConvGRU(nn.Module):
    """The map's own recurrence. The update gate has a bias of -1: at first, the map changes slowly."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.precision = config.precision
        m = config.map_channels
        d = config.depth
        self.upsample_inputs = upsample(config.groups * config.classes + d, m)
        self.in_conv = nn.Conv2d(3 * m, d, 3, padding=1)
        self.film = FiLM(config.vector_size, d)
        self.gates = nn.Conv2d(d, 3 * m, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, cells, known, vector, motion):
        """Map [B, M, H, W]; the categorical draw and the embedding of the picture shown last, [B, g * C + E,
        H / 2, W / 2]; new vector [B, V]; motion [B, 2] in pixels -> new map [B, M, H, W].
        """
        moved = warp_features(cells, motion / CELL)
        with autocast_context(self.precision, vector.device.type):
            raised = self.upsample_inputs(known).to(cells.dtype)
            written = self.gates(self.film(self.in_conv(torch.cat([cells, moved, raised], 1)), vector)).to(
                cells.dtype
            )
        reset, candidate, update = written.chunk(3, 1)
        update = torch.sigmoid(update - 1)
        return update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * moved
