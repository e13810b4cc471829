"""The coin lies where the wrapper says, on ground in the right fifth, is paid for there, and nothing else
changes.
"""

import numpy as np
import pytest

from envs import random_coin
from envs.coin_places import coin_places, in_stretch, last_column, with_coin_at, without_coin
from envs.coinrun import COIN, EMPTY, WALLS
from envs.concepts import pits
from envs.edits import hazards
from envs.layouts import first_states
from envs.make import make_env
from envs.procgen import ProcgenConfig, ProcgenVecEnv, Snapshot
from envs.procgen_body import parse, serialize
from envs.random_coin import RandomCoinVecEnv, move_coin
from envs.symbols import read_symbols
from envs.vecenv import VecEnv

LEVELS = np.arange(200)
RIGHT = 7
LEFT = 1
RIGHT_AND_UP = 8
NUM = 16


@pytest.fixture(scope="module")
def levels():
    """The first state of each level."""
    env = ProcgenVecEnv(32, ProcgenConfig(), num_threads=0)
    yield list(first_states(env, LEVELS))
    env.close()


@pytest.fixture
def env():
    env = RandomCoinVecEnv(ProcgenVecEnv(NUM, ProcgenConfig(), num_threads=0))
    yield env
    env.close()


def coin_cell(state) -> tuple[int, int]:
    ((row, column),) = np.argwhere(state.grid == COIN)
    return int(row), int(column)


def runs_of(mask) -> list[tuple[int, int]]:
    """First column and the one after the last of each run of true columns."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def test_the_generator_puts_the_coin_on_the_ground_before_the_end_wall(levels):
    for state in levels:
        row, column = coin_cell(state)
        assert column == last_column(state)
        assert [row, column] in coin_places(state).tolist()


def test_places_are_free_ground(levels):
    for state in levels:
        places = coin_places(state)
        assert np.isin(state.grid[tuple(places.T)], (EMPTY, COIN)).all()
        for row, column in places:
            assert np.isin(state.grid[:row, column], WALLS).all()
            apart = [
                max(abs(e["x"] - column - 0.5) - e["rx"], abs(e["y"] - row - 0.5) - e["ry"])
                for e in state.entities
            ]
            assert min(apart) > 0.45


def test_no_place_is_in_a_pit(levels):
    """A pit: columns whose floor is full of hazards, at least 3 tiles deep on both sides."""
    in_pits = 0
    for state in levels:
        for begin, end in runs_of(pits(read_symbols([serialize(state)]))[0]):
            inside = [h for h in hazards(state) if h.y < 2 and begin <= h.left and h.right <= end]
            if sum(h.right - h.left for h in inside) >= end - begin - 0.1:
                in_pits += end - begin
                assert not ((coin_places(state)[:, 1] >= begin) & (coin_places(state)[:, 1] < end)).any()
    assert in_pits > 50


def test_stretches_are_shares_of_the_level(levels):
    state = next(s for s in levels if last_column(s) >= 30)
    last = last_column(state)
    places = coin_places(state)
    parts = [in_stretch(state, places, i / 5, (i + 1) / 5) for i in range(5)]
    assert sorted(map(tuple, np.concatenate(parts))) == sorted(map(tuple, places))
    assert parts[4][:, 1].min() > 0.8 * last >= parts[3][:, 1].max()


def test_the_moved_coin_is_alone_in_the_right_fifth_and_walls_are_intact(levels):
    shares = []
    for state in levels:
        moved = move_coin(state, 0)
        row, column = coin_cell(moved)
        shares.append(column / last_column(state))
        assert [row, column] in coin_places(state).tolist()
        assert np.array_equal(without_coin(moved).grid, without_coin(state).grid)
        assert serialize(with_coin_at(moved, *coin_cell(state))) == serialize(state)
    assert min(shares) > 0.8
    assert 0.1 < np.mean(np.array(shares) < 1) < 0.9


def test_all_places_are_taken_about_equally(levels):
    state = next(s for s in levels if last_column(s) >= 30)
    places = in_stretch(state, coin_places(state), 0.8, 1)
    columns = [coin_cell(move_coin(state, seed))[1] for seed in range(600)]
    share = np.array([columns.count(column) for column in places[:, 1]]) / 600
    assert len(places) >= 4
    assert np.abs(share - 1 / len(places)).max() < 0.1


def test_the_place_depends_on_seed_and_level_alone(levels, env):
    places = [coin_cell(move_coin(state, 0)) for state in levels[:NUM]]
    order = np.random.default_rng(0).permutation(NUM)
    for actions in (0, 5):
        for _ in range(actions):
            env.act(np.full(NUM, env.noop))
        env.open_levels(range(NUM), LEVELS[order])
        assert [coin_cell(parse(s.data)) for s in env.snapshot()] == [places[i] for i in order]
    assert [coin_cell(move_coin(state, 1)) for state in levels] != [
        coin_cell(move_coin(s, 0)) for s in levels
    ]


def test_levels_share_no_numbers_with_action_noise(levels, monkeypatch):
    before = [coin_cell(move_coin(state, 0)) for state in levels]
    monkeypatch.setattr(random_coin, "_REPEAT", 0)
    assert [coin_cell(move_coin(state, 0)) for state in levels] != before


def test_episodes_that_follow_begin_with_the_coin_moved_too(env):
    begun = 0
    for _ in range(250):
        env.act(np.full(NUM, RIGHT_AND_UP))
        for slot in np.flatnonzero(env.episode_step == 0):
            state = parse(env.snapshot([slot])[0].data)
            moved = move_coin(state, 0)
            assert serialize(moved) == serialize(state)
            begun += 1
    assert begun > 20


def test_until_a_coin_is_reached_the_game_is_the_plain_one(env):
    """The same reward, end and level at every step, the ends of episodes included; the frame of every slot
    whose coin is out of sight.
    """
    plain = ProcgenVecEnv(NUM, ProcgenConfig(), num_threads=0)
    same = np.ones(NUM, bool)
    ends = 0
    for _ in range(200):
        actions = np.full(NUM, RIGHT_AND_UP)
        env.act(actions), plain.act(actions)
        here, there = ((*e.observe(), e.info()) for e in (env, plain))
        paid = (here[0] > 0) | (there[0] > 0)
        same &= ~paid
        for name in here[3]:
            assert np.array_equal(here[3][name][same], there[3][name][same])
        assert np.array_equal(here[0][same], there[0][same])
        assert np.array_equal(here[2][same], there[2][same])
        ends += here[2][same].sum()
    assert ends > 3
    plain.close()


def test_a_reward_of_the_last_step_stays_when_the_next_level_is_edited(env):
    paid = np.zeros(NUM)
    for _ in range(200):
        env.act(np.full(NUM, RIGHT_AND_UP))
        reward, _, first = env.observe()
        complete = env.info()["level_complete"]
        assert np.array_equal(reward, np.where(complete, 10, 0))
        assert first[complete].all()
        paid += reward
    assert paid.sum() > 50


def test_the_reward_is_paid_at_the_moved_coin_and_no_longer_at_the_end(levels):
    """A player one tile before the end: the end lies to the right, and the moved coin to the left."""
    env = ProcgenVecEnv(3, ProcgenConfig(), num_threads=0)
    state = parse(serialize(next(s for s in levels if flat_end(s))))
    row, column = coin_cell(state)
    state.player["x"], state.player["y"] = column - 0.5, row + 0.5
    for action, expected in ((RIGHT, [10, 0, 0]), (LEFT, [0, 10, 0])):
        env.restore(
            [
                Snapshot(serialize(s))
                for s in (state, with_coin_at(state, row, column - 3), without_coin(state))
            ]
        )
        paid = np.zeros(3)
        for _ in range(12):
            env.act(np.full(3, action))
            paid += env.observe()[0]
        assert paid.tolist() == expected
    env.close()


def flat_end(state) -> bool:
    """Whether the last five columns are free ground of one height."""
    last = last_column(state)
    places = in_stretch(state, coin_places(state), (last - 5) / last, 1)
    return len(places) == 5 and len(set(places[:, 0])) == 1


def test_restored_states_stay_as_they_are(levels, env):
    saved = [Snapshot(serialize(state)) for state in levels[:NUM]]
    env.restore(saved)
    assert [s.data for s in env.snapshot()] == [s.data for s in saved]


def test_it_is_a_vecenv_and_can_blink():
    env = make_env(2, ProcgenConfig(random_coin=True, blink=True), num_threads=0)
    assert isinstance(env, VecEnv)
    env.open_level(1, 5)
    assert coin_cell(parse(env.snapshot([1])[0].data))[1] > 0
    assert env.info()["blank"].shape == (2,)
    with pytest.raises(AttributeError, match="no_such_thing"):
        env.no_such_thing  # noqa: B018
    env.close()
