"""Constructed scenes: places an object into a CoinRun state ahead of the player.

Objects are placed where the generator could have put them, in the middle of a column, on its ground or some
tiles above, with looks and sizes of real ones.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from envs.coinrun import COIN, CRATE, EMPTY, ENEMY, LAVAS, SAW, WALLS
from envs.concepts import FLOOR_ROW, RIM
from envs.procgen_body import State, parse, serialize
from envs.scene_kinds import KINDS

ENTITY_KINDS = {"saw": SAW, "enemy": ENEMY, "crate": CRATE}
FLAT = ("lava", "pit")
"""Kinds in the ground, which have no height."""
SPAN = 2
"""Columns that a pool of lava or a pit occupies."""


class NoRoom(ValueError):
    """The object cannot be placed there; the message says why."""


class Box(NamedTuple):
    """Bounding box of an edit, in tiles."""

    left: float
    right: float
    bottom: float
    top: float


def templates(states: Iterable[State]) -> dict[str, np.void]:
    """A real entity of each kind in ENTITY_KINDS that occurs in the states."""
    found = {}
    for state in states:
        for kind, type_ in ENTITY_KINDS.items():
            things = state.entities[state.entities["type"] == type_]
            if kind not in found and len(things):
                found[kind] = things[0].copy()
        if len(found) == len(ENTITY_KINDS):
            break
    return found


def copy(state: State, **player: float) -> State:
    """A copy of the state with the given fields of the player (vx, vy)."""
    other = parse(serialize(state))
    for name, value in player.items():
        other.player[name] = value
    return other


def insert(state: State, kind: str, tiles: int, height: int, looks: dict[str, np.void]) -> tuple[State, Box]:
    """The state with one more object.

    Args:
        state: the state, which is unchanged.
        kind: kind of the object.
        tiles: columns to the right of the player.
        height: tiles above that column's ground (crates and walls: of the topmost of a stack).
        looks: entities to copy, see `templates`.

    Returns:
        The new state and the box that the object occupies.

    Raises:
        NoRoom: the place is occupied.
        ValueError: the kind is unknown or has no height.
    """
    if kind not in KINDS or (kind in FLAT and height) or height < 0:
        raise ValueError(
            f"cannot put {kind!r} at height {height}; kinds are {', '.join(KINDS)}, and"
            f" {' and '.join(FLAT)} have no height"
        )
    column = int(np.floor(state.player["x"])) + tiles
    ground = _ground(state, column, SPAN if kind in FLAT else 1)
    box = (
        _digging(state, kind, column, ground)
        if kind in FLAT
        else _standing(state, kind, column, ground, height)
    )
    other = copy(state)
    if kind in ENTITY_KINDS:
        lowest = ground if kind == "crate" else ground + height
        _add(other, looks[kind], [(column, row) for row in range(lowest, ground + height + 1)])
    elif kind == "wall":
        other.grid[ground - 1 : ground + height, column], other.grid[ground + height, column] = WALLS
    elif kind == "coin":
        other.grid[ground + height, column] = COIN
    elif kind == "lava":
        other.grid[ground - 1, column : column + SPAN] = LAVAS[1]
    else:
        other.grid[FLOOR_ROW:ground, column : column + SPAN] = EMPTY
        _add(other, looks["saw"], [(column + i, FLOOR_ROW) for i in range(SPAN)])
    return other, box


def _ground(state: State, column: int, span: int) -> int:
    """Height of the ground in `span` columns from `column` on. Raises NoRoom if it varies or is outside."""
    if column < 1 or column + span > state.grid.shape[1] - 1:
        raise NoRoom("beyond the world")
    solid = np.isin(state.grid[:, column : column + span], WALLS)
    heights = np.where(solid.all(0), len(solid), solid.argmin(0))
    if heights.min() != heights.max() or not 1 <= heights[0] < len(solid) - 1:
        raise NoRoom("no even ground")
    return int(heights[0])


def _standing(state: State, kind: str, column: int, ground: int, height: int) -> Box:
    """Box of an object on the ground. Raises NoRoom if it is occupied."""
    low = ground if kind in ("crate", "wall") else ground + height
    box = Box(column, column + 1, low, ground + height + 1)
    _check_free(state, box)
    # the ground under a wall looks otherwise
    return box._replace(bottom=ground - 1) if kind == "wall" else box


def _digging(state: State, kind: str, column: int, ground: int) -> Box:
    """Box of a hole in the ground. Raises NoRoom if the ground is too low or carries something."""
    _check_free(state, Box(column, column + SPAN, ground, ground + 1))
    rims = (
        np.isin(state.grid[FLOOR_ROW : FLOOR_ROW + RIM, [column - 1, column + SPAN]], WALLS).all()
        and ground >= FLOOR_ROW + RIM
    )
    if ground <= FLOOR_ROW or (kind == "pit" and not rims):
        raise NoRoom("the ground is too low")
    return Box(column, column + SPAN, ground - 1 if kind == "lava" else FLOOR_ROW, ground)


def _check_free(state: State, box: Box) -> None:
    """Raises NoRoom unless the cells are empty and no entity, the player included, overlaps them."""
    cells = state.grid[int(box.bottom) : int(box.top), int(box.left) : int(box.right)]
    things = state.entities
    at_side = (things["x"] + things["rx"] <= box.left) | (things["x"] - things["rx"] >= box.right)
    above = (things["y"] - things["ry"] >= box.top) | (things["y"] + things["ry"] <= box.bottom)
    if (cells != EMPTY).any() or not (at_side | above).all():
        raise NoRoom("something stands there")


def _add(state: State, look: np.void, cells: list[tuple[int, int]]) -> None:
    """Adds a copy of an entity in the middle of each (column, row)."""
    new = np.repeat(look[None], len(cells))
    new["x"], new["y"] = (np.array(cells, np.float32) + 0.5).T
    state.entities = np.concatenate([state.entities, new])
