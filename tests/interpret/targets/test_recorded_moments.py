"""Recorded moments: what the agent did there, and the nearest one, against brute force."""

import numpy as np
import pytest
import torch

from generative.model.world_model import Latent
from interpret.attribution.functions import known_functions
from interpret.targets.recorded_moments import (
    moment_windows,
    nearest_latents,
    nearest_states,
    read_moments,
)
from interpret.targets.target_rollouts import Reading
from interpret.targets.targets import choose_targets
from tests.helpers.toy_simulator import NAMES, toy_simulator, toy_store

STEPS = 4
pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def simulator():
    return toy_simulator()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("moments") / "store", 16)


@pytest.fixture(scope="module")
def moments(simulator, store):
    k = simulator.model.config.num_initializing_steps
    windows = store.windows(k - 1 + STEPS, pad="right", min_steps=k)
    return read_moments(simulator, moment_windows(windows, 40, 0), 16, torch.device("cpu"))


def target(name: str):
    from generative.action_space import action_space_of

    actions = action_space_of({"action_names": NAMES, "noop": 4, "env": {"env_name": "toy"}})
    return choose_targets([name], known_functions(actions, {}, 8), {})[0]


def recorded(store, moments, i: int, name: str) -> np.ndarray:
    """A recorded column from a moment on."""
    return store.episode(moments.episode[i])[name][moments.step[i] :]


def test_values_are_those_of_the_recording_and_missing_after_its_end(store, moments):
    read = moments.values(target("increase_value"), Reading(2, 3))
    lengths = [len(recorded(store, moments, i, "value")) for i in range(len(moments))]
    assert min(lengths) < 3 < max(lengths)
    for i, length in enumerate(lengths):
        if length > 2:
            np.testing.assert_allclose(read[i], recorded(store, moments, i, "value")[2], rtol=1e-3, atol=1e-4)
        else:
            assert np.isnan(read[i])


def test_a_function_that_needs_the_next_frame_and_a_sum_read_what_they_need(store, moments):
    delta = moments.values(target("increase_value_delta"), Reading(1, 3))
    summed = moments.values(target("decrease_value"), Reading("sum", 4))
    for i in range(len(moments)):
        value = recorded(store, moments, i, "value")
        if len(value) > 2:
            np.testing.assert_allclose(delta[i], value[2] - value[1], rtol=1e-3, atol=1e-4)
        if len(value) > 3:
            np.testing.assert_allclose(summed[i], value[:4].sum(), rtol=1e-3, atol=1e-3)
        assert np.isnan(delta[i]) == (len(value) <= 2)
        assert np.isnan(summed[i]) == (len(value) <= 3)


def test_hidden_states_and_actions_are_those_of_the_recording(store, moments):
    hidden = moments.hidden_at(Reading(1, 2))
    taken = moments.values(target("increase_action"), Reading(0, 1))
    for i in range(len(moments)):
        after = recorded(store, moments, i, "hidden")[1:]
        if len(after) > 1:
            np.testing.assert_allclose(hidden[i], after[1], rtol=1e-3, atol=1e-4)
        else:
            assert np.isnan(hidden[i]).all()
        logits = torch.from_numpy(recorded(store, moments, i, "logits")[0])
        action = recorded(store, moments, i, "action")[0]
        np.testing.assert_allclose(taken[i], logits.log_softmax(-1)[action], rtol=1e-3, atol=1e-3)


def test_what_only_the_simulator_predicts_has_no_real_value(moments):
    assert moments.values(target("increase_done"), Reading(0, 1)) is None
    assert moments.values(target("increase_reward"), Reading(0, 1)) is None


def test_latents_are_those_of_the_frames_up_to_the_moment(simulator, store, moments):
    k = simulator.model.config.num_initializing_steps
    for i in (0, 7):
        obs = store.episode(moments.episode[i])["obs"][moments.step[i] - k + 1 : moments.step[i] + 1]
        with torch.no_grad():
            latent = simulator.encode(torch.from_numpy(obs)[:, None])
        torch.testing.assert_close(moments.latent.mean[i], latent.mean[0], rtol=1e-3, atol=1e-4)


def clouds():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(60, 3)) * [1, 10, 0.1]
    states[5] = np.nan
    return rng.normal(size=(7, 3)) * [1, 10, 0.1], states, np.arange(60) // 3


def test_the_nearest_state_is_found_on_another_level():
    points, states, levels = clouds()
    points[0] = states[30] + 1e-4
    mine = np.array([10, -1, -1, 3, 4, 5, 6])  # state 30 is of level 10
    found = nearest_states(points, mine, states, levels)
    known = np.isfinite(states).all(1)
    scaled = states / states[known].std(0)
    for i, point in enumerate(points / states[known].std(0)):
        distances = np.linalg.norm(scaled - point, axis=1)
        distances[~known | (levels == mine[i])] = np.inf
        assert found.moment[i] == distances.argmin()
        np.testing.assert_allclose(found.distance[i], distances.min(), rtol=1e-3)
    assert found.moment[0] != 30


def test_percentiles_compare_with_how_near_recorded_states_are():
    _, states, levels = clouds()
    known = np.flatnonzero(np.isfinite(states).all(1))
    own = nearest_states(states[known], levels[known], states, levels)
    uniform = 100 * np.arange(59) / 59
    assert np.abs(np.sort(own.percentile) - uniform).max() < 4  # two states may be each other's nearest
    far = nearest_states(np.full((1, 3), 1e3), np.array([-1]), states, levels)
    assert far.percentile == 100
    same = nearest_states(states[known][:1], np.array([-1]), states, levels)
    assert same.percentile == 0


def test_the_nearest_latent_is_the_likeliest_posterior():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(50, 6, generator=generator)
    log_variance = torch.randn(50, 6, generator=generator)
    levels = np.arange(50) // 2
    z = torch.randn(9, 6, generator=generator)
    found = nearest_latents(z.numpy(), np.arange(9), Latent(mean, log_variance), levels, 0)
    density = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(z[:, None]).sum(-1)
    density[torch.from_numpy(np.arange(9)[:, None] == levels)] = -torch.inf
    assert found.moment.tolist() == density.argmax(1).tolist()
    far = nearest_latents(np.full((1, 6), 50.0), np.array([-1]), Latent(mean, log_variance), levels, 0)
    assert far.percentile == 100


def test_on_the_sphere_the_nearest_latent_is_the_nearest_point():
    mean = torch.nn.functional.normalize(
        torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), dim=1
    )
    z = torch.nn.functional.normalize(mean[3:4] + 0.01, dim=1)
    found = nearest_latents(z.numpy(), np.array([-1]), Latent(mean), np.arange(20), 0)
    assert found.moment == 3
