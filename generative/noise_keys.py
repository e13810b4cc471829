"""Keys of the random numbers of simulated samples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from common.noise import gumbel_noise, uniform_noise

LATENT_NOISE = 4_000_037
"""Added to the seed, so that latents have their own noise."""
_ROWS = 64
"""Rows of noise per call of the generator; at batch 1, a call per step took a tenth of the time."""


@dataclass(frozen=True)
class NoiseKeys:
    """Keys of all random numbers of B simulated samples, so that a sample is the same in any batch or
    process.

    stream, repeat: [B] integers. step: [B], the step of the first simulated frame. With the level, repeat and
    step of a real episode, the agent's action noise is that of the real episode.
    """

    seed: int
    stream: np.ndarray
    repeat: np.ndarray | int = 0
    step: np.ndarray | int = 0

    def gumbel(self, offset: int, i, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Gumbel noise [B, *shape] for simulated step i; [n, B, *shape] for steps i [n, 1]."""
        noise = gumbel_noise(self.seed + offset, *self._rows(i), int(np.prod(shape)))
        return torch.from_numpy(noise).reshape(*np.shape(i)[:1], -1, *shape).to(like)

    def uniform(self, offset: int, i, like: torch.Tensor) -> torch.Tensor:
        """Uniform noise [B] for simulated step i; [n, B] for steps i [n, 1]."""
        noise = uniform_noise(self.seed + offset, *self._rows(i), 1)
        return torch.from_numpy(noise).reshape(*np.shape(i)[:1], -1).to(like)

    def normal(self, width: int, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise [B, width] for latents (Box-Muller)."""
        u, v = np.split(
            uniform_noise(self.seed + LATENT_NOISE, self.stream, self.repeat, self.step, 2 * width), 2, axis=1
        )
        return torch.from_numpy(np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).to(like)

    def ahead(self, draw: Callable[..., torch.Tensor], steps: int) -> Iterator[torch.Tensor]:
        """Yields draw(i) for the steps i = 0 .. steps - 1, calling draw for blocks of steps."""
        block = max(_ROWS // len(self.stream), 1)
        for begin in range(0, steps, block):
            yield from draw(np.arange(begin, min(begin + block, steps))[:, None])

    def _rows(self, i) -> tuple[np.ndarray, ...]:
        """stream, repeat and step of every row of noise, flattened step by step."""
        keys = np.broadcast_arrays(self.stream, self.repeat, np.asarray(self.step) + i)
        return tuple(key.reshape(-1) for key in keys)
