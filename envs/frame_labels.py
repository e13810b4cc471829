"""The truth behind frames, from the game's states: place of the view, the player's motion and contact, tiles.

World pixels count rows downwards and columns to the right, from the top-left corner of the world.
"""

import numpy as np

from envs.coinrun import COIN, CRATE, ENEMY, SAW
from envs.symbols import Symbols

SIDE = 15
"""Tiles on a side of a tile map; a CoinRun frame shows parts of 14 at most."""
TILE_KINDS = (
    "empty",
    "wall top",
    "wall inner",
    "lava top",
    "lava inner",
    "coin",
    "crate",
    "saw",
    "enemy",
    "outside",
)
"""Meaning of the numbers in a tile map. The game draws what is outside of the world as inner wall."""
HAS_SUPPORT = 1
ON_CRATE = 2
"""Bits of `support`."""
TILE_READERS = ("coinrun",)
"""Games with a tile map and the player's contact; the other fields exist in every Procgen game."""

_OUTSIDE_KIND = TILE_KINDS.index("outside")
_GRID_KINDS = {16: "wall top", 15: "wall inner", 18: "lava top", 17: "lava inner", COIN: "coin"}
_ENTITY_KINDS = {CRATE: "crate", SAW: "saw", ENEMY: "enemy"}
_DIGITS = 5
"""Decimals of a tile that positions are rounded to: the game's float32 leaves the last ones to chance."""


def _kind_table(kinds: dict[int, str]) -> np.ndarray:
    """Kind of every object id 0 .. 255; ids that are not listed are empty."""
    table = np.zeros(256, np.uint8)
    for thing, kind in kinds.items():
        table[thing] = TILE_KINDS.index(kind)
    return table


_KIND_IN_GRID = _kind_table(_GRID_KINDS)
_KIND_OF_ENTITY = _kind_table(_ENTITY_KINDS)


def label_shapes(game: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype and shape of one entry of every field of `frame_labels`, for a Procgen game."""
    generic = {"position": ("float64", (2,)), "velocity": ("float32", (2,))}
    contact = {"support": ("uint8", ()), "facing": ("uint8", ()), "tiles": ("uint8", (SIDE, SIDE))}
    return generic | (contact if game in TILE_READERS else {})


def frame_labels(symbols: Symbols) -> dict[str, np.ndarray]:
    """The fields of `label_shapes` for N states of one game, each [N, ...] (docs/data_format.md)."""
    velocity = np.stack([-symbols.player["vy"], symbols.player["vx"]], 1) + np.float32(0)  # no negative zero
    labels = {"position": view_position(symbols), "velocity": velocity}
    if symbols.game in TILE_READERS:
        on_ground, on_crate = symbols.tail["has_support"] != 0, symbols.tail["is_on_crate"] != 0
        labels["support"] = (HAS_SUPPORT * on_ground + ON_CRATE * on_crate).astype(np.uint8)
        labels["facing"] = (symbols.tail["facing_right"] != 0).astype(np.uint8)
        labels["tiles"] = tile_maps(symbols, corner_tile(labels["position"], symbols.scene["unit"]))
    return labels


def view_position(symbols: Symbols) -> np.ndarray:
    """World pixels (row, column) of the frame's top-left corner, float64 [N, 2].

    What is at row r of frame t is at row r + position[t] - position[t + 1] of frame t + 1. Position / unit is
    an integer where the corner lies on the edge of a tile.
    """
    scene = symbols.scene
    unit = scene["unit"].astype(np.float64)
    row = scene["main_height"] - scene["view_dim"].astype(np.float64) - scene["y_off"] / unit
    tiles = np.stack([row, scene["x_off"] / unit], 1).round(_DIGITS)
    position = tiles * unit[:, None]
    # the product of an integer may lie just below it once divided again
    below = np.floor(position / unit[:, None]) < np.floor(tiles)
    return np.where(below, np.nextafter(position, np.inf), position) + 0.0


def corner_tile(position: np.ndarray, unit: np.ndarray | float) -> np.ndarray:
    """Tile (row, column) that contains the frame's top-left corner, int64 [..., 2]."""
    unit = np.asarray(unit, np.float64)[..., None]
    return np.floor(position / unit).astype(np.int64)


def tile_maps(symbols: Symbols, corner: np.ndarray) -> np.ndarray:
    """Kinds (TILE_KINDS) of SIDE x SIDE tiles from `corner` [N, 2] down and right: uint8 [N, SIDE, SIDE].

    Crates, saws and enemies stand in the tile that contains their centre and hide what the grid has there; of
    several, the one later in TILE_KINDS counts.
    """
    scene = symbols.scene
    height, width = scene["main_height"][:, None], scene["main_width"][:, None]
    y = height - 1 - (corner[:, :1] + np.arange(SIDE))  # [N, SIDE]
    x = corner[:, 1:] + np.arange(SIDE)
    state = np.arange(len(symbols))[:, None, None]
    grid_rows, grid_columns = y.clip(0, height - 1)[:, :, None], x.clip(0, width - 1)[:, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    tiles = np.where(inside, _KIND_IN_GRID[symbols.grid[state, grid_rows, grid_columns]], _OUTSIDE_KIND)
    _place_entities(tiles, symbols, corner)
    return tiles.astype(np.uint8)


def _place_entities(tiles: np.ndarray, symbols: Symbols, corner: np.ndarray) -> None:
    kind = _KIND_OF_ENTITY[symbols.entities["type"]]
    order = np.argsort(kind, kind="stable")
    order = order[kind[order] > 0]
    things, state = symbols.entities[order], symbols.owner[order]
    row = symbols.scene["main_height"][state] - 1 - np.floor(things["y"]).astype(np.int64) - corner[state, 0]
    column = np.floor(things["x"]).astype(np.int64) - corner[state, 1]
    seen = (row >= 0) & (row < SIDE) & (column >= 0) & (column < SIDE)
    tiles[state[seen], row[seen], column[seen]] = kind[order][seen]  # of several, the last stays
