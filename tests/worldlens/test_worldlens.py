"""The notebook facade: every verb against the function it stands for, and what objects print."""

import numpy as np
import pytest
import torch

import worldlens as wl
from common.errors import UsageError
from interpret.forks.fork_points import recording_seed
from tests.scripts.test_record import models, store  # noqa: F401

STEPS = 6


@pytest.fixture(scope="module")
def agent(models):
    return wl.load_agent(models[0])


@pytest.fixture(scope="module")
def simulator():
    return wl.load_simulator("coinrun")


@pytest.fixture(scope="module")
def points(store):
    return wl.fork_points(wl.Rollouts.open(store.path), [0, 1, 2], [4, 5, 6])


def frames(rollouts, episode: int = 0) -> torch.Tensor:
    return torch.from_numpy(rollouts.episode(episode)["obs"])[:, None]


def test_every_shipped_name_loads():
    assert {name: wl.load_agent(name).num_actions for name in wl.SHIPPED_AGENTS} == dict.fromkeys(
        wl.SHIPPED_AGENTS, 15
    )
    assert all(path.is_file() for path in wl.SHIPPED_SIMULATORS.values())


@pytest.mark.parametrize("name", wl.SHIPPED_DTS)
def test_a_shipped_decision_transformer_acts_on_the_features_of_its_agent(name):
    policy = wl.load_dt(name)
    assert policy.model.config.conditioned == (name == "coinrun")
    assert policy.target_return == 10.0
    assert wl.load_dt(name, target_return=3.0).target_return == 3.0
    obs = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    first, none = torch.ones(2, dtype=torch.bool), torch.zeros(2)
    logits, _ = policy.heads(policy.advance(obs, policy.initial_state(2), first, none))
    assert logits.shape == (2, 15)
    torch.testing.assert_close(policy.model.embed.state.encoder(obs), wl.load_agent("coinrun").encoder(obs))


@pytest.mark.parametrize("load", [wl.load_agent, wl.load_simulator, wl.load_dt])
def test_an_unknown_name_lists_the_known_ones(load):
    with pytest.raises(UsageError, match="expected a checkpoint file or one of coinrun"):
        load("pong")


def test_the_cache_is_what_the_agent_computed(agent, store):
    rollouts = wl.Rollouts.open(store.path)
    output, cache = wl.run_with_cache(agent, frames(rollouts), ["encoder", "core.cell"])
    recorded = torch.from_numpy(rollouts.episode(0)["hidden"])[1:, None]
    torch.testing.assert_close(output.hidden, recorded, rtol=0, atol=1e-4)
    torch.testing.assert_close(cache["core.cell"], output.hidden)
    torch.testing.assert_close(cache["encoder"][:, 0], agent.encoder(frames(rollouts)[:, 0]))


def test_a_reset_and_a_start_state_change_the_states_after_them(agent, store):
    obs = frames(wl.Rollouts.open(store.path))
    plain, _ = wl.run_with_cache(agent, obs, ["core.cell"])
    first = torch.zeros(obs.shape[:2], dtype=torch.bool)
    first[3] = True
    reset, _ = wl.run_with_cache(agent, obs, ["core.cell"], first)
    assert torch.equal(reset.hidden[:3], plain.hidden[:3])
    assert not torch.equal(reset.hidden[3], plain.hidden[3])
    later, _ = wl.run_with_cache(agent, obs[3:], ["core.cell"], state=plain.hidden[2])
    torch.testing.assert_close(later.hidden, plain.hidden[3:])


def test_an_edit_reaches_the_heads(agent, store):
    obs = frames(wl.Rollouts.open(store.path))
    output = wl.run_with_hooks(agent, obs, {"core.cell": lambda value, rows: torch.zeros_like(value)})
    assert torch.equal(output.hidden, torch.zeros_like(output.hidden))
    torch.testing.assert_close(output.logits, agent.policy_head.bias.expand_as(output.logits))


def test_a_fork_with_the_recorded_noise_repeats_the_recording(agent, store, points):
    rollouts = wl.Rollouts.open(store.path)
    segment = wl.fork(rollouts, points, agent, STEPS)
    for i, (episode, step) in enumerate(zip(points.episode, points.step)):
        recorded = rollouts.episode(episode)["action"][step : step + STEPS]
        np.testing.assert_array_equal(segment.action[: len(recorded), i], recorded)
    other = wl.fork(rollouts, points, agent, STEPS, draw=1)
    assert not torch.equal(other.action, segment.action)


def test_given_actions_are_taken_in_both_worlds(agent, simulator, store, points):
    actions = np.full((STEPS, len(points)), 7)
    real = wl.fork(wl.Rollouts.open(store.path), points, agent, STEPS, actions)
    simulated = wl.simulate(simulator, points, STEPS, actions=actions, stop_at_end=False)
    assert (real.action[real.mask] == 7).all()
    assert (simulated.action == 7).all()


def test_a_simulation_depends_on_start_seed_and_draw(simulator, store, points):
    seed = recording_seed(wl.Rollouts.open(store.path))
    segment = wl.simulate(simulator, points, STEPS, seed=seed)
    again = wl.simulate(simulator, points, STEPS, seed=seed)
    assert torch.equal(segment.obs, again.obs)
    assert not torch.equal(segment.obs, wl.simulate(simulator, points, STEPS, seed=seed, draw=1).obs)
    assert not torch.equal(segment.obs, wl.simulate(simulator, points, STEPS, seed=seed + 1).obs)


def test_frames_latents_and_numbers_are_starts_too(simulator, points):
    from_frames = wl.simulate(simulator, torch.from_numpy(points.frames), 2)
    assert from_frames.obs.shape == (2, len(points), 64, 64, 3)
    latent = from_frames.extra["latent"]
    assert torch.equal(wl.simulate(simulator, latent, 2).extra["latent"], latent)
    drawn = wl.simulate(simulator, 4, 2)
    assert drawn.obs.shape[1] == 4
    assert not torch.equal(drawn.extra["latent"], wl.simulate(simulator, 4, 2, seed=1).extra["latent"])


def test_a_start_of_another_shape_says_what_is_expected(simulator):
    with pytest.raises(UsageError, match=r"expected fork points, frames \[3, B, 64, 64, 3\]"):
        wl.simulate(simulator, torch.zeros(2, 3, 4))


def test_objects_say_what_they_are(agent, simulator, store, points):
    rollouts = wl.Rollouts.open(store.path)
    directions = wl.Directions(torch.eye(2, 8), torch.zeros(2), torch.eye(8, 2), torch.zeros(8), ("a", "b"))
    shown = [repr(x) for x in (agent, simulator, rollouts, points, directions, wl.simulate(simulator, 2, 3))]
    assert all("\n" not in text for text in shown)
    assert "parameters" in shown[0]
    assert "with its own agent" in shown[1]
    assert f"{len(rollouts):,} episodes" in shown[2]
    assert "ForkPoints(3 from " in shown[3]
    assert "Directions(2 of width 8" in shown[4]
    assert "Segment(T=3, B=2" in shown[5]
