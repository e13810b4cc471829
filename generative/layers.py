"""Small parts of the world model: channel norm, dense stacks, block-diagonal layers, and convolutions in cache-sized chunks."""

import contextlib
import math

import torch
from torch import nn

CHUNK = {"cpu": 128, "cuda": 4096}
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
    """A linear layer whose matrix is block-diagonal: x [B, G, I] -> [B, G, O], with its own matrix per block g."""

    def __init__(self, blocks: int, inputs: int, outputs: int):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(blocks, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(blocks, 1, outputs))

    def forward(self, x):
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.weight).transpose(0, 1)


def in_chunks(stack: nn.Module, x: torch.Tensor, precision: str) -> torch.Tensor:
    """stack(x) over [N, ...], a cache-sized part at a time, in bf16 where asked; the result has the type of the weights."""
    kind, dtype = x.device.type, next(stack.parameters()).dtype
    with torch.autocast(kind, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
        return torch.cat([stack(part).to(dtype) for part in x.split(CHUNK[kind])])
