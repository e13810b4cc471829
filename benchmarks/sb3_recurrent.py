"""Baseline of benchmarks/training.py: SB3-contrib's RecurrentPPO on the same environments and encoder."""

import numpy as np
import torch

# isort: split
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from agents.encoders import impala_stages
from agents.ppo import PPOConfig


class SB3Env(VecEnv):
    """Adapts a VecEnv of this project to SB3."""

    def __init__(self, inner):
        self.inner = inner
        super().__init__(
            inner.num, spaces.Box(0, 255, inner.obs_shape, np.uint8), spaces.Discrete(inner.num_actions)
        )
        self._infos = [{} for _ in range(inner.num)]

    def reset(self):
        return self.inner.observe()[1]

    def step_async(self, actions):
        self.inner.act(actions)

    def step_wait(self):
        reward, obs, first = self.inner.observe()
        return obs, reward, first, self._infos

    def close(self):
        self.inner.close()

    def get_attr(self, attr_name, indices=None):
        return [getattr(self.inner, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None):
        raise NotImplementedError

    def env_method(self, method_name, *method_args, indices=None, **method_kwargs):
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


class ImpalaExtractor(BaseFeaturesExtractor):
    """The network of agents/encoders.py in float32, default memory layout and one chunk per call, as SB3 runs
    its own.
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int):
        super().__init__(observation_space, features_dim)
        channels, height, width = observation_space.shape
        stages = nn.Sequential(*impala_stages(channels), nn.Flatten())
        with torch.no_grad():
            flat = stages(torch.zeros(1, channels, height, width)).shape[1]
        self.layers = nn.Sequential(stages, nn.Linear(flat, features_dim), nn.ReLU())

    def forward(self, observations):
        return self.layers(observations)


def recurrent_ppo(env, ppo: PPOConfig, feature_size: int, hidden_size: int, seed: int) -> RecurrentPPO:
    """RecurrentPPO with one shared LSTM, linear heads, and the same epochs, minibatches and steps as
    agents/ppo.py.
    """
    policy = dict(
        features_extractor_class=ImpalaExtractor,
        features_extractor_kwargs=dict(features_dim=feature_size),
        net_arch=[],
        lstm_hidden_size=hidden_size,
        shared_lstm=True,
        enable_critic_lstm=False,
    )
    batch_size = ppo.n_envs * ppo.n_steps // ppo.mini_batch_per_epoch
    return RecurrentPPO(
        "CnnLstmPolicy",
        SB3Env(env),
        ppo.learning_rate,
        ppo.n_steps,
        batch_size,
        ppo.epoch,
        ppo.gamma,
        ppo.lmbda,
        ppo.eps_clip,
        ppo.eps_clip,
        ent_coef=ppo.entropy_coef,
        vf_coef=ppo.value_coef,
        max_grad_norm=ppo.grad_clip_norm,
        policy_kwargs=policy,
        seed=seed,
        device="cpu",
    )
