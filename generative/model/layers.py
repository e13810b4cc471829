"""Small parts of the world model: channel norm, dense stacks, block-diagonal layers, maps of cells,
convolutions in cache-sized chunks.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from common.precision import autocast_context

CHUNK = {"cpu": 32, "cuda": 4096}
"""Frames per call of a convolutional stack: on a CPU, as many as keep their activations in cache."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [N, C, H, W], each pixel by itself.

    RMSNorm does as well but has no fused CPU kernel for bf16: it made encoder and decoder a third slower.
    """

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).to(x.dtype).permute(0, 3, 1, 2)


def dense(inputs: int, units: int) -> nn.Sequential:
    """Linear, layer norm, SiLU."""
    return nn.Sequential(nn.Linear(inputs, units), nn.LayerNorm(units), nn.SiLU())


def mlp(inputs: int, units: int, outputs: int, zero: bool = False) -> nn.Sequential:
    """One hidden dense layer and a linear read-out, which starts at zero where asked."""
    out = nn.Linear(units, outputs)
    if zero:
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
    return nn.Sequential(dense(inputs, units), out)


class BlockLinear(nn.Module):
    """A linear layer whose matrix is block-diagonal: x [B, G, I] -> [B, G, O], with its own matrix per block
    g.
    """

    def __init__(self, blocks: int, inputs: int, outputs: int):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(blocks, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(blocks, 1, outputs))

    def forward(self, x):
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.weight).transpose(0, 1)


class FiLM(nn.Module):
    """Norm, then a scale and a shift per channel that a vector decides (Perez et al. 2018), then SiLU: [N, C,
    H, W], [N, V] -> [N, C, H, W].
    """

    def __init__(self, vector: int, channels: int):
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.scale_shift = nn.Linear(vector, 2 * channels)

    def forward(self, x, vector):
        scale, shift = self.scale_shift(vector)[..., None, None].to(x.dtype).chunk(2, 1)
        return F.silu(self.norm(x) * (1 + scale) + shift)


def as_map(flat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cells row by row [N, H * W * C] as a map [N, C, H, W], channels last in memory."""
    return flat.unflatten(-1, (*size, -1)).permute(0, 3, 1, 2)


def as_flat(cells: torch.Tensor) -> torch.Tensor:
    """The opposite of `as_map`."""
    return cells.permute(0, 2, 3, 1).flatten(1)


def upsample(inputs: int, outputs: int) -> nn.Module:
    """A layer that doubles height and width of a map."""
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)


def downsample(inputs: int, outputs: int) -> nn.Module:
    """A layer that halves them."""
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)


def in_chunks(stack: Callable[..., torch.Tensor], *inputs: torch.Tensor, precision: str) -> torch.Tensor:
    """stack(*inputs), each [N, ...], a cache-sized part at a time, in the given precision; the result has the
    type of the first.
    """
    x = inputs[0]
    size = CHUNK[inputs[0].device.type]
    with autocast_context(precision, x.device.type):
        return torch.cat([stack(*parts).to(x.dtype) for parts in zip(*(part.split(size) for part in inputs))])
