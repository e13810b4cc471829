"""Objects of a CoinRun state that can be deleted one at a time: saws, enemies, crates, the coin, lava."""

from typing import NamedTuple

import numpy as np

from envs.coinrun import COIN, CRATE, EMPTY, without
from envs.edits import delete, hazards
from envs.procgen import Snapshot
from envs.procgen_body import State

KINDS = ("saw", "enemy", "crate", "coin", "lava")


class SceneObject(NamedTuple):
    """One object.

    Attributes:
        kind: of KINDS.
        number: index among its kind, constant throughout a level while none is deleted.
        x, y: its centre in tiles, y upwards; for lava the middle of the pool's surface.
    """

    kind: str
    number: int
    x: float
    y: float

    @property
    def cell(self) -> tuple[int, int]:
        """Row and column of the grid cell that contains the centre."""
        return int(np.floor(self.y)), int(np.floor(self.x))


def objects_in_view(state: State) -> list[SceneObject]:
    """Objects with some part less than half a screen from the player, sideways and in height.

    The picture need not show them: another object or the screen's edge may hide them.
    """
    reach = float(state.scene["view_dim"]) / 2 + 0.5
    x, y = float(state.player["x"]), float(state.player["y"])
    found = [
        SceneObject(h.kind, h.number, (h.left + h.right) / 2, h.y)
        for h in hazards(state)
        if h.left <= x + reach and h.right >= x - reach and abs(h.y - y) <= reach
    ]
    return found + [one for one in _others(state) if abs(one.x - x) <= reach and abs(one.y - y) <= reach]


def without_object(state: State, one: SceneObject) -> Snapshot:
    """The state without that object; `state` is unchanged. Raises ValueError if it is missing."""
    if one.kind in ("saw", "enemy", "lava"):
        (hazard,) = [h for h in hazards(state) if h[:2] == (one.kind, one.number)] or [None]
        if hazard is not None:
            return delete(state, hazard)
    elif one in _others(state):
        crates = np.flatnonzero(state.entities["type"] == CRATE)
        cells = np.zeros(state.grid.shape, bool)
        cells[one.cell] = one.kind == "coin"
        return without(state, crates[[one.number]] if one.kind == "crate" else crates[:0], cells)
    raise ValueError(f"the state has no {one.kind} number {one.number} there: give a state that shows it")


def empty_cells(state: State) -> np.ndarray:
    """Cells [H, W] bool of the grid that hold nothing and that no entity, the player included, overlaps."""
    free = state.grid == EMPTY
    for e in state.entities:
        rows = slice(max(int(np.floor(e["y"] - e["ry"])), 0), int(np.floor(e["y"] + e["ry"])) + 1)
        columns = slice(max(int(np.floor(e["x"] - e["rx"])), 0), int(np.floor(e["x"] + e["rx"])) + 1)
        free[rows, columns] = False
    return free


def _others(state: State) -> list[SceneObject]:
    """Crates and coins."""
    crates = state.entities[state.entities["type"] == CRATE]
    found = [SceneObject("crate", i, float(e["x"]), float(e["y"])) for i, e in enumerate(crates)]
    coins = np.argwhere(state.grid == COIN)
    return found + [SceneObject("coin", i, column + 0.5, row + 0.5) for i, (row, column) in enumerate(coins)]
