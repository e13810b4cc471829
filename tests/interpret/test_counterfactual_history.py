"""Counterfactual histories are real play, end in the recorded frame bit for bit, and differ in what only
memory holds.
"""

import numpy as np
import pytest
import torch

import interpret.forks.counterfactual_history as pasts_module
from agents.actor_critic import load_agent
from envs.coinrun import WALLS
from envs.procgen_body import parse
from interpret.forks.counterfactual_history import play_counterfactual_history, state_after_history
from rollouts.states import replay_env, replay_states
from rollouts.store import Rollouts
from tests.analysis.memory.test_memory_command import recorded
from tests.helpers.coinrun_runner import save_runner

HISTORY_STEPS = 4
POINTS = 32


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Rollouts:
    path = tmp_path_factory.mktemp("histories")
    return recorded(path / "store", save_runner(path / "agent.safetensors"))


@pytest.fixture(scope="module")
def env(store):
    env = replay_env(store, POINTS)
    yield env
    env.close()


@pytest.fixture(scope="module")
def points(store, env):
    """Snapshots HISTORY_STEPS before each fork point; recorded frames [HISTORY_STEPS + 1, B, ...], actions,
    hidden states.
    """
    episodes = np.resize(np.arange(len(store)), POINTS)
    rng = np.random.default_rng(0)
    at = rng.integers(HISTORY_STEPS, store.episodes["length"][episodes])
    snapshots = replay_states(store, episodes, at - HISTORY_STEPS, env)
    stored = [store.episode(i) for i in episodes]
    window = {
        name: np.stack([one[name][t - HISTORY_STEPS : t + 1] for one, t in zip(stored, at)], 1)
        for name in ("obs", "action", "hidden")
    }
    own = np.array([[parse(one.data).player[name] for name in ("vx", "vy")] for one in snapshots])
    return snapshots, window, own


def drawn(own: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    in_the_air = own[:, 1] != 0
    return np.stack(
        [rng.uniform(-0.5, 0.5, len(own)), own[:, 1] + in_the_air * rng.uniform(-0.5, 0.5, len(own))], 1
    )


def test_with_its_own_velocity_the_history_is_the_recording(env, points):
    snapshots, window, own = points
    found = play_counterfactual_history(env, snapshots, window["action"][:-1].astype(int), own)
    assert found.same.all()
    assert np.array_equal(found.frames, window["obs"])


def test_with_another_velocity_the_last_frame_is_the_same_and_what_came_before_is_not(env, points):
    snapshots, window, own = points
    actions = window["action"][:-1].astype(int)
    found = play_counterfactual_history(env, snapshots, actions, drawn(own))
    real = play_counterfactual_history(env, snapshots, actions, own)
    same = found.same
    assert same.mean() > 0.4
    assert np.array_equal(found.frames[-1, same], window["obs"][-1, same])
    assert (found.frames[:-1, same] != window["obs"][:-1, same]).any((0, 2, 3, 4)).mean() > 0.9
    apart = np.linalg.norm(found.velocity - real.velocity, axis=1)[same]
    assert np.quantile(apart, 0.25) > 0.02
    assert apart.max() > 0.3


def test_a_history_without_the_shift_ends_elsewhere_and_is_rejected(env, points, monkeypatch):
    snapshots, window, own = points
    monkeypatch.setattr(pasts_module, "_moved", lambda state, right, up: state)
    found = play_counterfactual_history(env, snapshots, window["action"][:-1].astype(int), drawn(own))
    assert found.same.mean() < 0.2


def test_no_history_starts_in_a_wall_or_outside_the_level(points):
    for snapshot in points[0][:8]:
        state = parse(snapshot.data)
        row, column = np.argwhere(np.isin(state.grid, WALLS))[0]
        into_wall = column + 0.5 - state.player["x"], row + 0.5 - state.player["y"]
        assert pasts_module._moved(state, *into_wall) is None
        assert pasts_module._moved(state, -100, 0) is None
        assert pasts_module._moved(state, 0, 1000) is None
        stays = pasts_module._moved(state, 0, 0)
        assert stays is not None
        assert stays.player["x"] == state.player["x"]


def test_only_memory_distinguishes_the_histories(store, env, points):
    snapshots, window, own = points
    found = play_counterfactual_history(env, snapshots, window["action"][:-1].astype(int), drawn(own))
    agent = load_agent(store.path.parent / "agent.safetensors")[0]
    hidden = torch.from_numpy(window["hidden"][0])
    real, other = (
        state_after_history(agent, hidden, frames)[found.same] for frames in (window["obs"], found.frames)
    )
    assert not torch.allclose(real, other, atol=1e-3)
    last = [
        state_after_history(agent, hidden, frames[-1:])[found.same]
        for frames in (window["obs"], found.frames)
    ]
    assert torch.equal(*last)
    stored = store.episode(0)["hidden"]
    again = state_after_history(agent, torch.from_numpy(stored[:1]), store.episode(0)["obs"][:3, None])
    assert torch.allclose(again, torch.from_numpy(stored[3:4]), atol=1e-5)
