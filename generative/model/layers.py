"""Building blocks of the world model: norms, dense stacks, block-diagonal layers, FiLM and convolutions."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from common.precision import autocast_context

CHUNK = {"cpu": 32, "cuda": 4096}
"""Frames per call of a convolutional stack; on a CPU, few enough that their activations stay in cache."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [N, C, H, W], for each pixel.

    RMSNorm performs as well but has no fused CPU kernel for bf16: it made encoder and decoder a third slower.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).to(x.dtype).permute(0, 3, 1, 2)


def dense(inputs: int, units: int) -> nn.Sequential:
    """Linear, layer norm, SiLU."""
    return nn.Sequential(nn.Linear(inputs, units), nn.LayerNorm(units), nn.SiLU())


def mlp(inputs: int, units: int, outputs: int, zero: bool = False) -> nn.Sequential:
    """An MLP with one hidden layer; zero: the output layer is initialised to 0."""
    out = nn.Linear(units, outputs)
    if zero:
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
    return nn.Sequential(dense(inputs, units), out)


class BlockLinear(nn.Module):
    """A linear layer with a block-diagonal matrix of G blocks: [B, G, I] -> [B, G, O]."""

    def __init__(self, blocks: int, inputs: int, outputs: int):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(blocks, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(blocks, 1, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.weight).transpose(0, 1)


class FiLM(nn.Module):
    """Channel norm, scale and shift per channel computed from a vector (Perez et al. 2018), then SiLU."""

    def __init__(self, vector: int, channels: int):
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.scale_shift = nn.Linear(vector, 2 * channels)

    def forward(self, x: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W], [N, V] -> [N, C, H, W]."""
        scale, shift = self.scale_shift(vector)[..., None, None].to(x.dtype).chunk(2, 1)
        return F.silu(self.norm(x) * (1 + scale) + shift)


def as_map(flat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cells in row-major order [N, H * W * C] as a map [N, C, H, W], channels last in memory."""
    return flat.unflatten(-1, (*size, -1)).permute(0, 3, 1, 2)


def as_flat(cells: torch.Tensor) -> torch.Tensor:
    """The inverse of `as_map`."""
    return cells.permute(0, 2, 3, 1).flatten(1)


def upsample(inputs: int, outputs: int) -> nn.Module:
    """A transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)


def downsample(inputs: int, outputs: int) -> nn.Module:
    """A strided convolution that halves height and width."""
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)


def in_chunks(stack: Callable[..., torch.Tensor], *inputs: torch.Tensor, precision: str) -> torch.Tensor:
    """stack(*inputs) for inputs [N, ...], computed in chunks that fit the cache.

    Args:
        stack: applied to each chunk of the inputs.
        inputs: tensors with the same first dimension.
        precision: of the autocast context; the result has the dtype of the first input.
    """
    x = inputs[0]
    size = CHUNK[x.device.type]
    chunks = zip(*(part.split(size) for part in inputs))
    with autocast_context(precision, x.device.type):
        return torch.cat([stack(*parts).to(x.dtype) for parts in chunks])
