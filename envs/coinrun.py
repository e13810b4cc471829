"""What only CoinRun knows: its objects, how hard a level is, which levels are the same place, and what killed
the player.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from envs.procgen import ProcgenVecEnv, Snapshot
from envs.procgen_body import State, parse, serialize

PLAYER = 0
COIN = 1
SAW = 2
ENEMY = 5
WALLS = (15, 16)
LAVAS = (17, 18)
CRATE = 20
EMPTY = 100

HAZARDS = ("saw", "enemy", "lava")
UNKNOWN = "unknown"
REACH = 3.0
"""Tiles. Within one step nothing farther away than this (in x or in y) can touch the player, who moves at
most 1.5.
"""

DRAWS_BEFORE_DIFFICULTY = {"easy": 4, "hard": 6, "exploration": 6}
"""Random numbers drawn before the difficulty: background offset and image, a start position (unused), then,
except on easy, the colours of player and walls. Measured against the layouts of thousands of levels.
"""


def difficulty(level_seeds, distribution_mode: str = "easy") -> np.ndarray:
    """How hard the generator made each level, 1 to 3: int64, of level_seeds' shape."""
    return level_plan(level_seeds, distribution_mode)[0]


def level_plan(level_seeds, distribution_mode: str = "easy") -> tuple[np.ndarray, np.ndarray]:
    """Difficulty d (1 to 3) and number of sections (d to 2d - 1) of each level, int64, of level_seeds' shape.

    A level's Mersenne twister starts at its seed; these are the first two draws of the layout. A level that
    grows too wide has fewer sections than planned. Raises ValueError for a mode that CoinRun does not have.
    """
    if distribution_mode not in DRAWS_BEFORE_DIFFICULTY:
        raise ValueError(
            f"CoinRun has no {distribution_mode!r} mode; choose one of: {', '.join(DRAWS_BEFORE_DIFFICULTY)}"
        )
    skip = DRAWS_BEFORE_DIFFICULTY[distribution_mode]
    seeds = np.asarray(level_seeds, np.int64)
    draws = np.array([_first_draws(int(seed), skip + 2)[skip:] for seed in seeds.ravel()], np.int64).reshape(
        *seeds.shape, 2
    )
    hard = draws[..., 0] % 3 + 1
    return hard, draws[..., 1] % hard + hard


def layout_hash(state: State) -> str:
    """Names the place: equal for levels that differ only in seed and colours. `state` must be a level's
    first.

    Made of the grid and of what stands in it: the set of (type, position, velocity, size) of the entities. It
    is the key by which levels are split into train and test.
    """
    geometry = np.stack(
        [state.entities[name].astype("<f4") for name in ("type", "x", "y", "vx", "vy", "rx", "ry")], axis=1
    )
    things = np.unique(geometry + np.float32(0), axis=0)  # sorted; a negative zero becomes zero
    return hashlib.sha256(np.ascontiguousarray(state.grid, "<i4").tobytes() + things.tobytes()).hexdigest()[
        :16
    ]


def first_states(env: ProcgenVecEnv, level_seeds: Sequence[int]) -> Iterator[State]:
    """The state in which each level opens, in order. The environment's slots are used for it."""
    for at in range(0, len(level_seeds), env.num):
        seeds = level_seeds[at : at + env.num]
        slots = range(len(seeds))
        env.open_levels(slots, seeds)
        yield from (parse(snapshot.data) for snapshot in env.snapshot(slots))


def near(state: State, hazard: str, reach: float = REACH) -> tuple[np.ndarray, np.ndarray]:
    """Where one kind of hazard is within `reach` tiles of the player: entity indices [K], and a mask [H, W]
    of grid cells.
    """
    kind = {"saw": SAW, "enemy": ENEMY}.get(hazard)
    player = state.player
    things = state.entities
    close = (np.abs(things["x"] - player["x"]) <= reach) & (np.abs(things["y"] - player["y"]) <= reach)
    rows, columns = np.indices(state.grid.shape) + 0.5
    cells = (
        np.isin(state.grid, LAVAS)
        & (np.abs(columns - player["x"]) <= reach)
        & (np.abs(rows - player["y"]) <= reach)
    )
    return np.flatnonzero(close & (things["type"] == kind)), cells & (hazard == "lava")


def without(state: State, entities: np.ndarray, cells: np.ndarray) -> Snapshot:
    """The same moment without those entities and with those grid cells empty. `state` itself stays as it is."""
    grid = np.where(cells, EMPTY, state.grid)
    return Snapshot(
        serialize(State(**{**vars(state), "entities": np.delete(state.entities, entities), "grid": grid}))
    )


def causes_of_death(scratch: ProcgenVecEnv, before: Sequence[Snapshot], actions: Sequence[int]) -> list[str]:
    """What was to blame for each death: "saw", "enemy", "lava", or "unknown".

    before: the last states in which the players lived; actions: what they did then. Each action is tried
    again with the nearby hazards of one kind deleted (all of them: a player can touch two saws at once); the
    kind whose deletion averts the end is to blame. Unknown: no single kind is, as when two kinds struck in
    one step, or time ran out. scratch: any CoinRun environment; what it was doing is lost, and with more
    slots it is faster. Raises ValueError where the action does not end the episode.
    """
    trials = [trial for death, snapshot in enumerate(before) for trial in _trials(death, snapshot)]
    causes = [UNKNOWN] * len(before)
    for trial, ended in zip(trials, _ends(scratch, trials, np.asarray(actions))):
        if trial.deleted is None and not ended:
            raise ValueError(
                f"death {trial.death}: the action does not end the episode; give the last state before the end"
            )
        if trial.deleted is not None and not ended:
            causes[trial.death] = trial.deleted
    return causes


class _Trial(NamedTuple):
    """One replay of a death, with one kind of hazard deleted or, as a check, none."""

    death: int
    deleted: str | None
    snapshot: Snapshot


def _trials(death: int, snapshot: Snapshot) -> Iterator[_Trial]:
    yield _Trial(death, None, snapshot)
    state = parse(snapshot.data)
    for hazard in HAZARDS:
        entities, cells = near(state, hazard)
        if len(entities) or cells.any():
            yield _Trial(death, hazard, without(state, entities, cells))


def _ends(scratch: ProcgenVecEnv, trials: Sequence[_Trial], actions: np.ndarray) -> Iterator[bool]:
    """Whether each trial's action ends its episode."""
    for at in range(0, len(trials), scratch.num):
        chunk = trials[at : at + scratch.num]
        scratch.restore([trial.snapshot for trial in chunk], range(len(chunk)))
        action = np.full(scratch.num, scratch.noop)
        action[: len(chunk)] = actions[[trial.death for trial in chunk]]
        scratch.act(action)
        yield from scratch.observe()[2][: len(chunk)].tolist()


def _first_draws(seed: int, count: int) -> np.ndarray:
    """The first 32-bit outputs of the Mersenne twister that C++ seeds with `seed`."""
    return np.random.RandomState(seed & 0xFFFFFFFF).randint(0, 2**32, count, dtype=np.uint32)
