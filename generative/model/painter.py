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
from generative.model.texels import LEAST_WEIGHT, SOFTNESS, TexelLookUp, nearest_texel, texel_centres
from generative.model.texture_cache import TextureCache

PATCH = 7
"""Side in pixels of the patch that a tile's code is computed from."""


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
            elif mode == "hard":
                image = self._look_up_with_slope(self.texture(codes), position, base)
            else:
                image = self._average(self.texture(codes), position, base)
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
        index = self._texel_index(textures, position, base, cell)
        flat = textures.view(-1, self.config.obs_shape[2])
        return flat.index_select(0, index.flatten()).view(*index.shape, -1)

    def _texel_index(self, textures, position, base, cell) -> torch.Tensor:
        """Row of each pixel's texel in the flattened textures: [N, H, W]."""
        c = self.config
        n, rows, columns = textures.shape[:3]
        tiles, texels = [], []
        for axis, count in enumerate((rows, columns)):
            tile, texel = nearest_texel(self._places(position, base, axis), count, c.texels)
            tiles.append((cell[:, axis, None] + tile) % count)
            texels.append(texel)
        sample = torch.arange(n, device=position.device)[:, None]
        row = ((sample * rows + tiles[0]) * columns * c.texels + texels[0]) * c.texels
        column = tiles[1] * c.texels**2 + texels[1]
        return row[:, :, None] + column[:, None]

    def _look_up_with_slope(self, textures, position, base) -> torch.Tensor:
        """`_look_up`, with the slope of `_average` along each axis where the position has a gradient."""
        if not position.requires_grad:
            return self._look_up(textures, position, base, cell=torch.zeros_like(base))
        c = self.config
        n, rows, columns = textures.shape[:3]
        places = [self._places(position, base, axis) for axis in (0, 1)]
        with torch.no_grad():
            index = self._texel_index(textures, position, base, torch.zeros_like(base))
            image = textures.detach().view(n, rows, columns, c.texels, c.texels, -1).transpose(2, 3)
            image = image.reshape(n, rows * c.texels, columns * c.texels, -1)
            slopes = [self._slopes(image, places, axis) for axis in (0, 1)]
        flat = textures.view(-1, c.obs_shape[2])
        return TexelLookUp.apply(flat, *places, index, *slopes)

    def _slopes(self, image: torch.Tensor, places: list[torch.Tensor], axis: int) -> torch.Tensor:
        """Change [N, H, W, C] of every pixel per tile along one axis, where the other axis is looked up.

        image: all texels, [N, rows, columns, C].
        """
        if axis == 1:
            return self._slopes(image.transpose(1, 2), places[::-1], 0).transpose(1, 2)
        count = image.shape[2] // self.config.texels
        tile, texel = nearest_texel(places[1], count, self.config.texels)
        column = (tile * self.config.texels + texel)[:, None, :, None]
        columns = image.gather(2, column.expand(-1, image.shape[1], -1, image.shape[3]))
        slopes = self._weight_slopes(places[0], image.shape[1] // self.config.texels).to(image.dtype)
        return (slopes @ columns.flatten(2)).unflatten(2, columns.shape[2:])

    def _average(self, textures, position, base) -> torch.Tensor:
        """Weighted sums of texels: relaxed mode."""
        c = self.config
        n, rows, columns = textures.shape[:3]
        channels = c.obs_shape[2]
        image = textures.view(n, rows, columns, c.texels, c.texels, channels).transpose(2, 3)
        by_row = self._weights(self._places(position, base, 0), rows).to(textures.dtype)
        by_column = self._weights(self._places(position, base, 1), columns).to(textures.dtype)
        image = by_row @ image.reshape(n, rows * c.texels, -1)
        image = image.unflatten(2, (-1, channels)).transpose(1, 2).flatten(2)
        return (by_column @ image).unflatten(2, (-1, channels)).transpose(1, 2)

    def _weights(self, place: torch.Tensor, tiles: int) -> torch.Tensor:
        """Weights [N, pixels, tiles * texels] of the texels of one axis in pixels at `place` [N, pixels]."""
        triangle = (1 - self._distance(place, tiles).abs()).clamp(min=0)
        return triangle / triangle.sum(-1, keepdim=True).clamp(min=LEAST_WEIGHT)

    def _weight_slopes(self, place: torch.Tensor, tiles: int) -> torch.Tensor:
        """Derivative of `_weights` with respect to `place`."""
        distance = self._distance(place, tiles)
        triangle = (1 - distance.abs()).clamp(min=0)
        slope = torch.where(triangle > 0, -distance.sign(), 0) * self.config.tile_pixels / SOFTNESS
        total = triangle.sum(-1, keepdim=True)
        within = (total > LEAST_WEIGHT).to(total.dtype)
        total = total.clamp(min=LEAST_WEIGHT)
        return (slope - triangle / total * slope.sum(-1, keepdim=True) * within) / total

    def _distance(self, place: torch.Tensor, tiles: int) -> torch.Tensor:
        """Signed distances [N, pixels, tiles * texels] of pixels from texels, in units of SOFTNESS."""
        tile = torch.arange(tiles, device=place.device)[:, None]
        centres = (tile + texel_centres(self.config.texels).to(place)).flatten()
        return (place[..., None] - centres) * (self.config.tile_pixels / SOFTNESS)

    def _with_sprite(self, image: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        c = self.config
        rows, columns = c.sprite_slices
        sprite = self.sprite(pose).view(len(pose), c.sprite_pixels, c.sprite_pixels, -1)
        opacity = torch.sigmoid(sprite[..., -1:] - 2)
        drawn = image.clone() if torch.is_grad_enabled() else image
        drawn[:, rows, columns] = (1 - opacity) * image[:, rows, columns] + opacity * sprite[..., :-1]
        return drawn
