"""Frames into embeddings and states back into frames: all of a batch's frames in one call each."""

import torch
from torch import nn

from common.policy import frames_to_float
from generative.config import WorldModelConfig
from generative.layers import ChannelNorm, Modulated, as_flat, as_map, doubling, halving, in_chunks


class FrameEncoder(nn.Module):
    """Frames [..., H, W, C], uint8 or float in [0, 1] -> embeddings [..., E], a vector for every 8 x 8 pixels, row by row."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.precision, d = config.precision, config.depth
        self.stack = nn.Sequential(
            nn.PixelUnshuffle(2), halving(4 * config.obs_shape[2], d), ChannelNorm(d), nn.SiLU(), halving(d, d), ChannelNorm(d), nn.SiLU(),
            nn.Conv2d(d, d, 3, padding=1), ChannelNorm(d),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        images = frames_to_float(obs).to(self.stack[-1].weight.dtype)
        return as_flat(in_chunks(self.stack, images, self.precision)).reshape(*obs.shape[:-3], -1)


class FrameDecoder(nn.Module):
    """Features [..., F] -> frames [..., H, W, C] about [0, 1], neither clipped nor rounded: see `round_frames`.

    The map and the categorical draw are drawn where they lie; the vector of the state shades all of it. The output is linear: a
    sigmoid has no gradient left for small bright things on a black ground, and learns them late or never. The last doubling is a
    sub-pixel convolution (Shi et al. 2016), which spares the full-resolution feature map.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config, self.precision, d = config, config.precision, config.depth
        self.raise_sample = doubling(config.groups * config.classes, config.map_channels)
        self.read = nn.Conv2d(2 * config.map_channels, d, 3, padding=1)
        self.shade = Modulated(config.vector_size, d)
        last = nn.Conv2d(d, 4 * config.obs_shape[2], 3, padding=1)
        self.draw = nn.Sequential(doubling(d, d), ChannelNorm(d), nn.SiLU(), last, nn.PixelShuffle(2))
        self.to(memory_format=torch.channels_last)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        flat = features.reshape(-1, features.shape[-1])
        images = 0.5 + in_chunks(self.picture, flat, self.precision).permute(0, 2, 3, 1)
        return images.reshape(*features.shape[:-1], *images.shape[1:])

    def picture(self, features: torch.Tensor) -> torch.Tensor:
        """[N, F] -> [N, C, H, W] about 0."""
        c = self.config
        vector, cells, sample = features.split([c.vector_size, c.deter_size - c.vector_size, c.stoch_size], -1)
        raised = self.raise_sample(as_map(sample, c.coarse))
        return self.draw(self.shade(self.read(torch.cat([as_map(cells, c.fine), raised.to(cells.dtype)], 1)), vector))


def round_frames(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames at the nearest of the 256 levels in [0, 1]; the gradient passes as if nothing had been clipped or rounded."""
    return frames + (torch.round(frames.clamp(0, 1) * 255) / 255 - frames).detach()


def frames_to_bytes(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames as uint8: the levels that `round_frames` goes to."""
    return torch.round(frames.detach().clamp(0, 1) * 255).to(torch.uint8)
