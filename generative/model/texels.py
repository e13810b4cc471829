"""Texels: the fine pixels of a tile's texture, of which a frame's pixel takes the one under its centre."""

import torch

EDGE = 0.02
"""Procgen draws every tile larger by this share of its side on all sides, over what was drawn before: the
first and last texel of a tile are as thin as that.
"""
SOFTNESS = 1.0
"""Half-width in pixels of the triangle that pixels have in place of a point where gradients need a slope."""
LEAST_WEIGHT = 1e-6
"""Least sum of the weights of a pixel's texels: pixels beyond the tiles have none."""


def texel_of(place: torch.Tensor, texels: int) -> torch.Tensor:
    """The texel of places [...] in [0, 1) of a tile's side: thin ones at its edges, equal ones between."""
    inner = 1 + torch.floor((place - EDGE) / (1 - 2 * EDGE) * (texels - 2))
    return inner.nan_to_num(0).clamp(0, texels - 1).long()  # of NaN weights: the loss tells


def nearest_texel(place: torch.Tensor, tiles: int, texels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tile, and the texel in it, under places [...] in tiles; the nearest tile where there is none."""
    tile = torch.floor(place).nan_to_num(0).clamp(0, tiles - 1)
    return tile.long(), texel_of(place - tile, texels)


def texel_centres(texels: int) -> torch.Tensor:
    """The centres [texels] of a tile's texels, in sides of the tile."""
    inner = EDGE + (1 - 2 * EDGE) * (torch.arange(texels - 2) + 0.5) / (texels - 2)
    return torch.cat([torch.tensor([EDGE / 2]), inner, torch.tensor([1 - EDGE / 2])])


class TexelLookUp(torch.autograd.Function):
    """Pixels [N, H, W, C] that take one texel each, with a given slope in place of the step from texel to
    texel.

    Inputs: texels [M, C]; places of the pixel rows [N, H] and columns [N, W]; index [N, H, W] of each pixel's
    texel; slopes [N, H, W, C] of each pixel with respect to its row's and its column's place.
    """

    @staticmethod
    def forward(texels, row_place, column_place, index, row_slope, column_slope):
        return texels.index_select(0, index.flatten()).view(*index.shape, -1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        texels, row_place, _, *fixed = inputs
        ctx.shape, ctx.dtype = texels.shape, row_place.dtype
        ctx.save_for_backward(*fixed)
        ctx.save_for_forward(*fixed)

    @staticmethod
    def backward(ctx, gradient):
        index, row_slope, column_slope = ctx.saved_tensors
        texels = rows = columns = None
        if ctx.needs_input_grad[0]:
            texels = gradient.new_zeros(ctx.shape).index_add_(0, index.flatten(), gradient.flatten(0, 2))
        if ctx.needs_input_grad[1]:
            rows = (gradient * row_slope).sum((2, 3), dtype=ctx.dtype)
        if ctx.needs_input_grad[2]:
            columns = (gradient * column_slope).sum((1, 3), dtype=ctx.dtype)
        return texels, rows, columns, None, None, None

    @staticmethod
    def jvp(ctx, texels, rows, columns, *_):
        index, row_slope, column_slope = ctx.saved_tensors
        change = torch.zeros_like(row_slope)
        if texels is not None:
            change = change + texels.index_select(0, index.flatten()).view(*index.shape, -1)
        if rows is not None:
            change = change + rows[:, :, None, None] * row_slope
        if columns is not None:
            change = change + columns[:, None, :, None] * column_slope
        return change.to(row_slope.dtype)
