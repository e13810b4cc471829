"""Named hyper-parameter presets of hyperparams/procgen/config.yml, on top of the learner's defaults."""

import math
from dataclasses import fields

from agents.actor_critic import ActorCritic, NetworkConfig
from agents.defaults import PRESETS
from agents.ppo import PPOConfig
from common.descriptions import read_preset
from common.integrity import check_memory, within_memory
from common.runs import UsageError

_NETWORK = {field.name for field in fields(NetworkConfig)} - {"num_actions", "obs_shape"}
_PPO = {field.name for field in fields(PPOConfig)}


def load_preset(
    name: str, num_actions: int, obs_shape: tuple[int, int, int]
) -> tuple[NetworkConfig, PPOConfig]:
    """Network and PPO configuration of a preset. Raises UsageError for an unknown preset, key or value."""
    values = read_preset(PRESETS, name, _NETWORK | _PPO)
    try:
        network = NetworkConfig(num_actions, obs_shape, **{k: v for k, v in values.items() if k in _NETWORK})
        ppo = PPOConfig(**{k: v for k, v in values.items() if k in _PPO})
        with within_memory(f"preset {name!r}"):
            ActorCritic(network)
    except UsageError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UsageError(f"preset {name!r}: {error}") from error
    check_memory(ppo.n_envs * ppo.n_steps * math.prod(obs_shape), f"a rollout of preset {name!r}")
    return network, ppo
