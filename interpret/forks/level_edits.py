"""Edits of a level around a recorded state, each with a control: an edit as large where it should not matter.

Levels run from left to right, so the control puts an object of the same size behind the player, as far away.
"""

from typing import NamedTuple

import numpy as np

from envs.coin_places import coin_places, with_coin_at
from envs.coinrun import COIN
from envs.concepts import pits
from envs.edits import delete, next_hazard
from envs.procgen import Snapshot
from envs.procgen_body import State, serialize
from envs.scenes import NoRoom, insert
from envs.symbols import read_symbols

EDITS = ("saw_removed", "coin_moved", "crate_added")
CONTROL_KIND = {"saw_removed": "saw", "coin_moved": "crate", "crate_added": "crate"}
"""The object that a control puts behind the player."""
DISTANCES = (2, 3, 4, 5)
"""Columns between the player and an object that is added."""
_NEAR, _FAR = 2.0, 5.5
"""Tiles from the player in which a coin is visible and out of reach."""
_MOVE = 3.0
"""Tiles that a coin is moved at least."""


class LevelEdit(NamedTuple):
    """A state edited twice.

    distance: columns between the player and the edited object, and of the control's behind the player.
    """

    edited: Snapshot
    control: Snapshot
    distance: int


def edit_level(name: str, state: State, looks: dict[str, np.void]) -> LevelEdit | None:
    """One of EDITS at a state, with its control; None where there is no object or no room.

    Args:
        name: of the edit.
        state: of CoinRun, on the ground or in the air; it is unchanged.
        looks: entities to copy (envs.scenes.templates).
    """
    found = _FUNCTIONS[name](state, looks)
    if found is None:
        return None
    edited, distance = found
    try:
        control = insert(state, CONTROL_KIND[name], -distance, 0, looks)[0]
    except NoRoom:
        return None
    return LevelEdit(edited, Snapshot(serialize(control)), distance)


def _saw_removed(state: State, looks) -> tuple[Snapshot, int] | None:
    ahead = next_hazard(state)
    if ahead is None or ahead.kind != "saw":
        return None
    middle = (ahead.left + ahead.right) / 2
    return delete(state, ahead), int(np.floor(middle) - np.floor(state.player["x"]))


def _crate_added(state: State, looks) -> tuple[Snapshot, int] | None:
    for distance in DISTANCES:
        try:
            return Snapshot(serialize(insert(state, "crate", distance, 0, looks)[0])), distance
        except NoRoom:
            continue
    return None


def _coin_moved(state: State, looks) -> tuple[Snapshot, int] | None:
    """The visible coin moves to the visible piece of ground ahead that is furthest from it."""
    x, y = float(state.player["x"]), float(state.player["y"])

    def visible(cells: np.ndarray) -> np.ndarray:
        away = cells[:, 1] + 0.5 - x
        return cells[(away >= _NEAR) & (away <= _FAR) & (np.abs(cells[:, 0] + 0.5 - y) <= _FAR)]

    coin = visible(np.argwhere(state.grid == COIN))
    places = visible(coin_places(state))
    places = places[~pits(read_symbols([serialize(state)]))[0][places[:, 1]]]
    if not len(coin) or not len(places):
        return None
    away = np.abs(places[:, 1] - coin[0, 1])
    if away.max() < _MOVE:
        return None
    moved = with_coin_at(state, *places[away.argmax()])
    return Snapshot(serialize(moved)), int(coin[0, 1] - np.floor(x))


_FUNCTIONS = {"saw_removed": _saw_removed, "coin_moved": _coin_moved, "crate_added": _crate_added}
