"""Gradients of the value with respect to pixels: against finite differences, on a planted value, and as a
command."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from agents.actor_critic import save_agent
from analysis.frame_gradients import Args, choose_states, coarse, correlation, main, summary
from common.checkpoints import load_checkpoint
from common.precision import set_precision
from common.runs import UsageError, file_id
from generative.model.world_model import WorldModel
from generative.model.world_model_file import save_world_model
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from interpret.attribution.frame_gradients import (
    brighten_patches,
    direct_value,
    frame_gradient,
    measured_change,
    predicted_changes,
    randomised_agent,
    rank_correlation,
    sample_patches,
    simulated_value,
)
from rollouts.store import Rollouts
from tests.helpers.refusal_checks import HUGE, refused_at_once
from tests.helpers.toy_world import NOOP, toy_agent, toy_config, toy_episode, with_agent, write_toy_store

PATCH = 4
STEP = 0.005


@pytest.fixture(scope="module")
def agent():
    return toy_agent()


def frames_like(agent, count=1):
    size = agent.config.obs_shape[0]
    return torch.rand(count, size, size, 3, generator=torch.Generator().manual_seed(0))


def test_a_planted_value_is_found_pixel_by_pixel():
    weights = torch.randn(1, 8, 8, 3, generator=torch.Generator().manual_seed(1))

    def value(frames):
        return (weights * frames).sum((1, 2, 3))

    frames = torch.rand(1, 8, 8, 3)
    torch.testing.assert_close(frame_gradient(value, frames), weights)
    corners = sample_patches(4, 8, PATCH, np.random.default_rng(0))
    predicted = predicted_changes(weights, corners[None], PATCH, 0.1)[0]
    measured = measured_change(value, frames.expand(4, -1, -1, -1), corners, PATCH, 0.1)
    torch.testing.assert_close(predicted, measured, rtol=1e-3, atol=1e-4)


def test_the_agents_gradient_agrees_with_finite_differences(agent):
    frames = frames_like(agent)
    hidden = torch.zeros(1, 8)
    corners = sample_patches(9, frames.shape[1], PATCH, np.random.default_rng(0))
    gradient = frame_gradient(direct_value(agent, hidden), frames)
    predicted = predicted_changes(gradient, corners[None], PATCH, STEP)[0]
    many = frames.expand(len(corners), -1, -1, -1)
    measured = measured_change(
        direct_value(agent, hidden.expand(len(corners), -1)), many, corners, PATCH, STEP
    )
    assert np.corrcoef(predicted, measured)[0, 1] > 0.9


def test_the_simulated_value_is_that_of_a_rollout_and_its_gradient_reaches_the_frame(agent):
    torch.manual_seed(0)
    simulator = Simulator(WorldModel(toy_config()).requires_grad_(False), agent, NOOP)
    k = simulator.model.config.num_initializing_steps
    frames = torch.stack([frames_like(agent, 2)] * k)
    keys = NoiseKeys(0, np.arange(2))
    actions = torch.zeros(2, 2, dtype=torch.int64)
    value = simulated_value(simulator, frames[:-1], actions, keys)
    latent = simulator.encode(frames)
    z = latent.sample(keys.normal(latent.mean.shape[1], latent.mean))
    run = simulator.simulate(z, 3, keys, actions=torch.zeros(3, 2, dtype=torch.int64), ends=False)
    with torch.no_grad():
        torch.testing.assert_close(value(frames[-1]), run.value[2])
    assert (frame_gradient(value, frames[-1]).flatten(1).norm(dim=1) > 0).all()


def test_patches_do_not_overlap_and_only_they_change():
    corners = sample_patches(16, 16, PATCH, np.random.default_rng(0))
    assert len({tuple(corner) for corner in corners}) == 16
    frames = torch.zeros(2, 16, 16, 3)
    changed = brighten_patches(frames, corners[:2], PATCH, 0.5)
    assert (changed.sum((1, 2, 3)) == 0.5 * PATCH * PATCH * 3).all()
    assert (frames == 0).all()


def test_randomised_agents_differ_and_leave_the_global_seed_unchanged(agent):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    other = randomised_agent(agent, 0)
    assert torch.equal(torch.rand(1), expected)
    assert not torch.equal(other.value_head.weight, agent.value_head.weight)
    assert torch.equal(other.value_head.weight, randomised_agent(agent, 0).value_head.weight)


def test_a_randomised_agent_computes_in_the_same_precision():
    agent = toy_agent()
    set_precision("bf16", agent)
    assert randomised_agent(agent, 0).encoder.precision == "bf16"
    set_precision("fp32", agent)
    assert randomised_agent(agent, 0).encoder.precision == "fp32"


def test_correlations_are_those_of_numpy_and_scipy():
    a, b = np.random.default_rng(0).normal(size=(2, 3, 20))
    np.testing.assert_allclose(correlation(a, b), [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b)])
    np.testing.assert_allclose(rank_correlation(a, b), [spearmanr(x, y)[0] for x, y in zip(a, b)])
    assert np.isnan(correlation(np.ones((1, 5)), b[:1, :5])).all()
    np.testing.assert_allclose(coarse(np.arange(16.0).reshape(1, 4, 4), 2), [[[2.5, 4.5], [10.5, 12.5]]])


@pytest.fixture(scope="module")
def files(tmp_path_factory, agent):
    root = tmp_path_factory.mktemp("gradients")
    save_agent(root / "agent.safetensors", agent, {"env": {}})
    identity = file_id(root / "agent.safetensors")
    torch.manual_seed(0)
    save_world_model(
        root / "model.safetensors", WorldModel(toy_config()), {"agent": {"id": identity}, "noop": NOOP}
    )
    rng = np.random.default_rng(0)
    write_toy_store(
        root / "store",
        [with_agent(toy_episode(rng, 9), agent) for _ in range(6)],
        agent,
        per_level=1,
        policy_id=identity,
    )
    return root


def asked(files, out, **changed):
    small = dict(num_states=3, steps=1, draws=2, num_patches=3, patch=4, out_dir=out)
    return Args(
        files / "model.safetensors", files / "agent.safetensors", files / "store", **(small | changed)
    )


def arrays_of(args):
    directory = (args.out_dir / "frame_gradients_precomp" / "latest").resolve()
    arrays = {name: x.numpy() for name, x in load_checkpoint(directory / "gradients.safetensors")[0].items()}
    return arrays, json.loads((directory / "numbers.json").read_text())


def test_the_command_writes_maps_checks_and_intervals(files, tmp_path):
    args = asked(files, tmp_path)
    main(args)
    arrays, numbers = arrays_of(args)
    assert arrays["map/agent"].shape == arrays["frame"].shape[:3]
    assert len(np.unique(arrays["level"])) == 3
    assert arrays["predicted/simulator"].shape == (3, 3)
    assert np.isfinite(arrays["later"]).all()
    assert (numbers["check/agent"]["n"], numbers["check/agent"]["low"]) == (3, None)  # too few levels
    assert numbers | summary(arrays) == numbers


@pytest.fixture(scope="module")
def usual(files, tmp_path_factory):
    args = asked(files, tmp_path_factory.mktemp("usual"))
    main(args)
    return arrays_of(args)[0]


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"num_states": 2}, "frame"),
        ({"steps": 2}, "later"),
        ({"draws": 3}, "later"),
        ({"num_patches": 4}, "measured/agent"),
        ({"patch": 2}, "measured/agent"),
        ({"change": 0.01}, "predicted/agent"),
        ({"seed": 1}, "frame"),
    ],
)
def test_every_flag_changes_what_it_names(files, tmp_path, usual, changed, name):
    other = asked(files, tmp_path, **changed)
    main(other)
    assert not np.array_equal(usual[name], arrays_of(other)[0][name])


def test_invalid_numbers_are_refused(files, tmp_path):
    for changed in ({"num_states": 1}, {"steps": 0}, {"change": 0.0}, {"num_patches": 2}):
        with pytest.raises(UsageError, match=f"--{next(iter(changed))}"):
            main(asked(files, tmp_path, **changed))
    refused_at_once(main, asked(files, tmp_path, steps=40), tmp_path, "lower --steps, or record more")
    refused_at_once(
        main,
        asked(files, tmp_path, patch=1000),
        tmp_path,
        "--patch is 1000: a frame of .* pixels has 1 such patch",
    )
    refused_at_once(main, asked(files, tmp_path, draws=HUGE), tmp_path, "--draws.* GiB, and this machine has")


def test_sizes_beyond_the_store_are_lowered_in_one_line(files, tmp_path, caplog):
    wide = asked(files, tmp_path, num_states=10**6, num_patches=10**6, draws=1)
    simulator = load_simulator(wide.world_model_file, wide.agent_file)[0]
    rollouts = Rollouts.open(wide.data_dir)
    found, windows = choose_states(wide, simulator, rollouts)
    side = simulator.model.config.obs_shape[1]
    assert found.num_states == len(windows)
    assert found.num_patches == (side // wide.patch) ** 2
    assert len(caplog.messages) == 1
