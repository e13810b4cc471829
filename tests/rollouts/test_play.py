"""The loop of recording and evaluation: every episode to its end in any slot, states and noise in step."""

import numpy as np
import pytest
import torch

from agents.actor_critic import ActorCritic
from agents.behaviours import make_behaviour
from common.noise import gumbel_noise
from envs.diagnostic_envs import DiagnosticVecEnv
from rollouts.play import EpisodeSpec, play
from rollouts.record import Actor, play_shard
from tests.helpers.tiny_models import SIZE, network, sharpen

JOBS = [EpisodeSpec(level, repeat) for level in (5, 900, 17) for repeat in range(3)]


@pytest.fixture(scope="module")
def agent():
    torch.manual_seed(0)
    agent = ActorCritic(network(DiagnosticVecEnv("memory", 1, size=SIZE))).eval()
    sharpen(agent)
    return agent


def record(agent, num, jobs=JOBS, seed=0, name="memory"):
    """Steps and episodes of a shard on a probe, played in `num` slots."""
    return play_shard(DiagnosticVecEnv(name, num, size=SIZE), Actor(agent, "agent", "x"), jobs, seed)


def test_every_job_is_played_to_its_end_and_once(agent):
    for num in (1, 2, 4, 20):
        seen = [
            list(zip(p.job, p.t, p.ended))
            for p in play(DiagnosticVecEnv("memory", num, size=SIZE), agent, JOBS, 0)
        ]
        assert sorted(sum(seen, [])) == [(job, t, t == 4) for job in range(len(JOBS)) for t in range(5)]


def test_episodes_do_not_depend_on_slots_or_company(agent):
    (alone, table), (crowd, other) = record(agent, 1), record(agent, 4)
    for name in ("obs", "action", "reward", "terminated"):
        np.testing.assert_array_equal(alone[name], crowd[name])
    for name in ("hidden", "logits", "value", "log_prob"):
        np.testing.assert_allclose(alone[name], crowd[name], atol=1e-5)
    np.testing.assert_array_equal(table["complete"], other["complete"])
    turned, _ = record(agent, 4, JOBS[::-1])
    np.testing.assert_array_equal(turned["obs"].reshape(9, 5, -1)[::-1], alone["obs"].reshape(9, 5, -1))


def test_the_level_is_the_jobs(agent):
    env = DiagnosticVecEnv("memory", 1, size=SIZE)
    steps, table = record(agent, 2)
    for i, job in enumerate(JOBS):
        env.open_level(0, job.level)
        np.testing.assert_array_equal(steps["obs"][5 * i], env.observe()[1][0])
    assert table["level_seed"].tolist() == [job.level for job in JOBS]


def unrolled(agent, steps, first_at=0):
    """States after each step, logits and values recomputed from the stored frames, given a reset at step
    `first_at` of each episode.
    """
    obs = torch.from_numpy(steps["obs"].reshape(9, 5, *steps["obs"].shape[1:])).transpose(0, 1)
    first = torch.zeros(5, 9, dtype=torch.bool)
    first[first_at] = True
    with torch.no_grad():
        after = agent.unroll(obs, agent.initial_state(9), first)
        logits, value = agent.heads(after)
    return [x.transpose(0, 1).reshape(45, *x.shape[2:]).numpy() for x in (after, logits, value)]


def test_states_and_outputs_are_those_of_the_stored_frames(agent):
    steps, table = record(agent, 4)
    after, logits, value = unrolled(agent, steps)
    np.testing.assert_allclose(table["final_hidden"], after[4::5], atol=1e-5)
    np.testing.assert_allclose(
        steps["hidden"].reshape(9, 5, -1)[:, 1:], after.reshape(9, 5, -1)[:, :-1], atol=1e-5
    )
    assert not steps["hidden"][::5].any()
    np.testing.assert_allclose(steps["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(steps["value"], value, atol=1e-5)
    late = unrolled(agent, steps, first_at=1)
    assert np.abs(late[1] - steps["logits"]).max() > 0.01  # a reset one step late would show


def test_actions_are_the_gumbel_draw_and_log_probs_its_density(agent):
    steps, _ = record(agent, 4, seed=3)
    level, repeat = np.array(JOBS).repeat(5, axis=0).T
    noise = gumbel_noise(3, level, repeat, np.tile(np.arange(5), 9), 2)
    np.testing.assert_array_equal(steps["action"], (steps["logits"] + noise).argmax(-1))
    shifted = steps["logits"] - np.log(np.exp(steps["logits"]).sum(-1, keepdims=True))
    np.testing.assert_allclose(steps["log_prob"], shifted[np.arange(45), steps["action"]], atol=1e-5)
    assert not np.array_equal(steps["action"], record(agent, 4, seed=4)[0]["action"])


def test_logits_are_the_agents_and_log_prob_the_behaviours(agent):
    hot = make_behaviour(agent, "temperature", temperature=5.0)
    steps, _ = play_shard(DiagnosticVecEnv("memory", 4, size=SIZE), Actor(hot, "temperature", "x"), JOBS, 0)
    np.testing.assert_allclose(steps["logits"], unrolled(agent, steps)[1], atol=1e-5)
    own, hot_own = (
        np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True)) for x in (steps["logits"], steps["logits"] / 5)
    )
    rows = np.arange(45), steps["action"]
    np.testing.assert_allclose(steps["log_prob"], hot_own[rows], atol=1e-5)
    assert np.abs(steps["log_prob"] - own[rows]).max() > 0.01


def test_rewards_are_raw_and_belong_to_the_action(agent):
    steps, table = record(agent, 4)
    # the first frame's left band: symbol 0
    shown = steps["obs"].reshape(9, 5, SIZE, SIZE, 3)[:, 0, :, : SIZE // 3].reshape(9, -1).any(-1)
    np.testing.assert_array_equal(
        steps["reward"].reshape(9, 5)[:, -1], np.where(steps["action"][4::5] == np.where(shown, 0, 1), 1, -1)
    )
    assert not steps["reward"].reshape(9, 5)[:, :-1].any()
    np.testing.assert_array_equal(table["complete"], steps["reward"][4::5] > 0)


def test_a_policy_without_value_stores_nan(agent):
    env = DiagnosticVecEnv("memory", 2, size=SIZE)
    steps, table = play_shard(
        env, Actor(make_behaviour(None, "random", actions=_two_actions()), "random", "none"), JOBS, 0
    )
    assert np.isnan(steps["value"]).all()
    assert table["final_hidden"].shape == (9, 1)


def _two_actions():
    from envs.vecenv import ActionSpace

    return ActionSpace(("zero", "one"), 0, (0, 1))
