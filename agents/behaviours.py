"""Behaviours: distributions over actions derived from an agent's logits; each wraps a Policy and is one.

`heads` still returns the agent's own logits, so that a store keeps what the agent computed; `choose` and
`log_prob` follow the behaviour.
"""

import math
from collections.abc import Callable
from functools import partial

import torch

from agents.defaults import EPSILON, TEMPERATURE, TOP_K
from common.policy import CategoricalPolicy, Policy, PolicyWrapper, categorical_log_prob, sample
from common.runs import UsageError
from envs.vecenv import ActionSpace

Reshape = Callable[[torch.Tensor], torch.Tensor]
"""Maps the agent's logits [..., A] to those of the behaviour."""

BEHAVIOURS = ("agent", "temperature", "greedy", "epsilon-greedy", "top-k", "random", "seed-noise")

NOISE_GAIN = 0.7  # the recording noise of the study that this project grew out of
NOISE_RANGE = (-1.8, 0.8)
NOISE_DUPLICATES = -3.0
NOISE_RIGHT = 0.1


class Behaviour(PolicyWrapper):
    """Acts by `reshape` of the wrapped policy's logits; stores record its `name`."""

    def __init__(self, policy: Policy, name: str, reshape: Reshape):
        super().__init__(policy)
        self.name = name
        self.reshape = reshape

    def choose(self, logits, noise):
        return sample(self.reshape(logits), noise)

    def log_prob(self, logits, action):
        return categorical_log_prob(self.reshape(logits), action)


class RandomPolicy(CategoricalPolicy):
    """Uniformly random actions without a network: state [N, 1] of zeros, logits of zeros, no value."""

    def __init__(self, num_actions: int, device: torch.device | str = "cpu"):
        self.num_actions = num_actions
        self.device = device

    def initial_state(self, n: int, target_return: float | None = None):
        return torch.zeros(n, 1, device=self.device)

    def advance(self, obs, state, first, reward):
        return torch.zeros_like(state)

    def heads(self, state):
        return state.new_zeros(len(state), self.num_actions), None


def check_behaviour(
    name: str,
    temperature: float = TEMPERATURE,
    top_k: int = TOP_K,
    besides: tuple[str, ...] = (),
    epsilon: float = EPSILON,
    played: tuple[str, ...] = (),
) -> None:
    """Raises UsageError for an unknown behaviour, or for an option without effect on it.

    Args:
        name: the behaviour, one of BEHAVIOURS or `besides`.
        temperature: has an effect on `temperature` only.
        top_k: has an effect on `top-k` only.
        besides: further names that the script accepts.
        epsilon: has an effect on `epsilon-greedy` only.
        played: the behaviours that the options may have their effect on; default: the named one.
    """
    known = (*BEHAVIOURS, *besides)
    if name not in known:
        raise UsageError(f"unknown behaviour {name!r}; choose one of: {', '.join(known)}")
    for option, given, default, behaviour in (
        ("temperature", temperature, TEMPERATURE, "temperature"),
        ("top_k", top_k, TOP_K, "top-k"),
        ("epsilon", epsilon, EPSILON, "epsilon-greedy"),
    ):
        if given != default and behaviour not in (played or (name,)):
            raise UsageError(
                f"--{option} has no effect on the behaviour {name!r}; leave it out, or choose"
                f" --behaviour {behaviour}"
            )


def make_behaviour(
    policy: Policy | None,
    name: str,
    temperature: float = TEMPERATURE,
    top_k: int = TOP_K,
    actions: ActionSpace | None = None,
    epsilon: float = EPSILON,
) -> Policy:
    """Wraps a policy in the named behaviour.

    Args:
        policy: the agent; None only for `random`.
        name: one of BEHAVIOURS.
        temperature: divides the logits (`temperature`).
        top_k: number of most likely actions to keep (`top-k`).
        actions: the environment's action space, needed by `seed-noise` and by `random` without a policy.
        epsilon: probability of a uniformly random action (`epsilon-greedy`).

    Raises:
        UsageError: the behaviour is unknown or lacks what it needs.
    """
    check_behaviour(name, temperature, top_k, epsilon=epsilon)
    if policy is None:
        return _without_agent(name, actions)
    if name == "agent":
        return policy
    if name == "epsilon-greedy":
        return Behaviour(policy, name, epsilon_greedy(epsilon))
    return Behaviour(policy, name, _reshape(name, policy.num_actions, temperature, top_k, actions))


def _without_agent(name: str, actions: ActionSpace | None) -> RandomPolicy:
    if name != "random":
        raise UsageError(
            f"behaviour {name!r} needs an agent: give --agent_file, or take the behaviour 'random'"
        )
    if actions is None:
        raise UsageError("behaviour 'random' without an agent needs the environment's action space")
    return RandomPolicy(len(actions.names))


def _reshape(
    name: str, num_actions: int, temperature: float, top_k: int, actions: ActionSpace | None
) -> Reshape:
    if name == "temperature":
        if not 0 < temperature < math.inf:
            raise UsageError(
                f"temperature must be a number above zero, not {temperature}; for the likeliest"
                " action take the behaviour 'greedy'"
            )
        return partial(torch.mul, other=1 / temperature)
    if name in ("greedy", "top-k"):
        kept = 1 if name == "greedy" else top_k
        if not 1 <= kept <= num_actions:
            raise UsageError(f"top_k must be from 1 to the {num_actions} actions, not {kept}")
        return partial(keep_top, k=kept)
    return torch.zeros_like if name == "random" else seed_noise(actions)


def epsilon_greedy(epsilon: float) -> Reshape:
    """A uniformly random action with probability epsilon, else the likeliest one. Raises UsageError unless
    epsilon is a probability.
    """
    if not 0 <= epsilon <= 1:
        raise UsageError(f"epsilon must be a probability, from 0 to 1, not {epsilon}")

    def reshape(logits: torch.Tensor) -> torch.Tensor:
        likeliest = torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1)
        return ((1 - epsilon) * likeliest + epsilon / logits.shape[-1]).log()

    return reshape


def keep_top(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Sets all but the k largest logits to minus infinity."""
    value, index = logits.topk(k, dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, index, value)


def seed_noise(actions: ActionSpace | None) -> Reshape:
    """The seed project's recording noise: scaled and clamped logits, no-op duplicates suppressed, `right`
    fixed.

    Recordings under it visit states that the agent alone would not. Raises UsageError if there is no action
    `right`.
    """
    if actions is None or "right" not in actions.names:
        raise UsageError(
            "behaviour 'seed-noise' needs an environment with an action named 'right'; take"
            " 'temperature' instead"
        )
    right = actions.names.index("right")
    nothing = actions.effect_classes[actions.noop]
    duplicates = torch.tensor(
        [effect == nothing and action != actions.noop for action, effect in enumerate(actions.effect_classes)]
    )

    def reshape(logits: torch.Tensor) -> torch.Tensor:
        noised = (
            (logits * NOISE_GAIN)
            .clamp(*NOISE_RANGE)
            .masked_fill(duplicates.to(logits.device), NOISE_DUPLICATES)
        )
        return noised.index_fill(-1, torch.tensor([right], device=logits.device), NOISE_RIGHT)

    return reshape
