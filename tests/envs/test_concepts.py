"""Concepts agree with the game: with a slow parser, with the next step, and with where the game draws
objects.
"""

from pathlib import Path

import numpy as np
import pytest

from analysis.model_eval.camera import Camera, x_to_columns, y_to_rows
from analysis.probing.store_concepts import EPISODE_CONCEPTS
from common.runs import UsageError
from envs.coinrun import COIN, CRATE, EMPTY, ENEMY, LAVAS, SAW, WALLS
from envs.concepts import CONCEPTS, KINDS, columns_of, measure, pits
from envs.procgen import ProcgenConfig, ProcgenVecEnv, Snapshot
from envs.procgen_body import parse, serialize
from envs.scenes import copy
from envs.symbols import read_symbols

REACH = 6.5
UP = 5
RIGHT = 7
NOOP = 4
SLOTS = 32
STEPS = 60


@pytest.fixture(scope="module")
def play():
    """Right-bound random play: the states of every slot at every step, the actions, and which slots are still
    in their episode.
    """
    env = ProcgenVecEnv(SLOTS, ProcgenConfig(), num_threads=0)
    rng = np.random.default_rng(1)
    env.open_levels(range(SLOTS), range(4000, 4000 + SLOTS))
    states = []
    actions = []
    live = []
    action = np.full(SLOTS, RIGHT)
    going = np.ones(SLOTS, bool)
    for _ in range(STEPS):
        states.append([one.data for one in env.snapshot()])
        live.append(going.copy())
        action = np.where(
            rng.random(SLOTS) < 0.35, rng.choice([RIGHT, RIGHT, 8, 8, UP, NOOP, 1, 3], SLOTS), action
        )
        actions.append(action)
        env.act(action)
        going &= ~env.observe()[2]
    env.close()
    return states, np.array(actions), np.array(live)


@pytest.fixture(scope="module")
def columns(play):
    """All concepts of the play: {name: [STEPS, SLOTS]}."""
    steps = [measure(read_symbols(states)) for states in play[0]]
    return {name: np.array([step[name] for step in steps]) for name in steps[0]}


@pytest.fixture(scope="module")
def sample(play):
    """States with the player put near every kind of thing in 48 hard levels, and some of the play."""
    env = ProcgenVecEnv(48, ProcgenConfig(distribution_mode="hard"), num_threads=0)
    rng = np.random.default_rng(2)
    made = []
    env.open_levels(range(48), range(5000, 5048))
    for state in [parse(one.data) for one in env.snapshot()]:
        things = [(e["type"], e["x"], e["y"]) for e in state.entities[1:]]
        things += [
            (state.grid[r, c], c + 0.5, r + 0.5)
            for r, c in np.argwhere(np.isin(state.grid, (COIN, LAVAS[1])))
        ]
        for type_ in {thing[0] for thing in things}:
            x, y = next(thing for thing in things[:: rng.choice([-1, 1])] if thing[0] == type_)[1:]
            for _ in range(5 if type_ == LAVAS[1] else 1):  # it is rare
                made.append(
                    copy(
                        state, x=np.clip(x + rng.uniform(-7, 1), 1.5, 62), y=max(y + rng.uniform(-2, 5), 1.6)
                    )
                )
    env.close()
    return made + [
        parse(states[slot]) for t, states in enumerate(play[0]) for slot in range(0, SLOTS, 8) if t % 10 == 0
    ]


def both(columns, live):
    """Pairs of consecutive values of one episode: now, next."""
    pair = live[1:] & live[:-1]
    return {name: (column[:-1][pair], column[1:][pair]) for name, column in columns.items()}


def test_velocity_is_what_moves_the_player(play, columns):
    """In free flight, and on level ground with nothing in the way, position changes by the velocity that the
    next state tells.
    """
    now_next = both(columns, play[2])
    for place, speed in (("x", "vx"), ("y", "vy")):
        moved = now_next[place][1] - now_next[place][0]
        expected = now_next[speed][1]
        assert (np.abs(moved - expected) < 1e-4).mean() > 0.95
        assert (
            np.abs(moved - now_next[speed][0]) < 1e-4
        ).mean() < 0.8  # the velocity of before the step does not


def test_support_is_what_the_game_finds_at_the_next_step(play, columns):
    states, _actions, live = play
    noted = np.array([read_symbols(step).tail["has_support"] for step in states]) != 0
    pair = live[1:] & live[:-1]
    assert np.array_equal(columns["support"][:-1][pair], noted[1:][pair])
    # the state's own note is a step old
    assert not np.array_equal(columns["support"][:-1][pair], noted[:-1][pair])
    assert 0.1 < columns["support"].mean() < 0.9


def test_who_has_support_can_jump_and_no_one_else(play):
    states = play[0][20] + play[0][40]
    found = measure(read_symbols(states))
    env = ProcgenVecEnv(len(states), ProcgenConfig(), num_threads=0)
    env.restore([Snapshot(one) for one in states])
    env.act(np.full(len(states), UP))
    after = measure(env.symbols())
    going = ~env.observe()[2]
    env.close()
    jumped = after["vy"] > np.maximum(found["vy"], 0)
    assert np.array_equal(jumped[going], found["support"][going])
    assert len(set(jumped)) == 2


def test_on_crate_means_feet_on_a_crates_top(play):
    """Put onto the middle of a crate, a player that falls rests on it."""
    state = next(s for s in (parse(one) for one in play[0][0]) if CRATE in s.entities["type"])
    crates = state.entities[state.entities["type"] == CRATE]
    top = crates[np.argmax(crates["y"] + 10 * (crates["x"] == crates["x"][0]))]
    made = copy(state, x=top["x"], y=top["y"] + top["ry"] + state.player["ry"] + 0.3)
    made.tail["last_agent_y"] = made.player["y"]
    env = ProcgenVecEnv(1, ProcgenConfig(), num_threads=0)
    env.restore([Snapshot(serialize(made))])
    assert not measure(env.symbols())["on_crate"][0]
    for _ in range(6):
        env.act(np.array([NOOP]))
    found = measure(env.symbols())
    env.close()
    assert found["on_crate"][0]
    assert found["support"][0]
    assert found["y"][0] == pytest.approx(top["y"] + top["ry"] + state.player["ry"], abs=0.02)


def test_facing_is_the_last_way_to_the_side(play, columns):
    _, actions, live = play
    side = np.array(
        [{0: -1, 1: -1, 2: -1, 6: 1, 7: 1, 8: 1}.get(int(a), 0) for a in actions.ravel()]
    ).reshape(actions.shape)
    expected = np.ones(SLOTS, bool)
    for t in range(STEPS - 1):
        expected = np.where(side[t] != 0, side[t] > 0, expected)
        here = live[t] & live[t + 1]
        assert np.array_equal(columns["facing_right"][t + 1][here], expected[here])
    assert not columns["facing_right"][live].all()


def test_time_left_counts_down_from_the_limit(play, columns):
    _, _, live = play
    for t in range(STEPS):
        assert (columns["time_left"][t][live[t]] == 1000 - t).all()


def slowly(state) -> dict[str, tuple[float, float] | None]:
    """Per kind the nearest thing ahead, (tiles, rise), cell by cell and entity by entity; and how far the
    coin is.
    """
    grid = state.grid
    player = state.player
    px = float(player["x"])
    py = float(player["y"])
    feet = float(player["y"] - player["ry"])
    head = float(player["y"] + player["ry"])
    types = {"saw": SAW, "enemy": ENEMY, "crate": CRATE}
    things = {
        kind: [(float(e["x"]), float(e["y"])) for e in state.entities if e["type"] == type_]
        for kind, type_ in types.items()
    }
    for kind, id_ in (("coin", COIN), ("lava", LAVAS[1])):
        things[kind] = [(c + 0.5, r + 0.5) for r, c in np.argwhere(grid == id_)]
    found = {}
    for kind, places in things.items():
        near = [
            (x - px, abs(y - py), y - py)
            for x, y in places
            if -0.5 <= x - px <= REACH and abs(y - py) <= REACH
        ]
        found[kind] = (min(near)[0], min(near)[2]) if near else None
    goal = [x - px for x, _ in things["coin"] if x >= px - 0.5]
    found["goal"] = (min(goal), 0.0) if goal else None
    found["wall"], found["pit"], hollow = None, None, slow_pits(state)
    for column in range(int(px), min(int(px) + 8, 64)):
        if column + 0.5 - px > REACH:
            break
        struck = [
            r for r in range(64) if grid[r, column] in WALLS and r + 1 > feet + 0.01 and r < head - 0.01
        ]
        if struck and found["wall"] is None:
            top = struck[0]
            while top < min(64, int(np.floor(py)) + 8) and grid[top, column] in WALLS:
                top += 1
            found["wall"] = (column + 0.5 - px, top - feet)
        bridged = any(
            grid[r, column] in WALLS
            for r in range(max(1, int(np.floor(py)) - 7), min(63, int(np.floor(py)) + 8))
        )
        if found["pit"] is None and column in hollow and not bridged:
            found["pit"] = (column + 0.5 - px, 1 - feet)
    return found


def slow_pits(state) -> set[int]:
    """The columns of every pit: hollows are followed from rim to rim."""
    grid = state.grid
    found = set()
    column = 1
    while column < 63:
        end = column
        while end < 63 and grid[1, end] not in WALLS:
            end += 1
        if end > column:
            rims = all(grid[r, c] in WALLS for r in (1, 2, 3) for c in (column - 1, end))
            lava = any(grid[1, c] in LAVAS for c in range(column, end))
            low = any(
                e["type"] in (SAW, ENEMY) and e["y"] < 2 and column <= e["x"] < end for e in state.entities
            )
            found |= set(range(column, end)) if rims and (lava or low) else set()
        column = end + 1
    return found


def test_things_ahead_are_those_of_a_slow_search(sample):
    symbols = read_symbols([serialize(state) for state in sample])
    found = measure(symbols)
    present = dict.fromkeys([*KINDS, "goal"], 0)
    for i, state in enumerate(sample):
        for kind, nearest in slowly(state).items():
            if kind == "goal":
                assert (
                    np.isnan(found["tiles_to_goal"][i])
                    if nearest is None
                    else found["tiles_to_goal"][i] == pytest.approx(nearest[0], abs=1e-4)
                )
            else:
                there, tiles, rise = (found[name][i] for name in columns_of(kind))
                assert there == (nearest is not None), (kind, i)
                assert nearest is None or (tiles, rise) == pytest.approx(nearest, abs=1e-4), (kind, i)
            present[kind] += nearest is not None
        assert set(np.flatnonzero(pits(symbols)[i])) == slow_pits(state)
    assert min(present.values()) >= 5, present
    assert any(slow_pits(state) for state in sample)


PITS = [(3, "saw", True), (3, "lava", True), (2, "saw", False)] + [
    (3, bottom, False)
    for bottom in ("nothing", "floor", "saw overhead", "saw, left rim low", "saw, right rim low")
]


@pytest.mark.parametrize(("depth", "bottom", "is_pit"), PITS)
def test_a_pit_is_deep_and_deadly_and_goes_down_to_the_floor(play, depth, bottom, is_pit):
    state = copy(parse(play[0][0][0]))
    state.entities, saw = (
        state.entities[state.entities["type"] == 0],
        next(e for one in play[0][0] for e in parse(one).entities if e["type"] == SAW).copy(),
    )
    state.grid[1:-1, 1:-1] = EMPTY
    state.grid[1 : 1 + depth, 1:-1] = WALLS[0]
    state.grid[1 : 1 + depth, 30:33] = EMPTY
    saw["x"], saw["y"] = 31.5, 8.5 if bottom == "saw overhead" else 1.5
    state.grid[
        3, {"saw, left rim low": slice(1, 30), "saw, right rim low": slice(33, 63)}.get(bottom, slice(0))
    ] = EMPTY
    if bottom.startswith("saw") or bottom == "floor":
        state.entities = np.append(state.entities, saw)
    if bottom == "lava":
        state.grid[1, 30:33] = LAVAS[1]
    if bottom == "floor":
        state.grid[1, 30:33] = WALLS[1]
    assert np.flatnonzero(pits(read_symbols([serialize(state)]))[0]).tolist() == (
        [30, 31, 32] if is_pit else []
    )


def test_absent_is_nan_exactly_where_the_mask_says(sample):
    found = measure(read_symbols([serialize(state) for state in sample]))
    assert found.keys() == CONCEPTS.keys()
    for name, concept in CONCEPTS.items():
        assert found[name].dtype == (bool if concept.unit == "yes or no" else np.float32)
        if concept.mask:
            assert np.array_equal(np.isnan(found[name]), ~found[concept.mask])


@pytest.mark.parametrize("kind", ["saw", "enemy", "crate", "coin", "lava"])
def test_the_thing_is_drawn_where_the_concept_says(sample, kind):
    """Deleted, it leaves a change in the picture there and nowhere else."""
    there, tiles, rise = columns_of(kind)
    found = measure(read_symbols([serialize(state) for state in sample]))
    chosen = np.flatnonzero(
        found[there] & (found[tiles] > 1.2) & (found[tiles] < 6) & (np.abs(found[rise]) < 6)
    )[:6]
    assert len(chosen) >= 3
    env = ProcgenVecEnv(2, ProcgenConfig(distribution_mode="hard"), num_threads=0)
    for i in chosen:
        x = found["x"][i] + found[tiles][i]
        y = found["y"][i] + found[rise][i]
        env.restore([Snapshot(serialize(sample[i])), Snapshot(serialize(without(sample[i], kind, x, y)))])
        frames = env.observe()[1]
        scene = env.symbols([0]).scene[0]
        camera = Camera(*(float(scene[name]) for name in ("x_off", "y_off", "unit", "view_dim")))
        rows, columns = np.nonzero((frames[0] != frames[1]).any(-1))
        (top, bottom), (left, right) = (
            y_to_rows(camera, np.array([y + 0.5, y - 0.5])),
            x_to_columns(camera, np.array([x - 0.5, x + 0.5])),
        )
        assert len(rows)
        assert rows.min() >= top - 1.5
        assert rows.max() <= bottom + 0.5
        assert columns.min() >= left - 1.5
        assert columns.max() <= right + 0.5
    env.close()


def without(state, kind: str, x: float, y: float):
    """The state without what stands at x, y: a cell, or all entities there."""
    after = copy(state)
    if kind in ("coin", "lava"):
        after.grid[int(y), int(x)] = EMPTY
    else:
        after.entities = after.entities[
            (np.abs(after.entities["x"] - x) > 0.01) | (np.abs(after.entities["y"] - y) > 0.01)
        ]
    return after


def test_other_games_have_no_concepts():
    env = ProcgenVecEnv(1, ProcgenConfig("maze"), num_threads=0)
    with pytest.raises(UsageError, match="'maze' has no concepts"):
        measure(env.symbols())
    env.close()


def test_the_page_lists_every_concept_with_its_definition():
    page = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text()
    for name, concept in (CONCEPTS | EPISODE_CONCEPTS).items():
        assert f"| `{name}` | {concept.unit} | {concept.definition} |" in page, name
