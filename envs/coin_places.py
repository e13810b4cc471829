"""Where a CoinRun level could have its coin, and levels with the coin elsewhere or without one."""

import numpy as np

from envs.coinrun import COIN, EMPTY, WALLS
from envs.procgen_body import State


def last_column(state: State) -> int:
    """The column before the end wall, where the generator puts the coin."""
    return int(np.flatnonzero(~np.isin(state.grid, WALLS).all(0))[-1])


def coin_places(state: State) -> np.ndarray:
    """Cells [K, 2] (row, column) by column in which a coin can lie on the ground, its own included: those
    that no entity overlaps.

    state: the first of a level, in which hazards fill every pit; later its enemies move.
    """
    solid = np.isin(state.grid, WALLS)
    columns = np.flatnonzero(~solid.all(0) & solid[0])
    rows = solid[:, columns].argmin(0)
    free = np.isin(state.grid[rows, columns], (EMPTY, COIN)) & ~_occupied(state)[rows, columns]
    return np.stack([rows, columns], 1)[free]


def in_stretch(state: State, places: np.ndarray, begin: float, end: float) -> np.ndarray:
    """Those of places [K, 2] whose column lies in a stretch of the level, as shares of its length from 0 (the
    left wall) to 1 (the end wall): columns c with begin < c / last_column <= end.
    """
    share = places[:, 1] / last_column(state)
    return places[(share > begin) & (share <= end)]


def with_coin_at(state: State, row: int, column: int) -> State:
    """The state with its coin in that cell and nowhere else; `state` is unchanged."""
    other = without_coin(state)
    other.grid[row, column] = COIN
    return other


def without_coin(state: State) -> State:
    """The state without a coin; `state` is unchanged."""
    return State(**{**vars(state), "grid": np.where(state.grid == COIN, EMPTY, state.grid)})


def _occupied(state: State) -> np.ndarray:
    """Cells [H, W] bool that an entity overlaps, the player included."""
    found = np.zeros(state.grid.shape, bool)
    for e in state.entities:
        rows, columns = (
            slice(max(int(np.floor(middle - half)), 0), int(np.floor(middle + half)) + 1)
            for middle, half in ((e["y"], e["ry"]), (e["x"], e["rx"]))
        )
        found[rows, columns] = True
    return found
