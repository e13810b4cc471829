"""The map of the environment state: what lies where the picture shows it, moved as the picture scrolls and corrected in place.

A picture that scrolls is a memory of the old one, shifted. So the map is carried along by a shift that the state's vector chooses
(as predicted motion in Finn et al. 2016), and a convolutional GRU (Shi et al. 2015) writes what has changed into it. A vector alone
would have to draw every picture anew.
"""

import torch
from torch import nn

from generative.config import WorldModelConfig
from generative.layers import Modulated, doubling, lower

REACH = 2
"""Cells by which the map can move in one step: 8 pixels, more than a player of Procgen falls."""


class MapMemory(nn.Module):
    """The map's own recurrence. The update gate has a bias of -1: at first, the map changes slowly."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.precision, m, d = config.precision, config.map_channels, config.depth
        self.raise_sample = doubling(config.groups * config.classes, m)
        self.read, self.shade = nn.Conv2d(3 * m, d, 3, padding=1), Modulated(config.vector_size, d)
        self.gates = nn.Conv2d(d, 3 * m, 1)
        self.motion = nn.Linear(config.vector_size, 2 * (2 * REACH + 1))
        nn.init.zeros_(self.motion.weight)
        self.motion.bias.data = 3.0 * (torch.arange(2 * REACH + 1) == REACH).repeat(2)  # at first, it stays where it is
        for axis, size in zip(("rows", "columns"), config.fine):
            shifts = torch.stack([torch.eye(size).roll(by, 1).triu(by).tril(by) for by in range(REACH, -REACH - 1, -1)])
            self.register_buffer(axis, shifts, persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, cells, sample, vector):
        """Map [B, M, H, W], categorical draw [B, g * C, H / 2, W / 2] and new vector [B, V] -> new map [B, M, H, W]."""
        moved = self.moved(cells, vector)
        with lower(self.precision, vector.device.type):
            raised = self.raise_sample(sample).to(cells.dtype)
            written = self.gates(self.shade(self.read(torch.cat([cells, moved, raised], 1)), vector)).to(cells.dtype)
        reset, candidate, update = written.chunk(3, 1)
        update = torch.sigmoid(update - 1)
        return update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * moved

    def moved(self, cells, vector):
        """The map [B, M, H, W] shifted by a mixture of whole cells in each direction, with nothing beyond its edges."""
        vertical, horizontal = torch.softmax(self.motion(vector).unflatten(-1, (2, -1)), -1).unbind(1)
        rows = torch.einsum("bk,khi->bhi", vertical, self.rows)
        columns = torch.einsum("bk,kwj->bwj", horizontal, self.columns)
        by_row = rows @ cells.permute(0, 2, 3, 1).flatten(2)  # [B, H, W * M]
        return (columns[:, None] @ by_row.unflatten(-1, (columns.shape[-1], -1))).permute(0, 3, 1, 2)
