"""The canvas: codes of square tiles in world coordinates, on a torus that is larger than the view.

The top-left corner of the frame lies at `position` (row, column), in pixels of the world; the tile there is
`base`. What leaves the view stays on the canvas until the camera is half a canvas away, so it is still there
when it returns. Nothing is resampled: a tile's code is written once and drawn at any position.
"""

import torch

KNOWN = 1
"""Channels of a canvas after the code: whether the tile has been drawn or seen."""


ON_EDGE = 1e-3
"""Share of a tile below an edge that still counts as on it: whoever stands on a floor does so at an edge, and
float32 would put one corner in five into the tile before.
"""


def base_tile(position: torch.Tensor, tile: float) -> torch.Tensor:
    """The tile [..., 2] that holds the top-left corner of the frame: int64, from positions [..., 2]."""
    return torch.floor(position / tile + ON_EDGE).long()


def tile_phase(position: torch.Tensor, tile: float) -> torch.Tensor:
    """Where positions [..., 2] lie in their base tile: [..., 2] in [-ON_EDGE, 1 - ON_EDGE) tiles."""
    return position / tile - base_tile(position, tile)


def read_window(canvas: torch.Tensor, base: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The `shape` tiles whose first is `base`.

    Args:
        canvas: [B, G, G, C].
        base: int64 [B, 2].
        shape: rows h and columns w of the window, at most G each.

    Returns:
        [B, h, w, C].
    """
    index = window_index(canvas, base, shape)
    return canvas.flatten(0, 2).index_select(0, index.flatten()).view(*index.shape, -1)


def write_window(canvas: torch.Tensor, base: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """A copy of the canvas [B, G, G, C] with `window` [B, h, w, C] written from tile `base` [B, 2] on."""
    index = window_index(canvas, base, window.shape[1:3])
    return canvas.flatten(0, 2).index_copy(0, index.flatten(), window.flatten(0, 2)).view(canvas.shape)


def window_index(torus: torch.Tensor, base: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Row of each tile of the window in the flattened torus [B * G * G', C]: [B, h, w]."""
    batch, *sizes = torus.shape[:3]
    rows, columns = (
        (base[:, axis, None] + torch.arange(n, device=base.device)) % size
        for axis, (n, size) in enumerate(zip(shape, sizes))
    )
    sample = torch.arange(batch, device=base.device)[:, None, None] * sizes[0]
    return (sample + rows[:, :, None]) * sizes[1] + columns[:, None]


def visible_share(position: torch.Tensor, tile: float, view: tuple[int, int], frame: tuple[int, int]):
    """The share of each tile of the view that lies inside the frame, [N, h, w].

    Args:
        position: [N, 2].
        tile: side of a tile in pixels.
        view: rows and columns of tiles that can be in view.
        frame: height and width of the frame in pixels.
    """
    shares = []
    for axis, (count, size) in enumerate(zip(view, frame)):
        at = position[:, axis, None]
        start = (base_tile(at, tile) + torch.arange(count, device=position.device)) * tile - at
        shares.append(((start + tile).clamp(max=size) - start.clamp(min=0)).clamp(min=0) / tile)
    return shares[0][:, :, None] * shares[1][:, None]
