"""Frames into embeddings and states back into frames: all of a batch's frames in one call each."""

import torch
from torch import nn
from torch.nn import functional as F

from common.policy import frames_to_float
from generative.config import SMALLEST, WorldModelConfig
from generative.layers import ChannelNorm, in_chunks


class FrameEncoder(nn.Module):
    """Frames [..., H, W, C], uint8 or float in [0, 1] -> embeddings [..., E]. Halve, norm, SiLU, until 4 x 4 cells are left."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.precision = config.precision
        widths = [config.obs_shape[2] * config.patch_size**2, *config.channels]
        stages = [[*halving(i, o, config.resample), ChannelNorm(o), nn.SiLU()] for i, o in zip(widths, widths[1:])]
        patches = [nn.PixelUnshuffle(config.patch_size)] if config.patch_size > 1 else []
        out = nn.Linear(widths[-1] * SMALLEST**2, config.embed_size)
        layers = [layer for stage in stages for layer in stage]
        self.stack = nn.Sequential(*patches, *layers, nn.Flatten(), out, nn.LayerNorm(config.embed_size))
        self.to(memory_format=torch.channels_last)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        images = frames_to_float(obs).to(self.stack[-1].weight.dtype)
        return in_chunks(self.stack, images, self.precision).reshape(*obs.shape[:-3], -1)


class FrameDecoder(nn.Module):
    """Features [..., F] -> frames [..., H, W, C] about [0, 1], neither clipped nor rounded: see `round_frames`.

    The output is linear: a sigmoid has no gradient left for small bright things on a black ground, and learns them late or never.

    Double, norm, SiLU; the last doubling is a sub-pixel convolution (Shi et al. 2016), which spares the
    full-resolution feature map: 1.4 times as fast. With patches it draws the last doublings at once.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.precision = config.precision
        widths, patch = config.channels[::-1], 2 * config.patch_size
        first = [nn.Linear(config.feature_size, widths[0] * SMALLEST**2), _Unflatten(), ChannelNorm(widths[0]), nn.SiLU()]
        stages = [[*doubling(i, o, config.resample), ChannelNorm(o), nn.SiLU()] for i, o in zip(widths, widths[1:])]
        last = nn.Conv2d(widths[-1], config.obs_shape[2] * patch**2, 3, padding=1)
        self.stack = nn.Sequential(*first, *[layer for stage in stages for layer in stage], last, nn.PixelShuffle(patch))
        self.to(memory_format=torch.channels_last)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        images = 0.5 + in_chunks(self.stack, features.reshape(-1, features.shape[-1]), self.precision).permute(0, 2, 3, 1)
        return images.reshape(*features.shape[:-1], *images.shape[1:])


def halving(inputs: int, outputs: int, resample: str) -> list[nn.Module]:
    """Layers that halve height and width of a feature map."""
    if resample == "stride":
        return [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)]
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2)]


def doubling(inputs: int, outputs: int, resample: str) -> list[nn.Module]:
    """Layers that double them."""
    if resample == "stride":
        return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)]
    return [_Upsample(), nn.Conv2d(inputs, outputs, 3, padding=1)]


class _Unflatten(nn.Module):
    """[N, 4 * 4 * C] -> [N, C, 4, 4], channels last in memory."""

    def forward(self, x):
        return x.reshape(len(x), SMALLEST, SMALLEST, x.shape[1] // SMALLEST**2).permute(0, 3, 1, 2)


class _Upsample(nn.Module):
    """Every pixel becomes 2 x 2."""

    def forward(self, x):
        return F.interpolate(x, scale_factor=2, mode="nearest")


def round_frames(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames at the nearest of the 256 levels in [0, 1]; the gradient passes as if nothing had been clipped or rounded."""
    return frames + (torch.round(frames.clamp(0, 1) * 255) / 255 - frames).detach()


def frames_to_bytes(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames as uint8: the levels that `round_frames` goes to."""
    return torch.round(frames.detach().clamp(0, 1) * 255).to(torch.uint8)
