"""Layouts of Procgen levels: what two levels must not share if one is trained on and the other held out."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from envs.procgen import ProcgenVecEnv
from envs.procgen_body import State, parse

OPEN_FIELD_GAMES = ("bigfish", "bossfight", "dodgeball", "fruitbot", "leaper", "plunder", "starpilot")
"""Games whose tile grid does not tell levels apart: 1 grid in all levels, in leaper 4 (easy) or 54 (hard). In
the nine others, 58% or more of 2,468 easy levels have different grids (benchmarks/held_out_layouts.py).
"""


def layout_hash(state: State) -> str:
    """Hash of a level's layout, from its first state: 16 hex digits.

    The layout is the tile grid; in OPEN_FIELD_GAMES the grid and the entities. It does not depend on seed and
    colours.
    """
    return geometry_hash(state, with_entities=state.game in OPEN_FIELD_GAMES)


def geometry_hash(state: State, with_entities: bool) -> str:
    """Hash of the tile grid and, on request, of the set of (type, position, velocity, size) of entities."""
    geometry = np.ascontiguousarray(state.grid, "<i4").tobytes()
    if with_entities:
        fields = ("type", "x", "y", "vx", "vy", "rx", "ry")
        entities = np.stack([state.entities[name].astype("<f4") for name in fields], axis=1)
        # sorted; a negative zero becomes zero
        geometry += np.unique(entities + np.float32(0), axis=0).tobytes()
    return hashlib.sha256(geometry).hexdigest()[:16]


def first_states(env: ProcgenVecEnv, level_seeds: Sequence[int]) -> Iterator[State]:
    """Yields the first state of each level, in order. The environment loses its episodes."""
    for at in range(0, len(level_seeds), env.num):
        seeds = level_seeds[at : at + env.num]
        slots = range(len(seeds))
        env.open_levels(slots, seeds)
        yield from (parse(snapshot.data) for snapshot in env.snapshot(slots))
