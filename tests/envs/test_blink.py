"""Blanks depend on seed, level and step only, hide whole frames, and change nothing else."""

import numpy as np
import pytest

from envs import blink
from envs.blink import BlinkConfig, BlinkVecEnv, blank_schedule
from envs.diagnostic_envs import DiagnosticVecEnv
from envs.procgen import ProcgenConfig, ProcgenVecEnv
from envs.vecenv import VecEnv

LEVELS = np.arange(100, 108)
NUM = len(LEVELS)


def make(seed: int = 0, blink_seed: int = 5, num: int = NUM) -> BlinkVecEnv:
    return BlinkVecEnv(ProcgenVecEnv(num, ProcgenConfig(), seed, num_threads=0), seed=blink_seed)


@pytest.fixture(scope="module")
def pair():
    """Two blinking environments that share nothing but the blink's seed."""
    envs = make(seed=1), make(seed=2)
    yield envs
    for env in envs:
        env.close()


def watch(env, actions: np.ndarray, slots=slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, N, H, W, C] and blanks [T, N] along the actions [T, N], of the given slots."""
    frames = []
    blanks = []
    for action in actions:
        frames.append(env.observe()[1][slots])
        blanks.append(env.info()["blank"][slots])
        env.act(action)
    return np.stack(frames), np.stack(blanks)


def actions(steps: int, num: int = NUM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 9, (steps, num))


def runs(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the clear and of the black stretches, without the last one, which is cut."""
    lengths = np.diff(np.flatnonzero(np.diff(row.astype(int), prepend=-1)))
    return lengths[0::2], lengths[1::2]


def test_stretches_have_the_lengths_that_were_asked_for():
    config = BlinkConfig()
    schedule = blank_schedule(config, 0, np.arange(200), 1001)
    assert not schedule[:, : config.min_clear].any()
    clear, black = (np.concatenate(kind) for kind in zip(*map(runs, schedule)))
    assert set(black) == set(range(config.min_blank, config.max_blank + 1))
    assert set(clear) == set(range(config.min_clear, config.max_clear + 1))
    shares = np.bincount(black)[config.min_blank :] / len(black)
    assert np.abs(shares - 1 / len(shares)).max() < 0.02


def test_longer_schedules_begin_the_same():
    short, long = (blank_schedule(BlinkConfig(), 3, LEVELS, steps) for steps in (40, 1001))
    assert np.array_equal(short, long[:, :40])


def test_black_frames_are_black_and_the_others_untouched():
    env = make()
    plain = ProcgenVecEnv(NUM, ProcgenConfig(), 0, num_threads=0)
    steps = actions(60)
    (seen, blank), inner = watch(env, steps), []
    for action in steps:
        inner.append(plain.observe()[1])
        plain.act(action)
    assert 0.1 < blank.mean() < 0.7
    assert not blank[0].any()
    assert not seen[blank].any()
    assert np.array_equal(seen[~blank], np.stack(inner)[~blank])
    assert np.array_equal(env.observe()[0], plain.observe()[0])
    env.close(), plain.close()


def test_the_same_in_any_slot_order_and_environment(pair):
    order = np.random.default_rng(1).permutation(NUM)
    steps = actions(50)
    pair[0].open_levels(range(NUM), LEVELS)
    pair[1].act(np.full(NUM, pair[1].noop))
    pair[1].open_levels(range(NUM), LEVELS[order])
    frames, blanks = watch(pair[0], steps)
    again, blanks_again = watch(pair[1], steps[:, order])
    assert np.array_equal(blanks[:, order], blanks_again)
    assert np.array_equal(frames[:, order], again)


def test_restoring_goes_on_with_the_same_blanks(pair):
    pair[0].open_levels(range(NUM), LEVELS)
    watch(pair[0], actions(17))
    saved = pair[0].snapshot()
    steps = actions(60, seed=9)
    frames, blanks = watch(pair[0], steps)
    pair[1].open_level(0, 7)
    pair[1].restore(saved[::-1])
    again, blanks_again = watch(pair[1], steps[:, ::-1])
    assert blanks.any()
    assert np.array_equal(blanks, blanks_again[:, ::-1])
    assert np.array_equal(frames, again[:, ::-1])


def test_every_episode_opens_with_a_visible_frame():
    env = BlinkVecEnv(DiagnosticVecEnv("counter", 16, size=16), BlinkConfig(min_clear=1, max_clear=2))
    for _ in range(100):
        _reward, obs, first = env.observe()
        assert not env.info()["blank"][first].any()
        assert obs[first].any(axis=(1, 2, 3)).all()
        env.act(np.zeros(16, int))


def test_seeds_and_levels_matter_and_action_noise_is_another(monkeypatch):
    schedule = blank_schedule(BlinkConfig(), 0, LEVELS, 200)
    assert len({row.tobytes() for row in schedule}) == NUM
    assert not np.array_equal(schedule, blank_schedule(BlinkConfig(), 1, LEVELS, 200))
    monkeypatch.setattr(blink, "_REPEAT", 0)  # the first repeat of the action noise
    assert not np.array_equal(schedule, blank_schedule(BlinkConfig(), 0, LEVELS, 200))


def test_it_is_a_vecenv_and_forwards_the_rest(pair):
    env = pair[0]
    assert isinstance(env, VecEnv)
    assert env.action_names == env.inner.action_names
    assert env.timeout == 1000
    env.open_level(3, 42)
    env.queue_level(3, 43)
    assert env.info()["level_seed"][3] == 42
    assert env.episode_step[3] == 0
    with pytest.raises(AttributeError, match="no_such_thing"):
        env.no_such_thing  # noqa: B018


@pytest.mark.parametrize("wrong", [{"min_blank": 0}, {"max_blank": 3}, {"min_clear": 0}, {"max_clear": 5}])
def test_impossible_ranges_are_refused(wrong):
    with pytest.raises(ValueError, match="need 1 <="):
        BlinkConfig(**wrong)
