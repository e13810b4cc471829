"""Which tiles come into view, and how tiles change: a categorical variable for each tile of the view.

The prior sees the tiles already known; the posterior also the tile's true code. A sample of the variable
decides between the codes that would fit. Known tiles stay bit for bit as they are unless a gate opens, so
that most steps change few tiles.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from common.precision import autocast_context
from generative.model.canvas import KNOWN
from generative.model.categorical import unimix
from generative.model.config import WorldModelConfig
from generative.model.layers import FiLM

BORDER = 1
"""Tiles around the view that the prior also sees."""
CLOSED = 2.0
"""Logit that a gate has to overcome."""


class TileFeatures(NamedTuple):
    """features [N, h, w, D] of the tiles in view and their codes and known flags before, [N, h, w, K + 1]."""

    features: torch.Tensor
    before: torch.Tensor


class TileDynamics(nn.Module):
    """Prior, posterior and update of the tiles in view."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.precision = config.precision
        d = config.depth
        self.in_conv = nn.Conv2d(config.code_size + KNOWN, d, 3)
        self.film = FiLM(config.vector_size, d)
        self.conv = nn.Conv2d(d, d, 3, padding=1)
        self.film_2 = FiLM(config.vector_size, d)
        self.conv_2 = nn.Conv2d(d, d, 3, padding=2, dilation=2)
        self.prior_head = nn.Linear(d, config.classes)
        self.posterior_head = nn.Sequential(
            nn.Linear(d + config.code_size, 2 * d), nn.SiLU(), nn.Linear(2 * d, config.classes)
        )
        self.class_embedding = nn.Linear(config.classes, d, bias=False)
        self.gate_head = nn.Linear(d, 1)
        self.update = nn.Sequential(nn.Linear(d, 2 * d), nn.SiLU(), nn.Linear(2 * d, config.code_size))
        self.to(memory_format=torch.channels_last)

    @property
    def window_shape(self) -> tuple[int, int]:
        """Rows and columns of the window that `forward` reads: the view and a border on every side."""
        rows, columns = self.config.view_shape
        return rows + 2 * BORDER, columns + 2 * BORDER

    def forward(self, window: torch.Tensor, vector: torch.Tensor) -> TileFeatures:
        """Features of the view, from the window [N, h + 2, w + 2, K + 1] around it and the vector [N, V]."""
        with autocast_context(self.precision, window.device.type):
            x = self.film(self.in_conv(window.permute(0, 3, 1, 2)), vector)
            x = x + self.film_2(self.conv(x), vector)
            x = x + F.silu(self.conv_2(x))
        inside = slice(BORDER, -BORDER)
        return TileFeatures(x.permute(0, 2, 3, 1).to(window.dtype), window[:, inside, inside])

    def prior(self, tiles: TileFeatures) -> torch.Tensor:
        """Log-probabilities [N, h * w, C] of the variables."""
        return unimix(self.prior_head(tiles.features).flatten(1, 2), self.config.uniform_mix)

    def posterior(self, tiles: TileFeatures, codes: torch.Tensor) -> torch.Tensor:
        """The same, given the true codes [N, h, w, K]."""
        raw = self.posterior_head(torch.cat([tiles.features, codes], -1)).flatten(1, 2)
        return unimix(raw, self.config.uniform_mix)

    def gate(self, tiles: TileFeatures) -> torch.Tensor:
        """How far the gate of each tile is open, [N, h, w, 1]; that of an unknown tile has no effect."""
        return torch.sigmoid(self.gate_head(tiles.features) - CLOSED)

    def apply_sample(self, tiles: TileFeatures, sample: torch.Tensor, mode: str = "hard") -> torch.Tensor:
        """Codes and known flags [N, h, w, K + 1] after the step, given samples [N, h * w, C].

        mode: "hard": gates of known tiles are open or closed, with the gradient of "relaxed", where the new
            code replaces a share of the old one.
        """
        old, known = tiles.before.split([self.config.code_size, KNOWN], -1)
        gate = self.gate(tiles)
        sample = sample.unflatten(1, tiles.features.shape[1:3])
        if mode == "hard" and not any(x.requires_grad for x in (gate, sample, old)):
            changed = ((known == 0) | (gate > 0.5)).squeeze(-1)
            new = self._new_codes(tiles.features[changed], sample[changed])
            codes = old.masked_scatter(changed[..., None], new)
        else:
            if mode == "hard":
                gate = (gate > 0.5).to(gate.dtype) + (gate - gate.detach())
            keep = known * (1 - gate)
            codes = keep * old + (1 - keep) * self._new_codes(tiles.features, sample)
        return torch.cat([codes, torch.ones_like(known)], -1)

    def _new_codes(self, features: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """Codes [..., K] of samples [..., C] and features [..., D]."""
        with autocast_context(self.precision, sample.device.type):
            updated = self.update(F.silu(features + self.class_embedding(sample)))
        return torch.tanh(updated.to(sample.dtype))
