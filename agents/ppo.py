"""Recurrent PPO (Schulman et al. 2017): clipped updates with back-propagation through the whole rollout.

Minibatches are whole environments, so that gradients pass through all T steps; recurrent states are
recomputed from the state at the rollout's first step and reset exactly where acting reset them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from agents.actor_critic import ActorCritic
from common.descriptions import check_values
from common.distributed import DistContext
from common.policy import categorical_log_prob
from common.progress import not_shown


@dataclass(frozen=True)
class PPOConfig:
    """Hyper-parameters of PPO; presets are in hyperparams/procgen/config.yml."""

    n_envs: int = 64
    """Environments stepped together."""
    n_steps: int = 256
    """Steps per environment and iteration; also the length of back-propagation through time."""
    epoch: int = 3
    """Passes over each rollout."""
    mini_batch_per_epoch: int = 8
    """Optimiser steps per pass; each takes n_envs / mini_batch_per_epoch whole environments."""
    gamma: float = 0.999
    """Discount."""
    lmbda: float = 0.95
    """Lambda of generalised advantage estimation."""
    learning_rate: float = 5e-4
    anneal: bool = True
    """Learning rate falls linearly to zero over num_timesteps; otherwise it is constant."""
    grad_clip_norm: float = 0.5
    eps_clip: float = 0.2
    """Clip range of the policy ratio."""
    eps_clip_value: float = 0.2
    """Clip range of a value's change in one iteration, in its own units; 0 does not clip."""
    value_coef: float = 0.5
    entropy_coef: float = 0.01
    normalize_adv: bool = True
    """Standardise advantages over the whole rollout."""
    normalize_rew: bool = True
    """Divide rewards by the running deviation of the discounted return."""
    use_gae: bool = True
    """Generalised advantage estimation; otherwise advantages from discounted returns."""

    def __post_init__(self):
        check_values(self, sizes=("n_envs", "n_steps", "epoch", "mini_batch_per_epoch"))
        for name in ("gamma", "learning_rate", "grad_clip_norm", "eps_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be a number above zero")
        if self.gamma > 1 or not 0 <= self.lmbda <= 1:
            raise ValueError(f"gamma {self.gamma} and lmbda {self.lmbda} must not pass 1")
        if self.n_envs % self.mini_batch_per_epoch:
            wanted = f"a multiple of mini_batch_per_epoch {self.mini_batch_per_epoch}"
            raise ValueError(f"n_envs {self.n_envs} must be {wanted}: minibatches are whole environments")


class RolloutBuffer:
    """One rollout, time-major [T, N, ...]. `first[t]` belongs to `obs[t]`; `ended[t]` to the transition after
    it.

    Frames dominate its memory: T x N x 12,288 bytes for Procgen.
    """

    BY_SLOT = ("state", "next_value")
    """Columns [N, ...]; all others are [T, N, ...]."""

    def __init__(self, n_steps: int, n_envs: int, obs_shape: tuple[int, int, int], state_size: int):
        shape = (n_steps, n_envs)
        self.obs = torch.zeros(*shape, *obs_shape, dtype=torch.uint8)
        self.first = torch.zeros(shape, dtype=torch.bool)
        self.ended = torch.zeros(shape, dtype=torch.bool)
        self.action = torch.zeros(shape, dtype=torch.int64)
        self.log_prob = torch.zeros(shape)
        self.value = torch.zeros(shape)
        self.reward = torch.zeros(shape)
        self.state = torch.zeros(n_envs, state_size)  # before obs[0]
        self.next_value = torch.zeros(n_envs)  # of the observation after the last transition
        # of the frame that a truncated episode stopped at, where the environment shows it
        self.final_value = torch.zeros(shape)

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in vars(self).values())


def advantages(reward, value, ended, next_value, gamma: float, lmbda: float, final_value=0.0) -> torch.Tensor:
    """Generalised advantage estimation (Schulman et al. 2016). With lmbda = 1 these are discounted returns
    minus values.

    Args: reward, value, ended: [T, N]; no advantage flows back across `ended`. next_value: [N], of the
        observation after the last transition. final_value: [T, N], of the frame that an episode was truncated
        at, which its last step bootstraps from; 0 everywhere else.

    Returns:
        [T, N].
    """
    alive = 1.0 - ended.float()
    following = torch.cat([value[1:], next_value[None]])
    delta = reward + gamma * (following * alive + final_value) - value
    out = torch.empty_like(delta)
    carry = torch.zeros_like(next_value)
    for t in reversed(range(len(delta))):
        carry = delta[t] + gamma * lmbda * alive[t] * carry
        out[t] = carry
    return out


def replay(agent: ActorCritic, buffer: RolloutBuffer, envs) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [T, n, A] and values [T, n] of the given environments, recomputed with gradients."""
    device = agent.value_head.weight.device
    states = agent.unroll(
        buffer.obs[:, envs].to(device), buffer.state[envs].to(device), buffer.first[:, envs].to(device)
    )
    return agent.heads(states)


def ppo_loss(agent: ActorCritic, buffer: RolloutBuffer, advantage, returns, envs, config: PPOConfig):
    """PPO loss of the given environments, and its terms as a dict of detached scalars."""
    logits, value = replay(agent, buffer, envs)
    action, old_log_prob, old_value, advantage, returns = (
        x[:, envs].to(logits.device)
        for x in (buffer.action, buffer.log_prob, buffer.value, advantage, returns)
    )
    log_ratio = categorical_log_prob(logits, action) - old_log_prob
    ratio = log_ratio.exp()
    policy_loss = -torch.min(
        ratio * advantage, ratio.clamp(1 - config.eps_clip, 1 + config.eps_clip) * advantage
    ).mean()
    value_loss = 0.5 * value_error(value, old_value, returns, config.eps_clip_value).mean()
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
    parts = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": ((ratio - 1).abs() > config.eps_clip).float().mean(),
    }
    return loss, {name: part.detach() for name, part in parts.items()}


def value_error(value, old_value, returns, clip: float):
    """Squared error of the value; with clip > 0, the larger of it and that of the value clipped around the
    old one.
    """
    error = F.mse_loss(value, returns, reduction="none")
    if clip == 0:
        return error
    held = old_value + (value - old_value).clamp(-clip, clip)
    return torch.max(error, F.mse_loss(held, returns, reduction="none"))


def update(
    agent: ActorCritic,
    optimizer,
    buffer: RolloutBuffer,
    config: PPOConfig,
    rng: np.random.Generator,
    progress: Callable[[float], None] = not_shown,
    ranks: DistContext = DistContext(),
) -> dict[str, float]:
    """All epochs of one PPO iteration.

    Processes that share it (`ranks`) have the same buffer and take their environments of each minibatch.

    Returns:
        The mean of each term of the loss.

    Raises:
        FloatingPointError: the loss is NaN.
    """
    lmbda = config.lmbda if config.use_gae else 1.0
    advantage = advantages(
        buffer.reward, buffer.value, buffer.ended, buffer.next_value, config.gamma, lmbda, buffer.final_value
    )
    returns = advantage + buffer.value
    if config.normalize_adv:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    history = []
    for _ in range(config.epoch):
        for envs in rng.permutation(config.n_envs).reshape(config.mini_batch_per_epoch, -1):
            own = torch.from_numpy(envs[ranks.mine])
            loss, parts = ppo_loss(agent, buffer, advantage, returns, own, config)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            ranks.average_gradients(agent.parameters())
            norm = torch.nn.utils.clip_grad_norm_(agent.parameters(), config.grad_clip_norm)
            if not torch.isfinite(norm):
                raise FloatingPointError(
                    f"the gradient is not finite; loss parts: { {k: v.item() for k, v in parts.items()} }"
                )
            optimizer.step()
            history.append(parts)
            progress(1 / (config.epoch * config.mini_batch_per_epoch))
    means = {name: torch.stack([parts[name] for parts in history]).mean().item() for name in history[0]}
    means = ranks.mean(means)
    explained = 1 - (returns - buffer.value).var() / returns.var()
    return means | {"explained_variance": explained.item()}
