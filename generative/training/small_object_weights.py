"""Where a picture holds small things, which a squared error gives up first and an agent lives or dies by.

What should weigh more could also be what moves. But the camera scrolls, so that everything moves; and the
change against the frame before, registered by the camera, is 0.21 on the saws of CoinRun (0.020 over all
pixels), for a saw stands still in its world, and half of it is the jitter of the walls' edges. The top-hat
below is 0.61 on saws, 0.65 on walking enemies, 0.040 over all.
"""

from collections.abc import Callable

import torch

WIDTH = 5
"""Pixels. Things narrower than this in one direction count as small; a tile of CoinRun is about as wide."""


def small_object_weights(obs: torch.Tensor) -> torch.Tensor:
    """How far each pixel of frames [n, H, W, C] uint8 stands out as part of something small, [n, H, W] in [0,
    1].

    The larger of the white and the black top-hat (Meyer 1979): the picture less its opening, its closing less
    the picture; the largest over channels.
    """
    opened = _box(_box(obs, torch.minimum), torch.maximum)
    closed = _box(_box(obs, torch.maximum), torch.minimum)
    return torch.maximum(obs - opened, closed - obs).amax(-1) / 255


def _box(x: torch.Tensor, extreme: Callable) -> torch.Tensor:
    """The extreme over WIDTH x WIDTH pixels around each; the window ends where the picture does."""
    return _line(_line(x, extreme, -3), extreme, -2)


def _line(x: torch.Tensor, extreme: Callable, dim: int) -> torch.Tensor:
    """The extreme over WIDTH = 5 neighbours along one dimension, in three comparisons: windows of 2, of 4, of
    5.
    """
    edges = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    x = torch.cat([edges[0], edges[0], x, edges[1], edges[1]], dim)
    for by in (1, 2, 1):
        rest = x.shape[dim] - by
        x = extreme(x.narrow(dim, 0, rest), x.narrow(dim, by, rest))
    return x
