"""The Policy protocol: recurrent state and observation in, logits and value out, with a seam in between.

`advance` turns (observation, state) into the next state; `heads` reads logits and value from it. An
intervention may act between the two. Step t of an episode: the agent sees obs[t] with hidden[t]; `advance`
gives hidden[t + 1]; from that come logits[t] and value[t].
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch

State = Any
"""A policy's recurrent state; a [N, D] float tensor for every agent that keeps no more than one vector per
environment.
"""


class Step(NamedTuple):
    """What one step of a policy gives. action [N] int64, logits [N, A], value [N] or None, state after the
    observation.
    """

    action: torch.Tensor
    logits: torch.Tensor
    value: torch.Tensor | None
    state: State


@runtime_checkable
class Policy(Protocol):
    """N environments' worth of decisions at a time. obs is [N, H, W, C], uint8 or float in [0, 1]."""

    num_actions: int

    def initial_state(self, n: int, target_return: float | None = None) -> State:
        """The state before the first observation of an episode, for n environments."""

    def advance(self, obs: torch.Tensor, state: State, first: torch.Tensor, reward: torch.Tensor) -> State:
        """Resets the state where `first` [N] bool says so, then takes in `obs` and the `reward` [N] that came
        with it.
        """

    def heads(self, state: State) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits [N, A] and value [N] (None for a policy without one) at this state."""

    def choose(self, logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Actions [N] from logits [N, A] and Gumbel noise [N, A]."""

    def log_prob(self, logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Log-probability [N] of actions [N] under the distribution that `choose` draws from."""

    def hidden(self, state: State) -> torch.Tensor:
        """The [N, D] float tensor that a rollout store keeps of a state."""


class CategoricalPolicy:
    """Base of policies that sample from softmax(logits) and whose state is itself the stored [N, D] tensor."""

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


def step(policy: Policy, obs, state, first, reward, noise) -> Step:
    """One whole step of any policy: advance, read the heads, choose."""
    state = policy.advance(obs, state, first, reward)
    logits, value = policy.heads(state)
    return Step(policy.choose(logits, noise), logits, value, state)


def sample(logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The Gumbel-max draw: with standard Gumbel noise this samples softmax(logits); with zeros it is greedy."""
    return (logits + noise).argmax(-1)


def categorical_log_prob(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[action], over the last axis of logits."""
    return torch.log_softmax(logits.float(), -1).gather(-1, action[..., None]).squeeze(-1)


def frames_to_float(obs: torch.Tensor) -> torch.Tensor:
    """Frames [..., H, W, C] as channels-last images [N, C, H, W] in [0, 1]: uint8 is divided by 255, floats
    pass.
    """
    image = obs.reshape(-1, *obs.shape[-3:]).permute(0, 3, 1, 2)
    return image.float() / 255 if obs.dtype == torch.uint8 else image
