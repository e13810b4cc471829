"""CoinRun specifics: object ids, level difficulty, and causes of death."""

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
"""In tiles. Within one step nothing beyond this distance (in x or y) can touch the player, who moves at most
1.5.
"""

DRAWS_BEFORE_DIFFICULTY = {"easy": 4, "hard": 6, "exploration": 6}
"""Random numbers that the level generator draws before the difficulty: background offset and image, a start
position (unused), then, except on easy, the colours of player and walls. Checked against the layouts of
thousands of levels.
"""


def difficulty(level_seeds, distribution_mode: str = "easy") -> np.ndarray:
    """Difficulty of each level, 1 to 3: int64, of level_seeds' shape."""
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


def near(state: State, hazard: str, reach: float = REACH) -> tuple[np.ndarray, np.ndarray]:
    """Hazards of one kind within `reach` tiles of the player: entity indices [K], and a mask [H, W] of grid
    cells.
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
    """The state without those entities and with those grid cells empty; `state` is unchanged."""
    grid = np.where(cells, EMPTY, state.grid)
    return Snapshot(
        serialize(State(**{**vars(state), "entities": np.delete(state.entities, entities), "grid": grid}))
    )


def causes_of_death(scratch: ProcgenVecEnv, before: Sequence[Snapshot], actions: Sequence[int]) -> list[str]:
    """Cause of each death: "saw", "enemy", "lava" or "unknown".

    Each fatal action is repeated with all nearby hazards of one kind deleted (a player can touch two saws at
    once); the kind whose deletion prevents the end is the cause. Unknown: no single kind is, for example if
    two kinds struck in one step or time ran out.

    Args:
        scratch: a CoinRun environment, which loses its episodes; more slots are faster.
        before: the last state before each death.
        actions: the fatal actions.

    Raises:
        ValueError: an action does not end the episode.
    """
    trials = [trial for death, snapshot in enumerate(before) for trial in _trials(death, snapshot)]
    causes = [UNKNOWN] * len(before)
    for trial, ended in zip(trials, _ends(scratch, trials, np.asarray(actions))):
        if trial.deleted is None and not ended:
            raise ValueError(
                f"death {trial.death}: the action does not end the episode; give the last state"
                " before the end"
            )
        if trial.deleted is not None and not ended:
            causes[trial.death] = trial.deleted
    return causes


class _Trial(NamedTuple):
    """A death replayed with one kind of hazard deleted or, as a check, none."""

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
    """First 32-bit outputs of the C++ Mersenne twister seeded with `seed`."""
    return np.random.RandomState(seed & 0xFFFFFFFF).randint(0, 2**32, count, dtype=np.uint32)
