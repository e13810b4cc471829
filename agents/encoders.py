"""Frame encoders: IMPALA (Espeholt et al. 2018) and Nature (Mnih et al. 2015), in cache-sized chunks."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from common.policy import frames_to_float
from common.precision import autocast_context

CHUNK = {"cpu": 128, "cuda": 2048}
"""Frames per encoder call: on a CPU, as many as keep their activations in cache."""
KEEP = 4096
"""From this many frames on (about 1 MB of activations each), backward recomputes the encoder to save memory.
"""


class ResidualBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class ImpalaStage(nn.Module):
    """Convolution, max-pooling by 2, two residual blocks."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.block1 = ResidualBlock(channels)
        self.block2 = ResidualBlock(channels)

    def forward(self, x):
        return self.block2(self.block1(F.max_pool2d(self.conv(x), 3, stride=2, padding=1)))


def impala_stages(channels: int) -> list[nn.Module]:
    widths = (channels, 16, 32, 32)
    return [ImpalaStage(i, o) for i, o in itertools.pairwise(widths)] + [nn.ReLU()]


def impala_half_stages(channels: int) -> list[nn.Module]:
    """IMPALA at half resolution with four times the input channels and without its last stage: a quarter of
    the operations.
    """
    return [nn.PixelUnshuffle(2), ImpalaStage(4 * channels, 16), ImpalaStage(16, 32), nn.ReLU()]


def nature_stages(channels: int) -> list[nn.Module]:
    convs = nn.Conv2d(channels, 32, 8, stride=4), nn.Conv2d(32, 64, 4, stride=2), nn.Conv2d(64, 64, 3)
    return [nn.Sequential(conv, nn.ReLU()) for conv in convs]


ARCHITECTURES = {"impala": impala_stages, "impala-half": impala_half_stages, "nature": nature_stages}
_ADMITTED = {
    "impala": (1, 1, "of any height and width"),
    "impala-half": (2, 2, "of even height and width"),
    "nature": (36, 1, "of height and width 36 or more"),
}
"""Smallest height and width of a frame, the factor that both must be a multiple of, and both as text."""


def check_frames(architecture: str, obs_shape: tuple[int, int, int]) -> None:
    """Raises ValueError for frames [H, W, C] that the architecture cannot process."""
    smallest, multiple, words = _ADMITTED[architecture]
    if min(obs_shape[:2]) < smallest or any(size % multiple for size in obs_shape[:2]):
        height, width = obs_shape[:2]
        raise ValueError(
            f"{architecture} reads frames {words}, and these are {height} x {width}: crop, pad or"
            " scale them, or take another architecture"
        )


class Encoder(nn.Module):
    """Encodes frames [..., H, W, C], uint8 or float in [0, 1], as non-negative float32 features [..., F]."""

    def __init__(
        self,
        architecture: str,
        obs_shape: tuple[int, int, int],
        feature_size: int,
        precision: str,
        normalize: bool = False,
    ):
        super().__init__()
        check_frames(architecture, obs_shape)
        height, width, channels = obs_shape
        self.stages = nn.Sequential(*ARCHITECTURES[architecture](channels))
        with torch.no_grad():
            flat = self.stages(torch.zeros(1, channels, height, width)).numel()
        self.out = nn.Linear(flat, feature_size)
        self.norm = nn.LayerNorm(feature_size) if normalize else nn.Identity()
        self.precision = precision
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        lead = obs.shape[:-3]
        frames = obs.reshape(-1, *obs.shape[-3:])
        encode = self._recomputed if torch.is_grad_enabled() and len(frames) > KEEP else self._encode
        with autocast_context(self.precision, frames.device.type):
            features = [encode(part) for part in frames.split(CHUNK[frames.device.type])]
        return torch.cat(features).float().reshape(*lead, -1)

    def maps(self, obs: torch.Tensor) -> torch.Tensor:
        """The last stage's feature maps [N, C, h, w] of frames [N, H, W, C]."""
        with autocast_context(self.precision, obs.device.type):
            return torch.cat(
                [self.stages(frames_to_float(part)) for part in obs.split(CHUNK[obs.device.type])]
            )

    def features_of(self, maps: torch.Tensor) -> torch.Tensor:
        """Features [N, F] of feature maps [N, C, h, w]: forward(obs) = features_of(maps(obs))."""
        with autocast_context(self.precision, maps.device.type):
            return self._read_out(maps).float()

    def _encode(self, frames):
        return self._read_out(self.stages(frames_to_float(frames)))

    def _read_out(self, maps):
        return F.relu(self.norm(self.out(maps.flatten(1))))

    def _recomputed(self, frames):
        return checkpoint(self._encode, frames, use_reentrant=False)
