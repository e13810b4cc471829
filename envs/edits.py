"""Edits of CoinRun states: list hazards, find the next one, and remove it."""

from typing import NamedTuple

import numpy as np

from envs.coinrun import ENEMY, LAVAS, SAW, without
from envs.procgen import Snapshot
from envs.procgen_body import State

_ENTITY_KINDS = {"saw": SAW, "enemy": ENEMY}
KINDS = (*_ENTITY_KINDS, "lava")


class Hazard(NamedTuple):
    """One hazard.

    Attributes:
        kind: saw, enemy or lava.
        number: index among its kind, constant throughout a level.

    The other fields give its current horizontal extent and the height of its middle (lava: of its surface),
    in tiles.
    """

    kind: str
    number: int
    left: float
    right: float
    y: float


def hazards(state: State) -> list[Hazard]:
    """All saws, enemies and pools of lava (adjacent columns form one pool)."""
    found = []
    for kind, type_ in _ENTITY_KINDS.items():
        things = state.entities[state.entities["type"] == type_]
        found += [
            Hazard(kind, i, float(e["x"] - e["rx"]), float(e["x"] + e["rx"]), float(e["y"]))
            for i, e in enumerate(things)
        ]
    lava = np.isin(state.grid, LAVAS)
    surface = lava.cumsum(0).argmax(0) + 0.5  # the highest lava cell of each column
    for i, (left, right) in enumerate(_pools(lava)):
        found.append(Hazard("lava", i, float(left), float(right), float(surface[left])))
    return found


def next_hazard(
    state: State, nearest: float = 2.0, farthest: float = 6.0, height: float = 6.0
) -> Hazard | None:
    """The closest hazard whose near edge is `nearest` to `farthest` tiles right of the player's middle, or
    None.

    `height` bounds the vertical distance in tiles. Levels run from left to right.
    """
    x = float(state.player["x"])
    y = float(state.player["y"])
    ahead = [h for h in hazards(state) if nearest <= h.left - x <= farthest and abs(h.y - y) <= height]
    return min(ahead, key=lambda h: h.left, default=None)


def delete(state: State, hazard: Hazard) -> Snapshot:
    """The state without that hazard, found by kind and number even if it has moved. Raises ValueError if it
    is missing.
    """
    here = [h for h in hazards(state) if h[:2] == hazard[:2]]
    if not here:
        raise ValueError(
            f"this moment has no {hazard.kind} number {hazard.number}: give a state of the same level"
        )
    nothing = np.zeros(0, np.int64), np.zeros(state.grid.shape, bool)
    if hazard.kind == "lava":
        cells = np.isin(state.grid, LAVAS)
        cells[:, : int(hazard.left)], cells[:, int(hazard.right) :] = False, False
        return without(state, nothing[0], cells)
    return without(
        state,
        np.flatnonzero(state.entities["type"] == _ENTITY_KINDS[hazard.kind])[[hazard.number]],
        nothing[1],
    )


def _pools(lava: np.ndarray) -> list[tuple[int, int]]:
    """First column, and the one after the last, of each run of columns with lava in `lava` [H, W] bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lava.any(0), [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))
