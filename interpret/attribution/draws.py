"""Noisy copies of samples, over which gradients are averaged (SmoothGrad; Smilkov et al. 2017).

The first copy is the sample itself. A copy's noise depends on seed, sample and number of the copy alone.
"""

import numpy as np
import torch
from torch.nn import functional as F

from generative.noise_keys import NoiseKeys
from rollouts.segment import Segment

DRAW_NOISE = 5_000_011
"""Added to the seed: the draws have noise of their own."""


def perturbed_latents(
    z: torch.Tensor, keys: NoiseKeys, draws: int, noise: float, spherical: bool
) -> torch.Tensor:
    """Each latent [B, Z] and draws - 1 noisy copies of it: [B * draws, Z], on the sphere where z is."""
    copies = z.repeat_interleave(draws, 0)
    moved = copies + noise * _draw_noise(keys, draws, z.shape[1], z)
    moved = F.normalize(moved, dim=-1) if spherical else moved
    first = torch.arange(len(copies), device=z.device) % draws == 0
    return torch.where(first[:, None], copies, moved)


def perturbed_frames(segment: Segment, keys: NoiseKeys, draws: int, noise: float) -> Segment:
    """Each window of a segment [T, B] and draws - 1 copies of it with noisy frames: [T, B * draws], float."""
    copies = _repeated(segment, draws)
    frames = copies.obs.float() / 255
    steps = [keys_at(keys, t) for t in range(len(frames))]
    size = frames[0, 0].numel()
    moves = torch.stack([_draw_noise(one, draws, size, frames).view(frames[0].shape) for one in steps])
    first = torch.arange(frames.shape[1]) % draws == 0
    copies.obs = torch.where(first[:, None, None, None], frames, frames + noise * moves)
    return copies


def keys_at(keys: NoiseKeys, offset: int) -> NoiseKeys:
    """The keys of samples that begin `offset` steps later."""
    return NoiseKeys(keys.seed, keys.stream, keys.repeat, np.asarray(keys.step) + offset)


def _draw_noise(keys: NoiseKeys, draws: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Standard normal noise [B * draws, width]; that of a sample's draw is the same in any batch."""
    draw = np.tile(np.arange(draws), len(keys.stream))
    copies = repeated_keys(keys, draws)
    own = NoiseKeys(keys.seed + DRAW_NOISE, copies.stream, draw, copies.step)
    return own.normal(width, like)


def repeated_keys(keys: NoiseKeys, draws: int) -> NoiseKeys:
    """Keys of samples [B] for `draws` copies of each, which share their noise."""
    count = len(keys.stream)
    parts = (np.repeat(np.broadcast_to(part, count), draws) for part in (keys.stream, keys.repeat, keys.step))
    return NoiseKeys(keys.seed, *parts)


def _repeated(segment: Segment, draws: int) -> Segment:
    fields = {name: tensor for name, tensor in vars(segment).items() if name != "extra"}
    axis = {"episode": 0, "start": 0}
    return Segment(
        **{name: tensor.repeat_interleave(draws, axis.get(name, 1)) for name, tensor in fields.items()}
    )
