"""Frames to tile codes and back: a tile is drawn from its code at any sub-pixel position.

Procgen draws a tile by nearest neighbour at a sub-pixel phase, so a picture that is shifted by a fraction of
a pixel has other pixels, not only moved ones. Here a code is decoded into a texture finer than the pixels,
and every pixel takes the texel under its centre. The player, who moves against the tiles, is a sprite on top.
"""

from typing import NamedTuple

import torch
from torch import nn

from common.precision import autocast_context
from generative.model.canvas import base_tile, visible_share
from generative.model.config import WorldModelConfig
from generative.model.frames import as_float
from generative.model.texture_cache import TextureCache

PATCH = 7
"""Side in pixels of the patch that a tile's code is computed from."""
EDGE = 0.02
"""Procgen draws every tile larger by this share of its side on all sides, over what was drawn before: the
first and last texel of a tile are as thin as that.
"""
SOFTNESS = 1.0
"""Half-width in pixels of the triangle that pixels have in place of a point where gradients need a slope."""


class EncodedFrame(NamedTuple):
    """What a frame shows: codes [N, h, w, K] of the tiles in view, the gate logits [N, h, w] with which they
    replace what the canvas knows, the visible share of each tile [N, h, w], and the player's pose [N, P].
    """

    codes: torch.Tensor
    gate: torch.Tensor
    share: torch.Tensor
    pose: torch.Tensor


def gather_patches(frames: torch.Tensor, position: torch.Tensor, config: WorldModelConfig) -> torch.Tensor:
    """The pixels around each tile in view, with the tile's sub-pixel offset in its patch.

    Args:
        frames: [N, H, W, C], uint8 or float in [0, 1].
        position: [N, 2].
        config: sizes.

    Returns:
        [N, h, w, PATCH * PATCH * C + 2] around 0; pixels outside of the frame are 0.
    """
    tile = config.tile_pixels
    height, width, channels = frames.shape[1:]
    margin = PATCH + int(tile) + 1
    padded = torch.nn.functional.pad(as_float(frames) - 0.5, (0, 0, margin, margin, margin, margin)).flatten(
        0, 2
    )
    offsets, indices = [], []
    for axis, (count, size) in enumerate(zip(config.view_shape, (height, width))):
        at = position[:, axis, None]
        tiles = base_tile(at, tile) + torch.arange(count, device=frames.device)
        centre = (tiles + 0.5) * tile - at - 0.5
        nearest = torch.round(centre)
        offsets.append(centre - nearest)
        pixels = nearest.long()[..., None] + torch.arange(PATCH, device=frames.device) - PATCH // 2 + margin
        indices.append(pixels.clamp(0, size + 2 * margin - 1))
    stride = width + 2 * margin
    sample = torch.arange(len(frames), device=frames.device) * (height + 2 * margin) * stride
    index = (
        sample[:, None, None, None, None]
        + indices[0][:, :, None, :, None] * stride
        + indices[1][:, None, :, None, :]
    )
    pixels = padded.index_select(0, index.flatten()).view(*index.shape[:3], PATCH * PATCH * channels)
    offset = torch.stack(torch.broadcast_tensors(offsets[0][:, :, None], offsets[1][:, None]), -1)
    return torch.cat([pixels, offset], -1)


def texel_of(place: torch.Tensor, texels: int) -> torch.Tensor:
    """The texel of places [...] in [0, 1) of a tile's side: thin ones at its edges, equal ones between."""
    inner = 1 + torch.floor((place - EDGE) / (1 - 2 * EDGE) * (texels - 2))
    return inner.nan_to_num(0).clamp(0, texels - 1).long()  # of NaN weights: the loss tells


def texel_centres(texels: int) -> torch.Tensor:
    """The centres [texels] of a tile's texels, in sides of the tile."""
    inner = EDGE + (1 - 2 * EDGE) * (torch.arange(texels - 2) + 0.5) / (texels - 2)
    return torch.cat([torch.tensor([EDGE / 2]), inner, torch.tensor([1 - EDGE / 2])])


class TileEncoder(nn.Module):
    """Codes of the tiles that a frame shows, and the pose of the player in its centre."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        d = config.depth
        self.precision = config.precision
        channels = config.obs_shape[2]
        self.patch = nn.Sequential(
            nn.Linear(PATCH * PATCH * channels + 2, 2 * d), nn.SiLU(), nn.Linear(2 * d, d), nn.SiLU()
        )
        self.context = nn.Conv2d(d, d, 3, padding=1)
        self.code_head = nn.Linear(d, config.code_size + 1)
        self.pose_head = nn.Sequential(
            nn.Linear(config.sprite_pixels**2 * channels, config.units),
            nn.SiLU(),
            nn.Linear(config.units, config.pose_size),
        )

    def forward(self, frames: torch.Tensor, position: torch.Tensor) -> EncodedFrame:
        """Encodes frames [N, H, W, C] whose top-left corners lie at positions [N, 2]."""
        c = self.config
        patches = gather_patches(frames, position, c)
        with autocast_context(self.precision, patches.device.type):
            x = self.patch(patches)
            x = x + nn.functional.silu(self.context(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        codes, gate = self.code_head(x.to(patches.dtype)).split([c.code_size, 1], -1)
        share = visible_share(position, c.tile_pixels, c.view_shape, c.obs_shape[:2])
        return EncodedFrame(torch.tanh(codes), gate.squeeze(-1), share, self.pose(frames))

    def pose(self, frames: torch.Tensor) -> torch.Tensor:
        """The pose [N, P] in (-1, 1) of the player in frames [N, H, W, C]."""
        rows, columns = self.config.sprite_slices
        crop = as_float(frames[:, rows, columns]) - 0.5
        return torch.tanh(self.pose_head(crop.flatten(1)))


class Painter(nn.Module):
    """Draws the tiles in view and the player."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        self.precision = config.precision
        channels = config.obs_shape[2]
        width = 2 * config.depth
        self.texture = nn.Sequential(
            nn.Linear(config.code_size, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, config.texels**2 * channels),
        )
        self.sprite = nn.Sequential(
            nn.Linear(config.pose_size, config.units),
            nn.SiLU(),
            nn.Linear(config.units, config.sprite_pixels**2 * (channels + 1)),
        )

    def forward(
        self,
        codes: torch.Tensor,
        position: torch.Tensor,
        pose: torch.Tensor,
        mode: str = "hard",
        base: torch.Tensor | None = None,
        cache: TextureCache | None = None,
    ) -> torch.Tensor:
        """Frames [N, H, W, C] around [0, 1], neither clipped nor rounded.

        Args:
            codes: [N, h, w, K], of the tiles from `base` on.
            position: of the top-left corner of the frame, [N, 2].
            pose: of the player, [N, P].
            mode: "hard": a pixel takes the texel under its centre; its gradient is that of "relaxed", where
                it averages texels with a triangle of 2 pixels.
            base: first tile of the codes, [N, 2]; default: the tile at `position`.
            cache: of these N samples, in hard mode without gradients.
        """
        base = base_tile(position, self.config.tile_pixels) if base is None else base
        with autocast_context(self.precision, codes.device.type):
            if cache is not None:
                textures = cache.update(codes, base, self.texture)
                image = self._look_up(textures, position, base, cell=base)
            elif mode == "hard" and not position.requires_grad:
                image = self._look_up(self.texture(codes), position, base, cell=torch.zeros_like(base))
            else:
                image = self._average(self.texture(codes), position, base, mode)
            return self._with_sprite(image.to(codes.dtype), pose) + 0.5

    def _places(self, position: torch.Tensor, base: torch.Tensor, axis: int) -> torch.Tensor:
        """Centres [N, pixels] of the pixels of one axis, in tiles from `base` on."""
        pixels = torch.arange(self.config.obs_shape[axis], device=position.device) + 0.5
        return (position[:, axis, None] + pixels) / self.config.tile_pixels - base[:, axis, None]

    def _look_up(
        self, textures: torch.Tensor, position: torch.Tensor, base: torch.Tensor, cell: torch.Tensor
    ) -> torch.Tensor:
        """The texel under the centre of every pixel: [N, H, W, C] of textures [N, h, w, S * S * C].

        cell [N, 2] is where the texture of tile `base` lies; they go on from there and wrap around.
        """
        c = self.config
        n, rows, columns = textures.shape[:3]
        tiles, texels = [], []
        for axis, count in enumerate((rows, columns)):
            place = self._places(position, base, axis)
            tile = torch.floor(place).nan_to_num(0).clamp(0, count - 1)
            tiles.append((cell[:, axis, None] + tile.long()) % count)
            texels.append(texel_of(place - tile, c.texels))
        sample = torch.arange(n, device=position.device)[:, None]
        row = ((sample * rows + tiles[0]) * columns * c.texels + texels[0]) * c.texels
        column = tiles[1] * c.texels**2 + texels[1]
        index = row[:, :, None] + column[:, None]
        return textures.view(-1, c.obs_shape[2]).index_select(0, index.flatten()).view(*index.shape, -1)

    def _average(self, textures, position, base, mode: str) -> torch.Tensor:
        """The same as weighted sums of texels, which have a gradient to the position."""
        c = self.config
        n, rows, columns = textures.shape[:3]
        channels = c.obs_shape[2]
        image = textures.view(n, rows, columns, c.texels, c.texels, channels).transpose(2, 3)
        by_row = self._weights(self._places(position, base, 0), rows, mode).to(textures.dtype)
        by_column = self._weights(self._places(position, base, 1), columns, mode).to(textures.dtype)
        image = by_row @ image.reshape(n, rows * c.texels, -1)
        image = image.unflatten(2, (-1, channels)).transpose(1, 2).flatten(2)
        return (by_column @ image).unflatten(2, (-1, channels)).transpose(1, 2)

    def _weights(self, place: torch.Tensor, tiles: int, mode: str) -> torch.Tensor:
        """Weights [N, pixels, tiles * texels] of the texels of one axis in pixels at `place` [N, pixels]."""
        c = self.config
        tile = torch.arange(tiles, device=place.device)[:, None]
        centres = (tile + texel_centres(c.texels).to(place)).flatten()
        triangle = (1 - (place[..., None] - centres).abs() * c.tile_pixels / SOFTNESS).clamp(min=0)
        soft = triangle / triangle.sum(-1, keepdim=True).clamp(min=1e-6)
        if mode == "relaxed":
            return soft
        first = torch.floor(place).nan_to_num(0).clamp(0, tiles - 1)
        nearest = first.long() * c.texels + texel_of(place - first, c.texels)
        hard = torch.nn.functional.one_hot(nearest, tiles * c.texels).to(place.dtype)
        return hard + (soft - soft.detach())

    def _with_sprite(self, image: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        c = self.config
        rows, columns = c.sprite_slices
        sprite = self.sprite(pose).view(len(pose), c.sprite_pixels, c.sprite_pixels, -1)
        opacity = torch.sigmoid(sprite[..., -1:] - 2)
        drawn = image.clone() if torch.is_grad_enabled() else image
        drawn[:, rows, columns] = (1 - opacity) * image[:, rows, columns] + opacity * sprite[..., :-1]
        return drawn
