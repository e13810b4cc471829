"""Truncated history equals the agent shown its last frames only, and the agent itself if these are all."""

import numpy as np
import pytest
import torch

from agents.actor_critic import ActorCritic
from agents.check_policy import check_policy
from agents.evaluate import evaluate, fixed_jobs
from agents.last_frames import TruncatedHistoryPolicy
from envs.diagnostic_envs import DiagnosticVecEnv
from tests.helpers.tiny_models import SIZE, network, sharpen

STEPS = 9
NUM = 3


def agent_of(core: str) -> ActorCritic:
    torch.manual_seed(3)
    agent = ActorCritic(network(DiagnosticVecEnv("memory", 1, size=SIZE), core)).eval()
    sharpen(agent)
    return agent


def frames(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (STEPS, NUM, SIZE, SIZE, 3), dtype=np.uint8)
    )


def first_at(*begins: tuple[int, int]) -> torch.Tensor:
    """Every slot's episode begins at step 0; further ones at (step, slot)."""
    first = torch.zeros(STEPS, NUM, dtype=torch.bool)
    first[0] = True
    for t, n in begins:
        first[t, n] = True
    return first


def walked(policy, obs: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """The hidden states [T, N, S] after each observation."""
    state = policy.initial_state(NUM)
    found = []
    with torch.inference_mode():
        for frame, opens in zip(obs, first):
            state = policy.advance(frame, state, opens, torch.zeros(NUM))
            found.append(policy.hidden(state))
    return torch.stack(found)


def shown_alone(agent, obs: torch.Tensor, first: torch.Tensor, k: int, start=None) -> torch.Tensor:
    """The slow way: for every step and slot a fresh unroll over the episode's last k frames. start(n, opened,
    begin): the state before.
    """
    found = torch.zeros(STEPS, NUM, agent.core.state_size)
    for t in range(STEPS):
        for n in range(NUM):
            opened = int(first[: t + 1, n].nonzero()[-1])
            begin = max(t + 1 - k, opened)
            state = agent.initial_state(1) if start is None or begin == opened else start(n, opened, begin)
            no = torch.zeros(t + 1 - begin, 1, dtype=torch.bool)
            with torch.inference_mode():
                found[t, n] = (
                    agent.unroll(obs[begin : t + 1, n : n + 1], state, no)[-1, 0] if len(no) else state[0]
                )
    return found


@pytest.mark.parametrize("core", ["gru", "lstm", "none"])
@pytest.mark.parametrize("k", [0, 1, 3, STEPS])
def test_it_is_the_agent_shown_the_last_frames_alone(core, k):
    agent = agent_of(core)
    obs = frames()
    first = first_at((4, 1), (5, 2), (6, 2))
    got = walked(TruncatedHistoryPolicy(agent, k), obs, first)
    assert torch.allclose(got, shown_alone(agent, obs, first, k), atol=1e-5)
    other = shown_alone(agent, obs, first, k + 1)
    assert (core == "none" and k > 0) or k == STEPS or not torch.allclose(got, other, atol=1e-3)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_with_another_past_its_frames_come_after_the_state_that_an_other_episode_had_then(k):
    agent = agent_of("gru")
    obs = frames()
    first = first_at((4, 1))
    # shorter than the run: the last state stands for what comes after
    others = torch.rand(5, 6, agent.core.state_size)

    def start(n, opened, begin):
        return others[int(obs[opened, n].sum()) % 5, min(begin - opened, 5)][None]

    got = walked(TruncatedHistoryPolicy(agent, k, others), obs, first)
    assert torch.allclose(got, shown_alone(agent, obs, first, k, start), atol=1e-5)
    assert not torch.allclose(got, walked(TruncatedHistoryPolicy(agent, k), obs, first), atol=1e-3)


def test_without_memory_nothing_changes_from_one_frame_on_and_with_none_it_is_blind():
    agent = agent_of("none")
    obs = frames()
    first = first_at()
    whole = walked(agent, obs, first)
    others = torch.rand(2, 4, agent.core.state_size)
    for policy in (
        TruncatedHistoryPolicy(agent, 1),
        TruncatedHistoryPolicy(agent, 4),
        TruncatedHistoryPolicy(agent, 1, others),
    ):
        assert torch.equal(walked(policy, obs, first), whole)
    assert torch.equal(
        walked(TruncatedHistoryPolicy(agent, 0), obs, first),
        walked(TruncatedHistoryPolicy(agent, 0), frames(1), first),
    )


@pytest.mark.parametrize("k", [0, 2])
def test_it_keeps_the_policy_protocol(k):
    agent = agent_of("gru")
    if k:
        assert "first_resets" in check_policy(TruncatedHistoryPolicy(agent, k), (SIZE, SIZE, 3))
    policy = TruncatedHistoryPolicy(agent, k)
    logits, value = policy.heads(policy.initial_state(2))
    assert logits.shape == (2, 2)
    assert value.shape == (2,)
    assert torch.equal(
        policy.log_prob(logits, torch.tensor([0, 1])), agent.log_prob(logits, torch.tensor([0, 1]))
    )


def test_played_to_the_end_it_is_the_whole_agent_once_it_remembers_every_frame_and_not_before():
    agent = agent_of("gru")
    jobs = fixed_jobs(0, 24, 24)

    def of(policy):
        logits = []
        played = evaluate(
            policy,
            DiagnosticVecEnv("memory", 8, size=SIZE),
            jobs,
            0,
            watch=lambda step: logits.append(step.logits),
        )
        return played.total_reward, np.concatenate(logits)

    (reward, logits), (rewards, all_frames), (_, short) = (
        of(policy) for policy in (agent, TruncatedHistoryPolicy(agent, 12), TruncatedHistoryPolicy(agent, 1))
    )
    assert np.array_equal(reward, rewards)
    assert len(set(reward)) > 1
    assert np.allclose(logits, all_frames, atol=1e-4)
    assert not np.allclose(logits[8:16], short[8:16], atol=1e-2)  # the second step of the first episodes
