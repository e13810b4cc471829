"""Levels with the coin moved, and runs of them: a blind agent gets a coin exactly where it would have passed
by.
"""

import numpy as np
import pytest
import torch

from agents.behaviours import RandomPolicy
from common.runs import UsageError
from envs.coin_places import last_column, without_coin
from envs.coinrun import COIN
from envs.make import make_env
from envs.procgen import ProcgenConfig
from envs.procgen_body import parse, serialize
from interpret.forks.coin_levels import VARIANTS, find_coin_levels
from interpret.forks.coin_play import OUTCOMES, Limits, play_coin_levels

WATCHED = ("end", "moved", "middle")
RIGHT, RIGHT_AND_UP = 7, 8


class Runner(RandomPolicy):
    """Runs right and jumps at chance, and sees nothing."""

    def heads(self, state):
        chosen = torch.tensor([RIGHT, RIGHT_AND_UP])
        return torch.full((len(state), 15), -20.0).index_fill(1, chosen, 0.0), None


class Waiter(RandomPolicy):
    """Does nothing."""

    def heads(self, state):
        return torch.full((len(state), 15), -20.0).index_fill(1, torch.tensor([4]), 0.0), None


@pytest.fixture(scope="module")
def env():
    env = make_env(16, ProcgenConfig(), num_threads=1)
    yield env
    env.close()


@pytest.fixture(scope="module")
def levels(env):
    return find_coin_levels(env, 1000, 40, 12, 0)


@pytest.fixture(scope="module")
def runs(env, levels):
    return {
        variant: play_coin_levels(env, Runner(15), levels, variant, Limits(300, 30), 0, WATCHED)
        for variant in VARIANTS
    }


def coins(snapshot) -> list[list[int]]:
    return np.argwhere(parse(snapshot.data).grid == COIN).tolist()


def test_variants_differ_in_their_coin_alone(levels):
    for one in levels:
        for variant in VARIANTS:
            assert coins(one.snapshots[variant]) == (
                [list(one.cells[variant])] if variant in one.cells else []
            )
            bare = serialize(without_coin(parse(one.snapshots[variant].data)))
            assert bare == one.snapshots["removed"].data


def test_coins_lie_where_the_names_say(levels):
    for one in levels:
        column = {variant: cell[1] for variant, cell in one.cells.items()}
        assert column["end"] == one.last_column == last_column(parse(one.snapshots["end"].data))
        assert 0.8 * one.last_column < column["moved"] < one.last_column
        assert 0.4 * one.last_column < column["middle"] <= 0.6 * one.last_column


def test_levels_are_long_enough_and_of_different_layouts(env, levels):
    assert min(one.last_column for one in levels) >= 12
    assert len({one.layout for one in levels}) == len(levels)
    without = find_coin_levels(env, 1000, 40, 12, 0, {levels[0].layout})
    assert levels[0].layout not in {one.layout for one in without}
    assert [one.level for one in without[:39]] == [one.level for one in levels[1:]]


def test_another_seed_moves_coins_elsewhere(env, levels):
    other = find_coin_levels(env, 1000, 40, 12, 1)
    assert [one.cells["moved"] for one in other] != [one.cells["moved"] for one in levels]


def test_too_few_levels_are_an_error(env):
    with pytest.raises(UsageError, match="only 0 layouts with 60 columns or more"):
        find_coin_levels(env, 0, 2, 60, 0)


def test_a_blind_agent_gets_a_coin_exactly_where_it_would_have_passed(runs):
    """Its actions do not depend on the coin: no pursuit, level by level."""
    passed = runs["removed"].passed
    both = 0
    for i, variant in enumerate(WATCHED):
        got = runs[variant].outcome == OUTCOMES.index("coin")
        assert np.array_equal(got, passed[:, i])
        both += got.sum()
    assert 10 < both < 110


def test_no_coin_is_touched_and_not_got(runs):
    for i, variant in enumerate(WATCHED):
        others = runs[variant].outcome != OUTCOMES.index("coin")
        assert not runs[variant].passed[others, i].any()


def test_runs_without_a_coin_end_at_the_wall_or_by_death(runs):
    outcome = runs["removed"].outcome
    assert set(outcome) <= {1, 2, 3}
    assert (outcome == OUTCOMES.index("wall")).sum() > 3
    assert (outcome == OUTCOMES.index("death")).sum() > 3
    at_wall = outcome == OUTCOMES.index("wall")
    assert (runs["removed"].wall_at[at_wall] > 0).all()
    assert (runs["removed"].wall_at[outcome == OUTCOMES.index("death")] == -1).all()


def test_runs_wait_at_the_wall_as_long_as_asked(env, levels, runs):
    long = runs["removed"]
    at_wall = np.flatnonzero(long.outcome == OUTCOMES.index("wall"))
    waited = long.length[at_wall] - long.wall_at[at_wall]
    assert (waited <= 30).all()
    assert np.median(waited) == 30
    none = play_coin_levels(env, Runner(15), levels, "removed", Limits(300, 0), 0, WATCHED)
    assert np.array_equal(none.length[at_wall], long.wall_at[at_wall])


def test_steps_are_limited_and_the_wall_is_where_the_path_ends(env, levels, runs):
    short = play_coin_levels(env, Runner(15), levels, "end", Limits(10, 0), 0)
    assert set(short.outcome) == {OUTCOMES.index("time-out")}
    assert (short.length == 10).all()
    assert np.isfinite(short.path).all()
    last = np.array([one.last_column for one in levels])
    furthest = np.nanmax(runs["removed"].path[..., 0], 0)
    assert np.array_equal(furthest >= last, runs["removed"].wall_at >= 0)


def test_one_who_waits_times_out(env, levels):
    played = play_coin_levels(env, Waiter(15), levels[:4], "moved", Limits(20, 5), 0)
    assert set(played.outcome) == {OUTCOMES.index("time-out")}
    assert (played.wall_at == -1).all()


def test_results_do_not_depend_on_slots_and_noise_is_keyed_by_level(env, levels, runs):
    few = make_env(5, ProcgenConfig(), seed=3, num_threads=1)
    again = play_coin_levels(few, Runner(15), levels[::-1], "moved", Limits(300, 30), 0, WATCHED)
    assert np.array_equal(again.outcome[::-1], runs["moved"].outcome)
    assert np.array_equal(again.path[:, ::-1], runs["moved"].path, equal_nan=True)
    other = play_coin_levels(few, Runner(15), levels, "moved", Limits(300, 30), 1, WATCHED)
    assert not np.array_equal(other.length, runs["moved"].length)
    few.close()
