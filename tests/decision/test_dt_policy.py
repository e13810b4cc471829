"""Acting step by step with cached keys and values equals recomputing the whole episode."""

import pytest
import torch

from agents.behaviours import make_behaviour
from agents.check_policy import check_policy
from common.policy import step, with_action
from decision.policy import DTPolicy
from decision.windows import DTBatch
from tests.helpers.decision.toy_decision import ACTIONS, SIZE, random_batch, small_model

N = 3
STEPS = 26


def act(policy, frames, actions, rewards, first=None):
    """Logits [N, T, A] of a policy that sees frames [N, T, ...] and takes the given actions."""
    state, logits = policy.initial_state(N), []
    for t in range(frames.shape[1]):
        opens = torch.full((N,), t == 0) if first is None else first[:, t]
        came = rewards[:, t - 1] if t else torch.zeros(N)
        with torch.no_grad():
            state = policy.advance(frames[:, t], state, opens, came)
            logits.append(policy.heads(state)[0])
        state = with_action(policy, state, actions[:, t])
    return torch.stack(logits, 1)


def episode(seed=0):
    frames = random_batch(N, STEPS, seed, frames=True).state
    g = torch.Generator().manual_seed(seed)
    actions = torch.randint(0, ACTIONS, (N, STEPS), generator=g)
    rewards = torch.randint(0, 4, (N, STEPS), generator=g).float()
    return frames, actions, rewards


def recomputed(model, target, frames, actions, rewards):
    """Logits of the whole episode in one forward pass."""
    gone = rewards.cumsum(1) - rewards
    time = torch.arange(frames.shape[1]).expand(N, -1)
    mask = torch.ones_like(time, dtype=torch.bool)
    with torch.no_grad():
        return model(DTBatch(frames, actions, target - gone, time, mask))


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(model_type="clone_transformer"),
        dict(context_length=1),
        dict(context_length=7, time_embedding="linear"),
        dict(context_length=30),
        dict(max_timestep=5),
    ],
)
def test_the_cache_is_exact_far_beyond_the_context(options):
    model = small_model(**options)
    played = episode()
    found = act(DTPolicy(model, 5.0), *played)
    torch.testing.assert_close(found, recomputed(model, 5.0, *played), rtol=1e-4, atol=1e-4)


class TooFewSlots(DTPolicy):
    """A mutant: the newest step overwrites one that the last action still attends to."""

    @property
    def _cache_shape(self):
        layers, two, slots, width = super()._cache_shape
        return layers, two, slots - self.config.tokens_per_step, width


class ForgetsActions(DTPolicy):
    def with_action(self, state, action):
        return state


class LateReturns(DTPolicy):
    """A mutant: returns-to-go are never lowered by the rewards."""

    def advance(self, obs, state, first, reward):
        return super().advance(obs, state, first, 0 * reward)


def test_acting_leaves_the_state_before_as_it_was():
    policy = DTPolicy(small_model(), 5.0)
    frames, _, rewards = episode()
    with torch.no_grad():
        state = policy.advance(
            frames[:, 0], policy.initial_state(N), torch.ones(N, dtype=bool), rewards[:, 0]
        )
        kept = state.clone()
        policy.advance(frames[:, 1], state, torch.zeros(N, dtype=bool), rewards[:, 0])
    assert torch.equal(state, kept)


def test_gradients_through_the_cache_equal_those_of_the_whole_episode():
    """Of the last logits with respect to every frame's features."""
    model = small_model(state_embedding="agent", feature_size=16)
    _, actions, rewards = episode()
    features = torch.randn(N, 9, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    policy, state = DTPolicy(model, 5.0), DTPolicy(model, 5.0).initial_state(N)
    for t in range(features.shape[1]):
        came = rewards[:, t - 1] if t else torch.zeros(N)
        state = policy.advance(features[:, t], state, torch.full((N,), t == 0), came)
        logits = policy.heads(state)[0]
        state = policy.with_action(state, actions[:, t])
    (through_cache,) = torch.autograd.grad(logits.square().sum(), features)
    time = torch.arange(features.shape[1]).expand(N, -1)
    gone = (rewards.cumsum(1) - rewards)[:, : features.shape[1]]
    batch = DTBatch(features, actions[:, :9], 5.0 - gone, time, torch.ones_like(time, dtype=torch.bool))
    (at_once,) = torch.autograd.grad(model(batch)[:, -1].square().sum(), features)
    assert at_once[:, 0].abs().max() > 0
    torch.testing.assert_close(through_cache, at_once, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mutant", [TooFewSlots, ForgetsActions, LateReturns])
def test_the_comparison_sees_mutants(mutant):
    model = small_model()
    played = episode()
    found = act(mutant(model, 5.0), *played)
    assert (found - recomputed(model, 5.0, *played)).abs().max() > 1e-2


def test_a_window_of_the_last_steps_alone_is_something_else():
    """Deeper layers remember what lies beyond the context: the cache keeps it, a short window does not."""
    model = small_model()
    frames, actions, rewards = episode()
    whole = recomputed(model, 5.0, frames, actions, rewards)[:, -1]
    gone = (rewards.cumsum(1) - rewards)[:, -4:]
    time = torch.arange(STEPS - 4, STEPS).expand(N, -1)
    batch = DTBatch(
        frames[:, -4:], actions[:, -4:], 5.0 - gone, time, torch.ones_like(time, dtype=torch.bool)
    )
    assert (model(batch)[:, -1] - whole).abs().max() > 1e-3


def test_an_episode_begins_with_its_own_target_and_an_empty_context():
    model = small_model()
    (frames, actions, rewards), (then, taken, came) = episode(0), episode(1)
    first = torch.zeros(N, 2 * STEPS, dtype=torch.bool)
    first[:, 0] = first[:, STEPS] = True
    both = (torch.cat(pair, 1) for pair in ((frames, then), (actions, taken), (rewards, came)))
    found = act(DTPolicy(model, 5.0), *both, first)[:, STEPS:]
    torch.testing.assert_close(found, recomputed(model, 5.0, then, taken, came), rtol=1e-4, atol=1e-4)


def test_each_environment_has_its_own_return_to_go():
    """Three environments with different rewards; in a widespread code all took that of the last."""
    policy = DTPolicy(small_model(), 10.0)
    frames, none = episode()[0], torch.zeros(N, dtype=torch.bool)
    state = policy.advance(frames[:, 0], policy.initial_state(N), ~none, torch.zeros(N))
    state = policy.advance(frames[:, 1], state, none, torch.tensor([1.0, 2.0, 4.0]))
    assert state[:, 1].tolist() == [9, 8, 6]
    assert state[:, 2].tolist() == [1, 1, 1]


def test_a_discounted_return_to_go_grows_as_the_discount_says():
    policy = DTPolicy(small_model(gamma=0.5), 10.0)
    frames, none = episode()[0], torch.zeros(N, dtype=torch.bool)
    state = policy.advance(frames[:, 0], policy.initial_state(N), ~none, torch.zeros(N))
    state = policy.advance(frames[:, 1], state, none, torch.tensor([1.0, 2.0, 4.0]))
    assert state[:, 1].tolist() == [18, 16, 12]


def test_the_target_asked_for_takes_precedence_and_matters():
    model = small_model()
    played = episode()
    low, high = (act(DTPolicy(model, target), *played) for target in (0.0, 50.0))
    assert (low - high).abs().max() > 1e-3
    policy = DTPolicy(model, 0.0)
    assert torch.equal(policy.initial_state(2, 7.0)[:, 0], torch.full((2,), 7.0))


@pytest.mark.parametrize("model_type", ["decision_transformer", "clone_transformer"])
def test_it_keeps_every_promise_of_a_policy(model_type):
    policy = DTPolicy(small_model(model_type=model_type), 3.0)
    assert "independent" in check_policy(policy, (SIZE, SIZE, 3))


def test_a_behaviour_passes_the_action_on():
    policy = DTPolicy(small_model(), 3.0)
    greedy = make_behaviour(policy, "greedy")
    frames = episode()[0]
    first, noise = torch.ones(N, dtype=torch.bool), torch.zeros(N, ACTIONS)
    taken = step(greedy, frames[:, 0], greedy.initial_state(N), first, torch.zeros(N), noise)
    assert torch.equal(taken.state[:, 3].long(), taken.action)
    assert torch.equal(taken.action, taken.logits.argmax(-1))
