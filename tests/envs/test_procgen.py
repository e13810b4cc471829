"""The Procgen adapter: VecEnv protocol, bit-exact forks and replays, any level in any slot, correct ends."""

import threading

import numpy as np
import pytest

from envs import coinrun
from envs.effects import differ, effect_classes, fork_points
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv, Snapshot, action_space
from envs.procgen_body import parse, serialize
from envs.procgen_state import BadState, with_header
from envs.vecenv import VecEnv
from tests.helpers.coinrun_states import coin_cell

NUM = 4


def make(
    game: str = "coinrun", num: int = NUM, seed: int = 0, num_threads: int = 0, **options
) -> ProcgenVecEnv:
    return ProcgenVecEnv(num, ProcgenConfig(env_name=game, **options), seed, num_threads)


def random_actions(steps: int, num: int = NUM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 15, (steps, num))


def play(env, actions: np.ndarray) -> list[tuple]:
    """What each step showed: observe() and info() after each action [T, N], as bytes per slot."""
    shown = []
    for action in actions:
        env.act(action)
        arrays = [
            *env.observe(),
            *(env.info()[key] for key in ("terminated", "truncated", "level_complete", "level_seed")),
        ]
        shown.append([tuple(array[slot].tobytes() for array in arrays) for slot in range(env.num)])
    return shown


def slot_of(shown: list[tuple], slot: int) -> list[tuple]:
    return [step[slot] for step in shown]


def put_ahead(env: ProcgenVecEnv, slot: int, thing: int = coinrun.COIN, cur_time: int = 0) -> None:
    """Opens a level in the slot with the coin, or lava, three tiles in front of its player."""
    env.open_level(slot, 0)
    state = parse(env.snapshot([slot])[0].data)
    state.grid[coin_cell(state)] = coinrun.EMPTY
    row = int(state.player["y"])
    column = int(state.player["x"])
    state.grid[row, column + 1 : column + 3], state.grid[row, column + 3] = coinrun.EMPTY, thing
    state.header["cur_time"] = cur_time
    env.restore([Snapshot(serialize(state))], [slot])


@pytest.mark.parametrize("game", GAMES)
def test_it_keeps_the_vecenv_protocol(game):
    env = make(game)
    assert isinstance(env, VecEnv)
    assert env.num_actions == len(env.action_names) == len(env.effect_classes) == 15
    assert env.action_names[env.noop] == "none"
    assert all(env.effect_classes[representative] == representative for representative in env.effect_classes)
    reward, obs, first = env.observe()
    assert (reward.dtype, obs.dtype, first.dtype) == (np.float32, np.uint8, bool)
    assert obs.shape == (
        NUM,
        *env.obs_shape,
    )
    assert first.all()
    assert not reward.any()
    assert not env.episode_step.any()
    env.act(np.full(NUM, env.noop))
    info = env.info()
    assert all(info[key].shape == (NUM,) for key in info)
    assert info["terminated"].dtype == bool
    assert (env.episode_step == 1).all()
    assert (obs == 0).mean() < 1
    env.close()


@pytest.mark.parametrize("game", GAMES)
def test_acts_have_the_plainest_name_of_their_actions(game):
    space = action_space(game)
    acts = {space.names[act] for act in space.effect_classes}
    assert {"left", "right"} <= acts
    assert space.effect_classes[space.noop] == space.noop
    for act in set(space.effect_classes):
        same = [space.names[action] for action, other in enumerate(space.effect_classes) if other == act]
        assert act == space.noop or space.names[act].count("-") == min(name.count("-") for name in same)


def test_observed_arrays_are_not_overwritten_by_later_steps():
    env = make()
    kept = env.observe()
    copies = [array.copy() for array in kept]
    play(env, random_actions(20))
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies))
    env.close()


@pytest.mark.parametrize("game", GAMES)
def test_a_fork_equals_its_original_in_another_environment(game):
    env = make(game, seed=1)
    other = make(game, seed=2)
    play(env, random_actions(25))
    saved = env.snapshot()
    last = env.observe()
    other.restore(saved[::-1])
    assert np.array_equal(other.observe()[1][::-1], last[1])
    steps = random_actions(60, seed=3)
    original = play(env, steps)
    fork = play(other, steps[:, ::-1])
    assert [step[::-1] for step in fork] == original
    for slot, (one, two) in enumerate(zip(env.snapshot(), other.snapshot()[::-1])):
        assert one.data == with_header(two.data, game_n=slot)  # a slot's own number is no part of the game
    env.close(), other.close()


@pytest.mark.parametrize("game", GAMES)
def test_level_and_actions_decide_an_episode(game):
    """The same level and actions: after another episode in a used slot, and in a fresh environment of that
    level alone.
    """
    used = make(game, num=3, seed=1)
    levels = [11, 12, 13]
    play(used, random_actions(90, 3))
    used.open_levels(range(3), levels)
    assert not used.observe()[0].any()
    assert used.observe()[2].all()
    opening = used.observe()[1]
    steps = random_actions(50, 3, seed=6)
    shown = play(used, steps)
    for slot, level in enumerate(levels):
        fresh = make(game, num=1, seed=9, start_level=level, num_levels=1)
        assert np.array_equal(fresh.observe()[1][0], opening[slot])
        again = slot_of(play(fresh, steps[:, slot : slot + 1]), 0)
        # what follows is another level
        ends = next((t + 1 for t, step in enumerate(again) if step[2] == b"\x01"), len(again))
        assert again[: ends - 1] == slot_of(shown, slot)[: ends - 1]
        assert again[ends - 1][2:6] == shown[ends - 1][slot][2:6]
        fresh.close()
    used.close()


def test_a_reset_in_mid_reward_shows_no_reward():
    env = make(num=2)
    put_ahead(env, 0)
    while env.episode_step[0] < 20 and parse(env.snapshot([0])[0].data).player["x"] < 3.2:
        env.act(np.full(2, 7))
    twin = make(num=2)
    twin.restore(env.snapshot())
    twin.act(np.full(2, 4))
    assert twin.observe()[0][0] == 10, "the scene should be one step before the coin, even when doing nothing"
    env.open_level(0, 5)
    assert env.observe()[0][0] == 0
    assert not env.info()["level_complete"][0]
    assert not env.info()["terminated"][0]
    env.close(), twin.close()


def test_dodgeball_forgets_the_episode_before():
    """Natural ends, not opened levels: the ball that opens the next episode flies where the level says."""
    ended = []
    shown = []
    for last_move in (1, 7):
        env = make("dodgeball", num=8, seed=0)
        for slot in range(8):
            env.queue_level(slot, 50 + slot)
        env.restore(
            [Snapshot(with_header(snapshot.data, cur_time=env.timeout - 2)) for snapshot in env.snapshot()]
        )
        env.act(np.full(8, last_move))
        env.act(np.full(8, env.noop))
        ended.append(env.info()["truncated"])
        shown.append(play(env, np.full((6, 8), 9)))
        env.close()
    both = np.flatnonzero(ended[0] & ended[1])
    assert len(both) >= 4
    assert all(slot_of(shown[0], slot) == slot_of(shown[1], slot) for slot in both)


def test_opening_a_level_leaves_the_neighbours_alone():
    env = make(seed=3)
    twin = make(seed=3)
    play(env, random_actions(30)), play(twin, random_actions(30))
    env.open_level(2, 77)
    assert env.info()["level_seed"][2] == 77
    assert env.episode_step.tolist() == [30, 30, 0, 30]
    steps = random_actions(60, seed=1)
    shown = play(env, steps)
    undisturbed = play(twin, steps)
    for slot in (0, 1, 3):
        assert slot_of(shown, slot) == slot_of(undisturbed, slot)
    env.close(), twin.close()


def test_a_queued_level_comes_next_and_not_before():
    env = make("bigfish", seed=3)
    twin = make("bigfish", seed=3)
    env.queue_level(1, 4321)
    before = env.info()["level_seed"][1]
    for action in random_actions(400):
        env.act(action), twin.act(action)
        assert np.array_equal(env.observe()[1][[0, 2, 3]], twin.observe()[1][[0, 2, 3]])
        if env.observe()[2][1]:
            break
        assert np.array_equal(env.observe()[1][1], twin.observe()[1][1])
        assert env.info()["level_seed"][1] == before
    assert env.info()["level_seed"][1] == 4321
    assert env.info()["prev_level_seed"][1] == before
    env.close(), twin.close()


def test_a_real_time_out_is_truncated_and_nothing_else():
    env = make(num=2)
    env.open_levels([0, 1], [0, 0])
    for step in range(1, 1001):
        env.act(np.full(2, env.noop))
        info = env.info()
        assert (info["truncated"] == (step == 1000)).all()
        assert not info["terminated"].any()
    assert env.observe()[2].all()
    assert not env.episode_step.any()
    assert not info["level_complete"].any()
    env.close()


@pytest.mark.parametrize("thing", [coinrun.COIN, coinrun.LAVAS[1]])
def test_an_end_at_the_edge_of_time_is_told_right(thing):
    """The same run to the coin, or into lava, with time enough, with none to spare, and with one step too
    few.
    """

    def run(cur_time: int) -> tuple[int, bool, bool, bool]:
        put_ahead(env, 0, thing, cur_time)
        for steps in range(1, 30):
            env.act(np.array([7]))
            if env.observe()[2][0]:
                info = env.info()
                return (
                    steps,
                    bool(info["terminated"][0]),
                    bool(info["truncated"][0]),
                    bool(info["level_complete"][0]),
                )

    env = make(num=1)
    complete = thing == coinrun.COIN
    steps = run(0)[0]
    assert run(0) == run(env.timeout - 1 - steps) == (steps, True, False, complete)
    assert run(env.timeout + 1 - steps) == (steps - 1, False, True, False)
    assert not complete or run(env.timeout - steps) == (steps, True, False, True)
    env.close()


def test_death_terminates_without_completing():
    env = make("bigfish", num=8)
    ended = []
    for action in random_actions(300, 8):
        env.act(action)
        info = env.info()
        ended += zip(
            *(info[key][env.observe()[2]].tolist() for key in ("terminated", "truncated", "level_complete"))
        )
    assert len(ended) > 5
    assert set(ended) == {(True, False, False)}
    env.close()


def test_sequential_levels_count_their_own_steps():
    env = make(num=1, use_sequential_levels=True)
    put_ahead(env, 0)
    level = env.info()["level_seed"][0]
    for _ in range(20):
        env.act(np.array([7]))
        if env.observe()[0][0] == 10:
            break
    assert env.info()["level_seed"][0] == level + 997
    assert not env.observe()[2][0]
    assert env.episode_step[0] == 0
    env.close()


def test_results_do_not_depend_on_threads():
    alone = make(num=16, num_threads=0)
    threaded = make(num=16, num_threads=2)
    steps = random_actions(60, 16)
    assert play(alone, steps) == play(threaded, steps)
    assert [s.data for s in alone.snapshot()] == [s.data for s in threaded.snapshot()]
    alone.close(), threaded.close()


def test_the_seed_decides_which_levels_come():
    levels = []
    for seed in (0, 0, 1):
        env = make(seed=seed)
        levels.append(env.info()["level_seed"].tolist())
        env.close()
    assert levels[0] == levels[1] != levels[2]


def test_damaged_and_foreign_snapshots_are_refused_and_change_nothing():
    env = make(num=2)
    other = make("maze", num=2)
    good = env.snapshot([0])[0]
    before = [snapshot.data for snapshot in env.snapshot()]
    damaged = Snapshot(good.data[:500] + b"\x01" + good.data[501:], good.checksum)
    with pytest.raises(BadState, match="checksum"):
        env.restore([good, damaged])
    # nobody vouches for these, and the game would end the process
    for cut in (
        good.data[:1000],
        good.data[:-100],
        good.data + bytes(4),
        b"",
    ):
        with pytest.raises(BadState):
            env.restore([good, Snapshot(cut)])
    with pytest.raises(BadState, match="'maze'"):
        env.restore([good, other.snapshot([0])[0]])
    with pytest.raises(ValueError, match="1 snapshots for 2 slots"):
        env.restore([good])
    assert [snapshot.data for snapshot in env.snapshot()] == before
    env.close(), other.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_name": "pong"}, "choose one of: bigfish"),
        ({"distribution_mode": "medium"}, "easy, hard"),
        ({"distribution_mode": "memory"}, "the games that have it: caveflyer"),
        ({"env_name": "bigfish", "distribution_mode": "exploration"}, "the games that have it: coinrun"),
        ({"num_levels": -1}, "-1 levels from 0 on do not lie within"),
        ({"use_generated_assets": True}, "not supported"),
    ],
)
def test_what_procgen_does_not_have_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ProcgenConfig(**options)


def test_exploration_mode_is_one_level():
    env = make(distribution_mode="exploration")
    assert len(set(env.info()["level_seed"])) == 1
    env.close()


@pytest.mark.parametrize("game", ["coinrun", "ninja", "fruitbot"])
def test_effect_classes_are_what_forks_show(game):
    """Against fresh forks of states that the table was not made from."""
    points = fork_points(ProcgenConfig(env_name=game, distribution_mode="hard"), 64, seed=123)
    env = make(game, num=60)
    different = differ(env, points, seed=7)
    assert effect_classes(different, env.action_names, env.noop) == action_space(game).effect_classes
    table = np.array(action_space(game).effect_classes)
    assert np.array_equal(different, table[:, None] != table[None, :])
    env.close()


def test_collecting_one_environment_cannot_block_the_making_of_another():
    """Closing takes no lock of cffi's, for it may happen while the making of another environment holds it."""
    env = ProcgenVecEnv(1, ProcgenConfig(), num_threads=0)
    lock = env._env._ffi._lock
    with lock:
        closing = threading.Thread(target=env.close, daemon=True)
        closing.start()
        closing.join(10)
        assert not closing.is_alive()
