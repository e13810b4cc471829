"""Encoder and decoder of frames: all frames of a batch in one call each."""

import torch
from torch import nn

from common.policy import frames_to_float
from generative.model.config import WorldModelConfig
from generative.model.layers import ChannelNorm, FiLM, as_flat, as_map, downsample, in_chunks, upsample


class PatchEncoder(nn.Module):
    """A CNN from images [N, channels, H, W] to `depth` features per 8 x 8 patch, row-major: [N, depth *
    patches].
    """

    def __init__(self, channels: int, depth: int, precision: str):
        super().__init__()
        self.precision = precision
        d = depth
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            downsample(4 * channels, d),
            ChannelNorm(d),
            nn.SiLU(),
            downsample(d, d),
            ChannelNorm(d),
            nn.SiLU(),
            nn.Conv2d(d, d, 3, padding=1),
            ChannelNorm(d),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(self.layers[-1].weight.dtype)
        return as_flat(in_chunks(self.layers, images, precision=self.precision))


class FrameEncoder(PatchEncoder):
    """Frames [..., H, W, C], uint8 or float in [0, 1] -> embeddings [..., E]."""

    def __init__(self, config: WorldModelConfig):
        super().__init__(config.obs_shape[2], config.depth, config.precision)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return super().forward(frames_to_float(obs)).reshape(*obs.shape[:-3], -1)


class FrameDecoder(nn.Module):
    """Decodes a state into a frame by blending new content with the warped previous frame.

    A mask per pixel chooses between the two; its bias of 2 makes the warped frame show initially. New content
    is linear in the output: a sigmoid has no gradient left for small bright objects on black, and learns them
    late or never. The last upsampling is a sub-pixel convolution (Shi et al. 2016), which avoids
    full-resolution feature maps.
    """

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.precision = config.precision
        m = config.map_channels
        d = config.depth
        c = config.obs_shape[2]
        self.upsample_stoch = upsample(config.groups * config.classes, m)
        self.unshuffle = nn.PixelUnshuffle(2)
        self.shuffle = nn.PixelShuffle(2)
        self.downsample_warped = downsample(4 * (c + 1), m)
        self.in_conv = nn.Conv2d(3 * m, d, 3, padding=1)
        self.film = FiLM(config.vector_size, d)
        self.upsample = nn.Sequential(upsample(d, d), ChannelNorm(d), nn.SiLU())
        self.out_conv = nn.Conv2d(d + 4 * (c + 1), 4 * (c + 1), 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, deter: torch.Tensor, sample: torch.Tensor, warped: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Frames [..., H, W, C] around [0, 1], neither clipped nor rounded (see `round_frames`).

        Args:
            deter: h [..., Dh].
            sample: sample of the categorical variables [..., G, C].
            warped: warped previous frame and its coverage [..., H, W, C + 1], as `motion.warp_frame` gives
                it; None where there is none.
        """
        shape = self.config.obs_shape
        lead = deter.shape[:-1]
        if warped is None:
            warped = deter.new_zeros(*lead, *shape[:2], shape[2] + 1)
        parts = (
            deter.reshape(-1, deter.shape[-1]),
            sample.reshape(-1, self.config.stoch_size),
            warped.reshape(-1, *warped.shape[-3:]),
        )
        if not len(parts[0]):
            return deter.new_zeros(*lead, *shape)
        images = 0.5 + in_chunks(self._decode_chunk, *parts, precision=self.precision)
        return images.reshape(*lead, *shape)

    def _decode_chunk(self, deter: torch.Tensor, sample: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
        """[N, Dh], [N, G * C], [N, H, W, C + 1] -> [N, H, W, C] around 0."""
        c = self.config
        vector, cells = deter.split([c.vector_size, c.deter_size - c.vector_size], -1)
        unshuffled = self.unshuffle(warped.permute(0, 3, 1, 2))
        inputs = [
            as_map(cells, c.map_shape),
            self.upsample_stoch(as_map(sample, c.grid_shape)),
            self.downsample_warped(unshuffled),
        ]
        features = self.in_conv(torch.cat([x.to(deter.dtype) for x in inputs], 1))
        features = self.upsample(self.film(features, vector))
        pixels = self.shuffle(self.out_conv(torch.cat([features, unshuffled.to(features.dtype)], 1)))
        new, keep = pixels.to(deter.dtype).permute(0, 2, 3, 1).split([c.obs_shape[2], 1], -1)
        keep = torch.sigmoid(keep + 2) * warped[..., -1:]
        return keep * warped[..., :-1] + (1 - keep) * new


def round_frames(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames clipped to [0, 1] and rounded to 256 levels, with a straight-through gradient."""
    return frames + (torch.round(frames.clamp(0, 1) * 255) / 255 - frames).detach()


def frames_to_bytes(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames as uint8, at the levels of `round_frames`."""
    return torch.round(frames.detach().clamp(0, 1) * 255).to(torch.uint8)
