"""Frames into embeddings and states back into frames: all of a batch's frames in one call each."""

import torch
from torch import nn

from common.policy import frames_to_float
from generative.model.config import WorldModelConfig
from generative.model.layers import ChannelNorm, FiLM, as_flat, as_map, downsample, in_chunks, upsample


class PatchEncoder(nn.Module):
    """Images [N, channels, H, W] -> a vector of `depth` numbers for every 8 x 8 pixels, row by row: [N, depth
    * cells].
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
        return as_flat(
            in_chunks(self.layers, images.to(self.layers[-1].weight.dtype), precision=self.precision)
        )


class FrameEncoder(PatchEncoder):
    """Frames [..., H, W, C], uint8 or float in [0, 1] -> embeddings [..., E]."""

    def __init__(self, config: WorldModelConfig):
        super().__init__(config.obs_shape[2], config.depth, config.precision)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return super().forward(frames_to_float(obs)).reshape(*obs.shape[:-3], -1)


class FrameDecoder(nn.Module):
    """h [..., Dh], draw [..., G, C] and canvas [..., H, W, C + 1] -> frames [..., H, W, C] about [0, 1],
    neither clipped nor rounded: see `round_frames`.

    The canvas is the last picture, moved, and what it covers (`motion.carried`); all 0 where there was none.
    Map and draw are drawn where they lie, the vector of the state shades all of it, and a mask says where the
    new shows and where the canvas. What is new is linear: a sigmoid has no gradient left for small bright
    things on a black ground, and learns them late or never. The last doubling is a sub-pixel convolution (Shi
    et al. 2016), which spares the full-resolution feature map. At first the canvas shows (bias 2).
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
        self, deter: torch.Tensor, sample: torch.Tensor, canvas: torch.Tensor | None = None
    ) -> torch.Tensor:
        shape = self.config.obs_shape
        lead = deter.shape[:-1]
        if canvas is None:
            canvas = deter.new_zeros(*lead, *shape[:2], shape[2] + 1)
        parts = (
            deter.reshape(-1, deter.shape[-1]),
            sample.reshape(-1, self.config.stoch_size),
            canvas.reshape(-1, *canvas.shape[-3:]),
        )
        if not len(parts[0]):
            return deter.new_zeros(*lead, *shape)
        images = 0.5 + in_chunks(self.picture, *parts, precision=self.precision)
        return images.reshape(*lead, *shape)

    def picture(self, deter: torch.Tensor, sample: torch.Tensor, canvas: torch.Tensor) -> torch.Tensor:
        """[N, Dh], [N, G * C], [N, H, W, C + 1] -> [N, H, W, C] about 0."""
        c = self.config
        vector, cells = deter.split([c.vector_size, c.deter_size - c.vector_size], -1)
        under = self.unshuffle(canvas.permute(0, 3, 1, 2))
        known = [
            as_map(cells, c.fine),
            self.upsample_stoch(as_map(sample, c.coarse)),
            self.downsample_warped(under),
        ]
        drawn = self.upsample(
            self.film(self.in_conv(torch.cat([x.to(deter.dtype) for x in known], 1)), vector)
        )
        new, old = (
            self.shuffle(self.out_conv(torch.cat([drawn, under.to(drawn.dtype)], 1)))
            .to(deter.dtype)
            .permute(0, 2, 3, 1)
            .split([c.obs_shape[2], 1], -1)
        )
        old = torch.sigmoid(old + 2) * canvas[..., -1:]
        return old * canvas[..., :-1] + (1 - old) * new


def round_frames(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames at the nearest of the 256 levels in [0, 1]; the gradient passes as if nothing had been
    clipped or rounded.
    """
    return frames + (torch.round(frames.clamp(0, 1) * 255) / 255 - frames).detach()


def frames_to_bytes(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames as uint8: the levels that `round_frames` goes to."""
    return torch.round(frames.detach().clamp(0, 1) * 255).to(torch.uint8)
