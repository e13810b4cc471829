"""A CoinRun level as a whole: where the player can be, states with it there, and one picture of it all."""

from typing import NamedTuple

import numpy as np

from common.errors import UsageError
from envs.coin_places import coin_places, with_coin_at
from envs.coinrun import COIN, CRATE, PLAYER, WALLS
from envs.objects import empty_cells
from envs.procgen import ProcgenVecEnv, Snapshot
from envs.procgen_body import State, serialize
from envs.scenes import copy

_JUMP = 3
"""Columns that a jump from higher ground reaches."""


class Extent(NamedTuple):
    """Edges of a part of the world, in tiles."""

    left: int
    right: int
    bottom: int
    top: int


class Places(NamedTuple):
    """P places of the player: its centre in tiles, and whether ground or a crate is right below."""

    x: np.ndarray
    y: np.ndarray
    supported: np.ndarray


def ground_heights(state: State) -> np.ndarray:
    """Lowest row [W] of each column that is no wall; the number of rows where all are."""
    solid = np.isin(state.grid, WALLS)
    return np.where(solid.all(0), len(solid), solid.argmin(0))


def level_extent(state: State, headroom: int) -> Extent:
    """The columns between the level's walls, one wall on each side, up to `headroom` tiles above the highest
    ground.
    """
    heights = ground_heights(state)
    (inside,) = np.nonzero(heights < len(state.grid))
    top = min(int(heights[inside].max()) + headroom, len(state.grid))
    return Extent(int(inside[0]) - 1, int(inside[-1]) + 2, 0, top)


def player_places(state: State, headroom: int) -> Places:
    """Every place where the player fits: centred in a column, with its feet on the lower edge of an empty
    cell, up to `headroom` tiles above the highest ground within _JUMP columns.
    """
    alone = copy(state)
    alone.entities = alone.entities[alone.entities["type"] != PLAYER]
    free = empty_cells(alone)
    fits = free[:-1] & free[1:]  # the player is more than a tile high
    row = np.arange(len(fits))[:, None]
    inside = ground_heights(state) < len(free)
    below_sky = np.isin(state.grid[:-1], WALLS)[::-1]
    highest = np.where(inside, len(below_sky) - below_sky.argmax(0), 0)
    near = np.lib.stride_tricks.sliding_window_view(np.pad(highest, _JUMP), 2 * _JUMP + 1).max(1)
    rows, columns = np.nonzero(fits & inside & (row > 0) & (row < near + headroom))
    return Places(columns + 0.5, rows + float(state.player["ry"]), _carries(state)[rows - 1, columns])


def _carries(state: State) -> np.ndarray:
    """Cells [H, W] on which the player can stand."""
    carries = np.isin(state.grid, WALLS)
    crates = state.entities[state.entities["type"] == CRATE]
    carries[crates["y"].astype(int), crates["x"].astype(int)] = True
    return carries


def placed(state: State, x: float, y: float) -> Snapshot:
    """The state with the player at rest at (x, y), facing right."""
    other = copy(state, x=x, y=y, vx=0.0, vy=0.0)
    other.tail["last_agent_y"], other.tail["facing_right"] = y, 1
    return Snapshot(serialize(other))


def coin_moved(state: State, column: int | None = None) -> State:
    """The state with its coin on the ground of another column; None: halfway to the left wall, or the next
    free column to its right.

    Raises:
        UsageError: the level has no coin, or nothing can stand in that column.
    """
    coins = np.argwhere(state.grid == COIN)
    if len(coins) != 1:
        raise UsageError(f"the level has {len(coins)} coins: give one with a single coin")
    old = coins[0][1]
    places = coin_places(state)
    places = places[places[:, 1] != old]
    at = np.flatnonzero(places[:, 1] >= old // 2 if column is None else places[:, 1] == column)
    if not len(at):
        raise UsageError(f"the coin cannot stand in column {column}: take one of {places[:, 1].tolist()}")
    return with_coin_at(state, *places[at[0]])


def draw_level(env: ProcgenVecEnv, state: State, extent: Extent) -> np.ndarray:
    """Picture [h, w, 3] of a part of the world without the player, as the game draws it.

    Views half a screen apart are put together, which are a whole number of pixels apart.

    Args:
        env: a CoinRun environment, which loses its episodes.
        state: of the level.
        extent: the part.
    """
    unit = float(state.scene["unit"])  # pixels per tile
    half = env.obs_shape[0] // 2
    columns, rows = (np.arange(int(np.ceil(span * unit / half)) + 1) for span in _spans(extent))
    height, width = len(rows) * half, len(columns) * half
    canvas = np.zeros((height, width, 3), np.uint8)
    centres = [(i, j) for i in rows for j in columns]
    for at in range(0, len(centres), env.num):
        part = centres[at : at + env.num]
        where = [(extent.left + j * half / unit, extent.bottom + i * half / unit) for i, j in part]
        env.restore([_unseen(state, x, y) for x, y in where], range(len(part)))
        for (i, j), frame in zip(part, env.observe()[1]):
            middle = frame[::-1][half // 2 : -half // 2, half // 2 : -half // 2]  # rows upwards
            _paste(canvas, middle, i * half - half // 2, j * half - half // 2)
    w, h = (round(span * unit) for span in _spans(extent))
    return canvas[:h, :w][::-1]


def _spans(extent: Extent) -> tuple[int, int]:
    return extent.right - extent.left, extent.top - extent.bottom


def _unseen(state: State, x: float, y: float) -> Snapshot:
    return Snapshot(serialize(copy(state, x=x, y=y, alpha=0.0)))


def _paste(canvas: np.ndarray, part: np.ndarray, row: int, column: int) -> None:
    """Puts a part at (row, column) of the canvas, as far as it lies on it."""
    rows, columns = slice(max(row, 0), row + len(part)), slice(max(column, 0), column + part.shape[1])
    target = canvas[rows, columns]
    down, right = rows.start - row, columns.start - column
    target[:] = part[down : down + target.shape[0], right : right + target.shape[1]]
