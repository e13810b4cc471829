"""The Policy protocol: observation and recurrent state in, action logits and value out.

`advance` maps (observation, state) to the next state; `heads` reads logits and value from it, and an
intervention may act between the two. Step t of an episode: obs[t] is processed with hidden[t]; `advance`
gives hidden[t + 1], from which logits[t] and value[t] are read.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch

State = Any
"""Recurrent state of a policy: a [N, D] float tensor for every agent with one vector per environment."""


class Step(NamedTuple):
    """One step of a policy: action [N] int64, logits [N, A], value [N] or None, and the next state."""

    action: torch.Tensor
    logits: torch.Tensor
    value: torch.Tensor | None
    state: State


@runtime_checkable
class Policy(Protocol):
    """A policy for N environments at a time. obs is [N, H, W, C], uint8 or float in [0, 1].

    One that conditions on its own actions also has `with_action(state, action) -> state`, called after each
    action; it may change the state, which `advance` has just returned, in place.
    """

    num_actions: int

    def initial_state(self, n: int, target_return: float | None = None) -> State:
        """State of n environments before the first observation of an episode."""

    def advance(self, obs: torch.Tensor, state: State, first: torch.Tensor, reward: torch.Tensor) -> State:
        """Resets the state where `first` [N] is True, then processes `obs` and the `reward` [N] received with
        it.
        """

    def heads(self, state: State) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits [N, A] and value [N], or None for a policy without a value head."""

    def choose(self, logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Actions [N] from logits [N, A] and Gumbel noise [N, A]."""

    def log_prob(self, logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Log-probability [N] of actions [N] under the distribution that `choose` samples."""

    def hidden(self, state: State) -> torch.Tensor:
        """The [N, D] float tensor that rollout stores keep of a state."""


def class_log_probs(logits: torch.Tensor, effect_classes: Sequence[int]) -> torch.Tensor:
    """Log of the total probability of each effect class [..., J]; classes by ascending representative."""
    log_probs = torch.log_softmax(logits, -1)
    classes = torch.as_tensor(effect_classes, device=logits.device)
    return torch.stack([log_probs[..., classes == one].logsumexp(-1) for one in classes.unique()], -1)


class CategoricalPolicy:
    """Base of policies that sample softmax(logits) and store their state [N, D] as it is."""

    def choose(self, logits, noise):
        return sample(logits, noise)

    def log_prob(self, logits, action):
        return categorical_log_prob(logits, action)

    def hidden(self, state):
        return state


class PolicyWrapper:
    """Base of policies that delegate to another one, `policy`; a subclass overrides what it changes."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.num_actions = policy.num_actions

    def initial_state(self, n: int, target_return: float | None = None):
        return self.policy.initial_state(n, target_return)

    def advance(self, obs, state, first, reward):
        return self.policy.advance(obs, state, first, reward)

    def heads(self, state):
        return self.policy.heads(state)

    def choose(self, logits, noise):
        return self.policy.choose(logits, noise)

    def log_prob(self, logits, action):
        return self.policy.log_prob(logits, action)

    def hidden(self, state):
        return self.policy.hidden(state)

    def with_action(self, state, action):
        return with_action(self.policy, state, action)


def unwrapped(policy: Policy) -> Policy:
    """The policy inside all wrappers."""
    while isinstance(policy, PolicyWrapper):
        policy = policy.policy
    return policy


def step(policy: Policy, obs, state, first, reward, noise) -> Step:
    """One step of any policy: advance, read the heads, choose an action, remember it."""
    state = policy.advance(obs, state, first, reward)
    logits, value = policy.heads(state)
    action = policy.choose(logits, noise)
    return Step(action, logits, value, with_action(policy, state, action))


def with_action(policy: Policy, state: State, action: torch.Tensor) -> State:
    """The state after `action` [N] was taken, by the policy's own `with_action(state, action)`; unchanged for
    policies without one, which do not condition on their own actions.
    """
    remember = getattr(policy, "with_action", None)
    return state if remember is None else remember(state, action)


def sample(logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Gumbel-max sampling: standard Gumbel noise samples softmax(logits), zeros take the arg-max."""
    return (logits + noise).argmax(-1)


def categorical_log_prob(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[action], over the last axis of logits."""
    return torch.log_softmax(logits.float(), -1).gather(-1, action[..., None]).squeeze(-1)


def frames_to_float(obs: torch.Tensor) -> torch.Tensor:
    """Frames [..., H, W, C] as channels-last images [N, C, H, W] in [0, 1]; uint8 is divided by 255."""
    image = obs.reshape(-1, *obs.shape[-3:]).permute(0, 3, 1, 2)
    return image.float() / 255 if obs.dtype == torch.uint8 else image
