"""Concepts: what a person would say of a CoinRun state in numbers and yes or no, each a pure function of its
symbols.

Ahead means to the right, where every level leads: from the player's own column to the edge of the picture.
docs/concepts.md lists all columns.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from common.runs import UsageError
from envs.coinrun import COIN, CRATE, ENEMY, LAVAS, SAW, WALLS
from envs.symbols import Symbols

GAME = "coinrun"
RIM = 3
"""Tiles: the least depth of a pit. The generator digs none that is shallower, and all of them down to the
world's floor.
"""
FLOOR_ROW = 1  # the lowest row that is not the world's own floor
BEHIND = 0.5
"""Tiles: an object is ahead unless its centre is further than this behind the player's."""
_EDGE = 0.01  # tiles inside its own edge at which the game itself feels for what is under the player


class Ahead(NamedTuple):
    """The first object of a kind ahead, arrays [N]. there: whether there is one. tiles: horizontal distance
    between centres, -0.5 or more; rise: how much higher it is than the player. Both are float32, NaN if there
    is none.
    """

    there: np.ndarray
    tiles: np.ndarray
    rise: np.ndarray


class Concept(NamedTuple):
    """One column. unit; definition, in a line; mask: the yes-or-no column that says where this one has a
    value (None: everywhere).
    """

    unit: str
    definition: str
    mask: str | None = None


def measure(symbols: Symbols) -> dict[str, np.ndarray]:
    """Every concept of CONCEPTS: [N] bool for yes-or-no ones, float32 for the rest. Raises UsageError for
    another game than CoinRun.
    """
    check_game(symbols.game)
    columns = {name: function(symbols) for name, function in _PLAIN.items()}
    for kind, function in KINDS.items():
        found = function(symbols)
        columns |= dict(zip(columns_of(kind), found))
    return {
        name: column if column.dtype == bool else column.astype(np.float32)
        for name, column in columns.items()
    }


def check_game(game: str) -> None:
    """Raises UsageError unless the game has concepts."""
    if game != GAME:
        raise UsageError(
            f"{game!r} has no concepts: only {GAME} has; envs.symbols reads the states of every Procgen game"
        )


def columns_of(kind: str) -> tuple[str, str, str]:
    """The columns of a kind of thing ahead: whether, how far, how high."""
    return f"{kind}_ahead", f"tiles_to_{kind}", f"{kind}_rise"


def x(symbols: Symbols) -> np.ndarray:
    """Position of the player's centre, from the world's left edge."""
    return symbols.player["x"]


def y(symbols: Symbols) -> np.ndarray:
    """Position of the player's centre, from the world's lower edge."""
    return symbols.player["y"]


def vx(symbols: Symbols) -> np.ndarray:
    """Horizontal velocity with which the player arrived; a step changes it before it moves the player."""
    return symbols.player["vx"]


def vy(symbols: Symbols) -> np.ndarray:
    """Vertical velocity with which the player arrived; 0 as soon as it lands."""
    return symbols.player["vy"]


def support(symbols: Symbols) -> np.ndarray:
    """The player is on a wall or a crate, and can jump."""
    grid = symbols.grid
    player = symbols.player
    row = np.floor(player["y"] - player["ry"] - _EDGE).astype(int).clip(0, grid.shape[1] - 1)
    half = player["rx"] - _EDGE
    feet = [np.floor(player["x"] + side * half).astype(int).clip(0, grid.shape[2] - 1) for side in (-1, 1)]
    ground = np.any([_is(grid[np.arange(len(grid)), row, column], WALLS) for column in feet], 0)
    return (ground | on_crate(symbols)) & (player["vy"] == 0)


def on_crate(symbols: Symbols) -> np.ndarray:
    """The player is on a crate."""
    return symbols.tail["is_on_crate"] != 0


def facing_right(symbols: Symbols) -> np.ndarray:
    """The player faces right, by the last sideways action; initially true."""
    return symbols.tail["facing_right"] != 0


def time_left(symbols: Symbols) -> np.ndarray:
    """Steps until the game ends the episode."""
    return symbols.header["timeout"] - symbols.header["cur_time"]


def tiles_to_goal(symbols: Symbols) -> np.ndarray:
    """Horizontal distance to the next coin, at any distance; NaN if there is none."""
    return _nearest(symbols, *_cells(symbols.grid, (COIN,)), np.inf).tiles


def coin(symbols: Symbols) -> Ahead:
    """the coin"""
    return _nearest(symbols, *_cells_near(symbols, (COIN,)), _reach(symbols))


def saw(symbols: Symbols) -> Ahead:
    """a saw"""
    return _nearest(symbols, *_entities(symbols, SAW), _reach(symbols))


def enemy(symbols: Symbols) -> Ahead:
    """a walking enemy"""
    return _nearest(symbols, *_entities(symbols, ENEMY), _reach(symbols))


def crate(symbols: Symbols) -> Ahead:
    """a crate"""
    return _nearest(symbols, *_entities(symbols, CRATE), _reach(symbols))


def lava(symbols: Symbols) -> Ahead:
    """lava (a cell of its surface)"""
    return _nearest(symbols, *_cells_near(symbols, LAVAS[1:]), _reach(symbols))


def wall(symbols: Symbols) -> Ahead:
    """a wall at the height of the player's body (its rise is from the player's feet to its top, or the top of
    the screen)
    """
    view = _view(symbols)
    player = symbols.player
    feet, head = (player["y"] + side * player["ry"] for side in (-1, 1))
    body = (view.rows + 1 > feet[:, None] + _EDGE) & (view.rows < head[:, None] - _EDGE)  # [N, R]
    solid = _is(view.cells, WALLS)
    blocked = (solid & body[:, :, None]).any(1)
    from_feet_up = np.maximum.accumulate(body, 1)[:, :, None]
    begun = np.maximum.accumulate(solid & from_feet_up, 1)
    top = view.rows[:, :1] + np.where((begun & ~solid).any(1), (begun & ~solid).argmax(1), view.rows.shape[1])
    return _nearest_column(symbols, view.columns, blocked, top - feet[:, None])


def pit(symbols: Symbols) -> Ahead:
    """a pit: a hollow down to the world's floor, at least 3 tiles deep on both sides, with lava, saws or
    enemies in it (its rise is from the player's feet to its bottom, so negative)
    """
    view = _view(symbols)
    feet = symbols.player["y"] - symbols.player["ry"]
    bridged = (
        _is(view.cells, WALLS)
        & (view.rows >= FLOOR_ROW)[:, :, None]
        & (view.rows < symbols.grid.shape[1] - 1)[:, :, None]
    ).any(1)
    is_open = np.take_along_axis(pits(symbols), view.columns.clip(0, symbols.grid.shape[2] - 1), 1) & ~bridged
    return _nearest_column(
        symbols, view.columns, is_open, np.broadcast_to(FLOOR_ROW - feet[:, None], view.columns.shape)
    )


def pits(symbols: Symbols) -> np.ndarray:
    """[N, W] bool: which columns belong to a pit, those that an island spans too."""
    ground = symbols.grid[:, FLOOR_ROW : FLOOR_ROW + RIM]
    solid = _is(ground, WALLS)
    hollow = ~solid[:, 0]
    rim = solid.all(1)
    # [N, W]: a wall and the hollow to its right share a number; the next wall has the next
    run = np.cumsum(~hollow, 1)
    rims, deadly = (np.zeros((run.shape[0], run.shape[1] + 2), bool) for _ in range(2))
    state, column = np.nonzero(~hollow)
    rims[state, run[state, column]] = rim[state, column]
    state, column = np.nonzero(_is(ground[:, 0], LAVAS))
    deadly[state, run[state, column]] = True
    low = symbols.entities["y"] < FLOOR_ROW + 1
    low &= (symbols.entities["type"] == SAW) | (symbols.entities["type"] == ENEMY)
    state = symbols.owner[low]
    column = symbols.entities["x"][low].astype(int).clip(0, run.shape[1] - 1)
    deadly[state, run[state, column]] = True
    inside = np.take_along_axis(deadly & rims & np.roll(rims, -1, 1), run, 1)
    return hollow & inside


def _is(cells: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
    """Whether each cell holds one of a few ids (much faster than np.isin)."""
    found = cells == ids[0]
    for id_ in ids[1:]:
        found |= cells == id_
    return found


def _reach(symbols: Symbols) -> np.ndarray:
    """Tiles from the middle of the picture to its edge, [N]."""
    return symbols.scene["view_dim"] / 2


def _entities(symbols: Symbols, type_: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner, x and y of the entities of a type."""
    which = symbols.entities["type"] == type_
    return symbols.owner[which], symbols.entities["x"][which], symbols.entities["y"][which]


def _cells(grid: np.ndarray, ids: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State, x and y of the middles of the cells [N, H, W] that hold one of `ids`."""
    state, row, column = np.nonzero(_is(grid, ids))
    return state, column + 0.5, row + 0.5


class _View(NamedTuple):
    """The right half of the picture: rows [N, R] and columns [N, C] of the grid, and its cells there [N, R,
    C], walls beyond the world.
    """

    rows: np.ndarray
    columns: np.ndarray
    cells: np.ndarray


def _view(symbols: Symbols) -> _View:
    reach = int(np.ceil(_reach(symbols).max()))
    rows = np.floor(symbols.player["y"]).astype(int)[:, None] + np.arange(-reach, reach + 1)
    columns = np.floor(symbols.player["x"]).astype(int)[:, None] + np.arange(reach + 1)
    height, width = symbols.grid.shape[1:]
    state = np.arange(len(symbols))[:, None, None]
    cells = symbols.grid[state, rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None]]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    return _View(rows, columns, np.where(inside, cells, WALLS[0]))


def _cells_near(symbols: Symbols, ids: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_cells`, of those in view."""
    view = _view(symbols)
    state, row, column = np.nonzero(_is(view.cells, ids))
    return state, view.columns[state, column] + 0.5, view.rows[state, row] + 0.5


def _nearest(
    symbols: Symbols, owner: np.ndarray, x: np.ndarray, y: np.ndarray, reach: np.ndarray | float
) -> Ahead:
    """The first of things at x, y [M] of states `owner` [M] that lies ahead, within `reach` sideways and in
    height; of several the least high or low.
    """
    reach = np.broadcast_to(reach, len(symbols))
    tiles = x - symbols.player["x"][owner]
    rise = y - symbols.player["y"][owner]
    ahead = np.flatnonzero((tiles >= -BEHIND) & (tiles <= reach[owner]) & (np.abs(rise) <= reach[owner]))
    ahead = ahead[np.lexsort((np.abs(rise[ahead]), tiles[ahead], owner[ahead]))]
    state, first = np.unique(owner[ahead], return_index=True)
    return _ahead(len(symbols), state, tiles[ahead[first]], rise[ahead[first]])


def _nearest_column(symbols: Symbols, window: np.ndarray, there: np.ndarray, rise: np.ndarray) -> Ahead:
    """The first of the columns `window` [N, C] that are marked `there`, with its rise [N, C]."""
    tiles = window + 0.5 - symbols.player["x"][:, None]
    there = there & (tiles <= _reach(symbols)[:, None])
    state = np.flatnonzero(there.any(1))
    first = there.argmax(1)
    return _ahead(len(symbols), state, tiles[state, first[state]], rise[state, first[state]])


def _ahead(count: int, state: np.ndarray, tiles: np.ndarray, rise: np.ndarray) -> Ahead:
    found = Ahead(np.zeros(count, bool), *(np.full(count, np.nan, np.float32) for _ in range(2)))
    for column, values in zip(found, (True, tiles, rise)):
        column[state] = values
    return found


def _first_words(function: Callable) -> str:
    return " ".join(function.__doc__.split())


_PLAIN = {f.__name__: f for f in (x, y, vx, vy, support, on_crate, facing_right, time_left, tiles_to_goal)}
_UNITS = {
    "x": "tiles",
    "y": "tiles",
    "vx": "tiles per step",
    "vy": "tiles per step",
    "time_left": "steps",
    "tiles_to_goal": "tiles",
}
KINDS: dict[str, Callable[[Symbols], Ahead]] = {
    f.__name__: f for f in (coin, saw, enemy, crate, lava, pit, wall)
}
"""What can be ahead; each function's docstring says what counts."""


def _definitions() -> dict[str, Concept]:
    found = {
        name: Concept(_UNITS.get(name, "yes or no"), _first_words(function))
        for name, function in _PLAIN.items()
    }
    for kind, function in KINDS.items():
        thing = _first_words(function)
        there, tiles, rise = columns_of(kind)
        found[there] = Concept("yes or no", f"On the right half of the screen: {thing}.")
        found[tiles] = Concept("tiles", "Horizontal distance between centres, to the first one ahead.", there)
        found[rise] = Concept(
            "tiles",
            "How much higher it is than the player, between centres unless noted.",
            there,
        )
    return found


CONCEPTS: dict[str, Concept] = _definitions()
