"""The map of the environment state: a convolutional GRU whose state is warped by the predicted motion."""

import torch
from torch import nn

from common.precision import autocast_context
from generative.model.config import CELL, WorldModelConfig
from generative.model.layers import FiLM, upsample
from generative.model.motion import warp_features


class WarpedConvGRU(nn.Module):
    """A convolutional GRU (Shi et al. 2015) over a map aligned with the frame.

    A scrolling frame is mostly the last one, shifted. So the map is first warped by the predicted motion, and
    the GRU updates what changed. The update gate has a bias of -1, so that initially the map changes slowly.
    """

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

    def forward(
        self, cells: torch.Tensor, inputs: torch.Tensor, vector: torch.Tensor, motion: torch.Tensor
    ) -> torch.Tensor:
        """The next map [B, M, H, W].

        Args:
            cells: the last map [B, M, H, W].
            inputs: sample of the categorical variables and embedding of the last frame, [B, g * C + E, H / 2,
                W / 2].
            vector: the new vector part of h, [B, V].
            motion: predicted motion [B, 2] in pixels.
        """
        warped = warp_features(cells, motion / CELL)
        with autocast_context(self.precision, vector.device.type):
            upsampled = self.upsample_inputs(inputs).to(cells.dtype)
            hidden = self.film(self.in_conv(torch.cat([cells, warped, upsampled], 1)), vector)
            gates = self.gates(hidden).to(cells.dtype)
        reset, candidate, update = gates.chunk(3, 1)
        update = torch.sigmoid(update - 1)
        return update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * warped
