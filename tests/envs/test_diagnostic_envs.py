"""Diagnostic environments pay the documented returns, reveal no more than they should, and satisfy VecEnv."""

from dataclasses import replace

import numpy as np
import pytest

from envs.diagnostic_envs import DIAGNOSTIC_ENVS, NAMES, DiagnosticVecEnv
from envs.procgen_state import BadState
from envs.vecenv import VecEnv

NUM = 256
SIZE = 16


def band(obs: np.ndarray) -> np.ndarray:
    """Left edge [N] of the band of light in frames [N, H, W, C]."""
    return obs[:, 0, :, 0].argmax(1)


def solve(env: DiagnosticVecEnv):
    """The optimal policy, from what an agent sees: the current frame, and the episode's first frame for
    memory.
    """
    remembered = np.zeros(env.num, int)
    while True:
        _, obs, first = env.observe()
        bit = (band(obs) > 0).astype(int)
        remembered = np.where(first, bit, remembered)
        yield remembered if env.name == "memory" else bit if env.name == "match" else np.ones(env.num, int)


def returns(env: DiagnosticVecEnv, policy, episodes: int = 8) -> np.ndarray:
    """Returns of the episodes that end within `episodes` times the environment's length."""
    total = np.zeros(env.num)
    done = []
    for _ in range(episodes * env.spec.length):
        env.act(next(policy))
        reward, _, first = env.observe()
        total += reward
        done.append(total[first])
        total[first] = 0
    return np.concatenate(done)


def coin_flips(num: int):
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(0, 2, num)


@pytest.mark.parametrize("name", NAMES)
def test_returns_are_as_documented(name):
    env = DiagnosticVecEnv(name, NUM, 0, SIZE)
    best = returns(env, solve(env))
    chance = returns(env, coin_flips(NUM))
    assert len(best) == 8 * NUM
    assert abs(best.mean() - env.optimal_return) < (0.1 if name == "sign" else 1e-9)
    assert abs(chance.mean() - env.random_return) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_vecenv_with_honest_flags(name):
    env = DiagnosticVecEnv(name, 5, 0)
    assert isinstance(env, VecEnv)
    assert env.obs_shape == (64, 64, 3)
    reward, obs, first = env.observe()
    assert obs.shape == (5, 64, 64, 3)
    assert obs.dtype == np.uint8
    assert reward.dtype == np.float32
    assert first.all()
    assert not reward.any()
    assert not env.info()["terminated"].any()
    for step in range(1, 3 * env.spec.length + 1):
        levels = env.info()["level_seed"]
        env.act(np.ones(5, int))
        first = env.observe()[2]
        info = env.info()
        assert (first == (step % env.spec.length == 0)).all()
        assert np.array_equal(info["terminated"], first)
        assert not info["truncated"].any()
        assert np.array_equal(info["prev_level_seed"], levels)
        assert np.array_equal(info["level_complete"], first & (env.observe()[0] > 0))


@pytest.mark.parametrize("name", NAMES)
def test_a_level_is_the_same_in_any_slot_and_environment(name):
    levels = np.arange(NUM)
    order = np.random.default_rng(0).permutation(NUM)
    one = DiagnosticVecEnv(name, NUM, 0, SIZE)
    other = DiagnosticVecEnv(name, NUM, 99, SIZE)
    one.open_levels(range(NUM), levels)
    other.open_levels(range(NUM), levels[order])
    action = np.random.default_rng(1).integers(0, 2, NUM)
    for _ in range(DIAGNOSTIC_ENVS[name].length):
        assert np.array_equal(one.observe()[1][order], other.observe()[1])
        one.act(action), other.act(action[order])
    assert np.array_equal(one.observe()[0][order], other.observe()[0])


@pytest.mark.parametrize("name", NAMES)
def test_effect_classes_are_true(name):
    env = DiagnosticVecEnv(name, NUM, 0, SIZE)
    saved = env.snapshot()
    paid = []
    for action in (0, 1):
        env.restore(saved)
        for _ in range(env.spec.length):
            env.act(np.full(NUM, action))
        paid.append(env.observe()[0])
    assert (env.effect_classes == (0, 0)) == np.array_equal(*paid)


@pytest.mark.parametrize("name", ["sign", "match", "memory"])
def test_what_is_shown_is_a_fair_coin(name):
    env = DiagnosticVecEnv(name, 4000, 0, SIZE)
    assert abs((band(env.observe()[1]) == 0).mean() - 0.5) < 0.03


def test_memory_frames_after_the_first_tell_nothing():
    env = DiagnosticVecEnv("memory", NUM, 0, SIZE)
    assert len(np.unique(band(env.observe()[1]))) == 2
    for _ in range(4):
        env.act(np.zeros(NUM, int))
        obs = env.observe()[1]
        assert (obs == obs[0]).all()
    env.act(np.zeros(NUM, int))
    assert set(env.observe()[0]) == {-1.0, 1.0}


def test_counter_shows_ten_different_frames():
    env = DiagnosticVecEnv("counter", 1, 0, 10)
    seen = []
    for _ in range(10):
        seen.append(env.observe()[1].tobytes())
        env.act(np.zeros(1, int))
    assert len(set(seen)) == 10
    assert env.observe()[0][0] == 1


def test_snapshots_fork_bit_for_bit():
    one = DiagnosticVecEnv("memory", 8, 0, SIZE)
    other = DiagnosticVecEnv("memory", 8, 5, SIZE)
    one.act(np.zeros(8, int))
    one.queue_level(2, 1234)
    other.restore(one.snapshot([2, 3]), [6, 7])
    for _ in range(20):
        for a, b in zip((*one.observe(), *one.info().values()), (*other.observe(), *other.info().values())):
            assert np.array_equal(a[2], b[6])
        assert one.info()["level_seed"][2] == other.info()["level_seed"][6]
        if one.info()["prev_level_seed"][2] == 1234:
            break
        one.act(np.ones(8, int)), other.act(np.ones(8, int))
    else:
        pytest.fail("the queued level never came")


def test_queued_and_opened_levels_leave_the_neighbours_alone():
    env = DiagnosticVecEnv("delayed", 4, 0, SIZE)
    twin = DiagnosticVecEnv("delayed", 4, 0, SIZE)
    env.act(np.zeros(4, int)), twin.act(np.zeros(4, int))
    env.open_level(1, 77)
    env.queue_level(2, 78)
    assert env.episode_step.tolist() == [1, 0, 1, 1]
    assert env.info()["level_seed"][1] == 77
    env.act(np.zeros(4, int)), twin.act(np.zeros(4, int))
    assert env.info()["level_seed"][2] == 78
    assert env.info()["level_seed"][1] == 77
    assert np.array_equal(env.info()["level_seed"][[0, 3]], twin.info()["level_seed"][[0, 3]])
    env.act(np.zeros(4, int)), env.act(np.zeros(4, int))
    assert not np.isin(env.info()["level_seed"], (77, 78)).any()


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="constant, sign"):
        DiagnosticVecEnv("env9", 1)
    with pytest.raises(ValueError, match="size >= 10"):
        DiagnosticVecEnv("counter", 1, size=8)
    env = DiagnosticVecEnv("choice", 2, 0, SIZE)
    with pytest.raises(ValueError, match="each 0 or 1"):
        env.act(np.array([0, 2]))
    with pytest.raises(BadState, match="'sign'"):
        env.restore(DiagnosticVecEnv("sign", 2, 0, SIZE).snapshot())
    damaged = [replace(snapshot, data=snapshot.data.replace(b"0", b"1", 1)) for snapshot in env.snapshot()]
    with pytest.raises(BadState, match="does not match its checksum"):
        env.restore(damaged)
    with pytest.raises(ValueError, match="1 snapshots for 2 slots"):
        env.restore(env.snapshot([0]))
