"""Behaviours act by the distribution they state and leave the agent's computation unchanged."""

import numpy as np
import pytest
import torch

from agents.behaviours import BEHAVIOURS, RandomPolicy, check_behaviour, keep_top, make_behaviour
from agents.check_policy import check_policy
from common.noise import gumbel_noise
from common.runs import UsageError
from envs.procgen import action_space
from envs.vecenv import ActionSpace

ACTIONS = action_space("coinrun")
LOGITS = torch.tensor([[0.5, -1.0, 3.0, 0.0, -4.0, 2.0, 1.0, -2.0, 0.2, 5.0, 0.0, -6.0, 1.1, 1.7, 2.9]])


class Constant:
    """An agent whose logits are LOGITS whatever it sees; its state counts the frames."""

    num_actions = 15

    def initial_state(self, n, target_return=None):
        return torch.zeros(n, 1)

    def advance(self, obs, state, first, reward):
        return torch.where(first[:, None], 0.0, state) + 1

    def heads(self, state):
        return LOGITS.expand(len(state), -1), state[:, 0]

    def choose(self, logits, noise):
        return (logits + noise).argmax(-1)

    def log_prob(self, logits, action):
        return torch.log_softmax(logits, -1).gather(-1, action[:, None])[:, 0]

    def hidden(self, state):
        return state


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


def expected(name):
    """Each behaviour's action probabilities, worked out here with numpy."""
    x = LOGITS[0].numpy().astype(float)
    if name == "seed-noise":  # the recording noise as the study describes it, in CoinRun's own numbers
        x = np.clip(0.7 * x, -1.8, 0.8)
        x[9:15], x[7] = -3.0, 0.1
        return softmax(x)
    if name == "top-k":
        return np.where(x >= np.sort(x)[-4], np.exp(x), 0) / np.exp(x)[x >= np.sort(x)[-4]].sum()
    return {
        "agent": softmax(x),
        "temperature": softmax(x / 0.5),
        "greedy": np.eye(15)[9],
        "epsilon-greedy": 0.7 * np.eye(15)[9] + 0.3 / 15,
        "random": np.full(15, 1 / 15),
    }[name]


def behave(name):
    return make_behaviour(
        Constant(),
        name,
        **{
            "temperature": {"temperature": 0.5},
            "top-k": {"top_k": 4},
            "epsilon-greedy": {"epsilon": 0.3},
        }.get(name, {}),
        actions=ACTIONS,
    )


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_log_prob_is_the_behaviours(name):
    given = behave(name).log_prob(LOGITS.expand(15, -1), torch.arange(15)).exp()
    np.testing.assert_allclose(given.numpy(), expected(name), atol=1e-6)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_actions_are_drawn_so(name):
    noise = torch.from_numpy(gumbel_noise(1, 2, 3, np.arange(20_000), 15))
    share = np.bincount(behave(name).choose(LOGITS.expand(20_000, -1), noise).numpy(), minlength=15) / 20_000
    np.testing.assert_allclose(share, expected(name), atol=0.015)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_what_the_agent_computes_is_left_alone(name):
    policy = behave(name)
    state = policy.advance(None, policy.initial_state(2), torch.tensor([True, False]), None)
    logits, value = policy.heads(state)
    assert torch.equal(logits, LOGITS.expand(2, -1))
    assert value.tolist() == [1.0, 1.0]
    assert torch.equal(policy.hidden(state), state)


def test_seed_noise_reads_the_action_space():
    """The no-op's twin is switched off, whichever of the two has the lower number; another action's twin is
    not.
    """
    shuffled = ActionSpace(
        ("right", "wait", "left", "none", "leftwards"), noop=3, effect_classes=(0, 1, 2, 1, 2)
    )
    reshaped = make_behaviour(Constant(), "seed-noise", actions=shuffled).reshape(
        torch.tensor([[9.0, 9.0, -9.0, 1.0, 9.0]])
    )
    assert reshaped[0].tolist() == pytest.approx([0.1, -3.0, -1.8, 0.7, 0.8])


def test_keep_top_keeps_exactly_k_of_equals():
    assert torch.isfinite(keep_top(torch.zeros(1, 5), 2)).sum() == 2


def test_random_needs_no_agent():
    policy = make_behaviour(None, "random", actions=ACTIONS)
    assert isinstance(policy, RandomPolicy)
    assert policy.initial_state(3).shape == (3, 1)
    logits, value = policy.heads(policy.initial_state(3))
    assert value is None
    assert not logits.any()
    check_policy(policy, (64, 64, 3), differentiable=False)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wild", {}, "unknown behaviour"),
        ("temperature", {"temperature": 0.0}, "above zero"),
        ("temperature", {"temperature": float("nan")}, "above zero"),
        ("greedy", {"temperature": 3.0}, "--temperature has no effect on the behaviour 'greedy'"),
        ("temperature", {"top_k": 2}, "--top_k has no effect on the behaviour 'temperature'"),
        ("top-k", {"top_k": 0}, "top_k"),
        ("top-k", {"top_k": 16}, "top_k"),
        ("greedy", {"epsilon": 0.2}, "--epsilon has no effect on the behaviour 'greedy'"),
        ("epsilon-greedy", {"epsilon": 1.5}, "must be a probability, from 0 to 1, not 1.5"),
        ("seed-noise", {}, "right"),
    ],
)
def test_bad_input_is_named(name, options, message):
    with pytest.raises(UsageError, match=message):
        make_behaviour(Constant(), name, **options)


def test_an_unknown_behaviour_is_answered_with_all_that_there_are():
    with pytest.raises(UsageError, match=f"choose one of: {', '.join(BEHAVIOURS)}$"):
        check_behaviour("wild")
    with pytest.raises(UsageError, match="seed-noise, mixture$"):
        check_behaviour("wild", besides=("mixture",))
    check_behaviour("mixture", besides=("mixture",))


def test_without_an_agent_only_random():
    with pytest.raises(UsageError, match="needs an agent"):
        make_behaviour(None, "greedy", actions=ACTIONS)
