"""Difficulty matches the generator, and deletion finds the cause of death."""

import numpy as np
import pytest

from agents.death_causes import last_states
from envs import coinrun
from envs.layouts import first_states
from envs.procgen import ProcgenConfig, ProcgenVecEnv, Snapshot
from envs.procgen_body import State, parse, serialize
from tests.helpers.coinrun_states import coin_cell

LEVELS = np.arange(3000, 3512)
RIGHT = 7
JUMP_RIGHT = 8
UP = 5


def states(mode: str, levels=LEVELS, **options) -> list[State]:
    env = ProcgenVecEnv(64, ProcgenConfig(distribution_mode=mode, **options), num_threads=0)
    found = list(first_states(env, levels))
    env.close()
    return found


@pytest.fixture(scope="module")
def easy() -> list[State]:
    return states("easy")


@pytest.fixture(scope="module")
def hard() -> list[State]:
    return states("hard")


def sections(state: State) -> int:
    """Sections counted on the ground itself: neighbours differ in height, and a pit lies between two parts of
    one section.
    """
    end = coin_cell(state)[1]
    walls = np.isin(state.grid, coinrun.WALLS)
    dangerous = np.isin(state.grid[1], coinrun.LAVAS)
    low = state.entities[
        (state.entities["y"] == 1.5) & np.isin(state.entities["type"], (coinrun.SAW, coinrun.ENEMY))
    ]
    dangerous[low["x"].astype(int)] = True
    # rows of ground from the bottom up to the first that is not wall
    heights = np.argmin(walls[:, 5:end], axis=0)
    runs = np.split(np.arange(len(heights)), np.flatnonzero(np.diff(heights)) + 1)
    ground = [heights[run[0]] for run in runs if heights[run[0]] > 1 or not dangerous[5 + run].all()]
    return int(np.count_nonzero(np.diff(ground, prepend=0)))


@pytest.mark.parametrize("mode", ["easy", "hard"])
def test_difficulty_is_exact(mode, request):
    """The plan drawn from the seed against what stands there, over 512 levels: number of sections, and the
    coin's distance.
    """
    found = request.getfixturevalue(mode)
    hard, planned = coinrun.level_plan(LEVELS, mode)
    coin = np.array([coin_cell(state)[1] for state in found])
    counted = np.array([sections(state) for state in found])
    whole = coin + 15 < 64  # beyond that the generator stops early
    assert np.array_equal(counted[whole], planned[whole])
    assert (counted <= planned).all()
    assert np.array_equal(hard == 1, coin <= 9)
    shortest = 3 + hard // 3
    longest = 2 + hard // 3 + 2 * hard
    assert (coin - 5 >= counted * shortest).all()
    assert (coin - 5 <= counted * longest).all()
    assert np.bincount(hard, minlength=4)[1:].min() > 140


def test_another_number_of_draws_would_be_noticed(easy, monkeypatch):
    short = np.array([coin_cell(state)[1] <= 9 for state in easy])
    for draws in (2, 3, 5, 6):
        monkeypatch.setitem(coinrun.DRAWS_BEFORE_DIFFICULTY, "easy", draws)
        assert (short == (coinrun.difficulty(LEVELS) == 1)).mean() < 0.7


def test_the_exploration_level_is_drawn_like_a_hard_one():
    state = parse(
        ProcgenVecEnv(1, ProcgenConfig(distribution_mode="exploration"), num_threads=0).snapshot()[0].data
    )
    hard, planned = coinrun.level_plan(state.header["current_level_seed"], "exploration")
    assert sections(state) == planned
    assert coin_cell(state)[1] - 5 <= planned * (2 + hard // 3 + 2 * hard)


def test_difficulty_takes_one_level_or_many_and_refuses_unknown_modes():
    assert coinrun.difficulty(3000) == coinrun.difficulty(LEVELS)[0]
    assert coinrun.difficulty(LEVELS.reshape(2, -1)).shape == (2, 256)
    with pytest.raises(ValueError, match="easy, hard, exploration"):
        coinrun.difficulty(0, "extreme")


def random_deaths(steps: int = 330, slots: int = 64) -> tuple[list[Snapshot], list[int]]:
    """The last states and last actions of the players who died in right-bound random play on hard levels."""
    env = ProcgenVecEnv(slots, ProcgenConfig(distribution_mode="hard"), seed=11, num_threads=0)
    rng = np.random.default_rng(11)
    level = env.info()["level_seed"]
    taken = [[] for _ in range(slots)]
    died = []
    action = np.full(slots, RIGHT)
    for _ in range(steps):
        action = np.where(
            rng.random(slots) < 0.4, rng.choice([RIGHT, JUMP_RIGHT, JUMP_RIGHT, UP, 4, 1], slots), action
        )
        for slot in range(slots):
            taken[slot].append(int(action[slot]))
        env.act(action)
        info = env.info()
        for slot in np.flatnonzero(info["terminated"] | info["truncated"]):
            if info["terminated"][slot] and not info["level_complete"][slot]:
                died.append((int(level[slot]), taken[slot]))
            taken[slot] = []
        level = info["level_seed"]
    before = [
        moment
        for at in range(0, len(died), slots)
        for moment in last_states(env, *zip(*died[at : at + slots]))
    ]
    env.close()
    return before, [actions[-1] for _, actions in died]


@pytest.fixture(scope="module")
def deaths():
    before, actions = random_deaths()
    scratch = ProcgenVecEnv(32, ProcgenConfig(), num_threads=0)
    yield scratch, before, actions, coinrun.causes_of_death(scratch, before, actions)
    scratch.close()


def after(scratch: ProcgenVecEnv, snapshot: Snapshot, action: int) -> tuple[bool, State]:
    """Whether the action ends the episode, and the state after it."""
    scratch.restore([snapshot], [0])
    scratch.act(np.full(scratch.num, action))
    return bool(scratch.observe()[2][0]), parse(scratch.snapshot([0])[0].data)


def test_every_kind_of_death_is_found_and_few_are_unknown(deaths):
    causes = deaths[3]
    assert len(causes) > 50
    assert set(causes) >= set(coinrun.HAZARDS)
    assert causes.count(coinrun.UNKNOWN) <= 0.1 * len(causes)


def test_the_blamed_hazard_is_where_the_player_went(deaths):
    """With it deleted the player lives and stands inside the space that it took up."""
    scratch, before, actions, causes = deaths
    for snapshot, action, cause in zip(before, actions, causes):
        if cause == coinrun.UNKNOWN:
            continue
        state = parse(snapshot.data)
        entities, cells = coinrun.near(state, cause)
        ended, later = after(scratch, coinrun.without(state, entities, cells), action)
        assert not ended
        things = state.entities[entities]
        x = things["x"] + things["vx"]
        y = things["y"] + things["vy"]
        if cause == "lava":
            rows, columns = np.nonzero(cells)
            x = columns + 0.5
            y = rows + 0.5
        slack = 0.35 if cause == "enemy" else 0.01  # an enemy may have turned within the step
        assert (
            (np.abs(x - later.player["x"]) < 1 + slack)
            & (np.abs(y - later.player["y"]) < 0.5 + 0.5787 + slack)
        ).any()


def test_deleting_anything_else_averts_nothing(deaths):
    """Deleting hazards of other kinds, and distant ones of the same kind, does not prevent the death."""
    scratch, before, actions, causes = deaths
    for snapshot, action, cause in zip(before, actions, causes):
        if cause == coinrun.UNKNOWN:
            continue
        state = parse(snapshot.data)
        (saws, _), (enemies, _), (_, lava) = (
            coinrun.near(state, hazard, reach=99) for hazard in coinrun.HAZARDS
        )
        blamed, blamed_cells = coinrun.near(state, cause)
        harmless = np.setdiff1d(np.concatenate([saws, enemies]), blamed)
        ended, _ = after(scratch, coinrun.without(state, harmless, lava & ~blamed_cells), action)
        assert ended


def test_two_saws_at_once_are_still_saws(deaths):
    """A death whose state gets a second saw on top of the first cannot be averted by deleting either one."""
    scratch, before, actions, causes = deaths
    which = causes.index("saw")
    state = parse(before[which].data)
    saws, _ = coinrun.near(state, "saw")
    state.entities = np.concatenate([state.entities, state.entities[saws]])
    doubled = Snapshot(serialize(state))
    assert after(scratch, coinrun.without(state, saws, np.zeros_like(state.grid, bool)), actions[which])[0]
    assert coinrun.causes_of_death(scratch, [doubled], [actions[which]]) == ["saw"]


def test_causes_do_not_depend_on_company(deaths):
    scratch, before, actions, causes = deaths
    assert [
        coinrun.causes_of_death(scratch, [state], [action])[0]
        for state, action in zip(before[:5], actions[:5])
    ] == causes[:5]


def test_what_is_not_a_death_is_refused_and_a_time_out_has_no_culprit():
    env = ProcgenVecEnv(1, ProcgenConfig(), num_threads=0)
    env.open_level(0, 0)
    with pytest.raises(ValueError, match="does not end the episode"):
        coinrun.causes_of_death(env, env.snapshot(), [env.noop])
    env.open_level(0, 0)
    state = parse(env.snapshot()[0].data)
    state.header["cur_time"] = env.timeout - 1
    assert coinrun.causes_of_death(env, [Snapshot(serialize(state))], [env.noop]) == [coinrun.UNKNOWN]
    env.close()
