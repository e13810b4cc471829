"""Building blocks of the world model: norms, dense stacks and FiLM."""

import torch
from torch import nn
from torch.nn import functional as F


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [N, C, H, W], for each pixel.

    RMSNorm performs as well but has no fused CPU kernel for bf16: it made encoder and decoder a third slower.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).to(x.dtype).permute(0, 3, 1, 2)


def dense(inputs: int, units: int) -> nn.Sequential:
    """Linear, layer norm, SiLU."""
    return nn.Sequential(nn.Linear(inputs, units), nn.LayerNorm(units), nn.SiLU())


def mlp(inputs: int, units: int, outputs: int) -> nn.Sequential:
    """An MLP with one hidden layer."""
    return nn.Sequential(dense(inputs, units), nn.Linear(units, outputs))


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
