"""Named hyper-parameter presets: hyperparams/procgen/config.yml, merged over the learner's defaults."""

from dataclasses import fields
from pathlib import Path

import yaml

from agents.actor_critic import NetworkConfig
from agents.ppo import PPOConfig
from common.runs import UsageError

PRESETS = Path(__file__).parents[1] / "hyperparams" / "procgen" / "config.yml"
_NETWORK = {field.name for field in fields(NetworkConfig)} - {"num_actions", "obs_shape"}
_PPO = {field.name for field in fields(PPOConfig)}


def load_preset(name: str, num_actions: int, obs_shape: tuple[int, int, int]) -> tuple[NetworkConfig, PPOConfig]:
    """The preset's network and learner. Raises UsageError for an unknown preset, key or value."""
    try:
        presets = {key: values for key, values in yaml.safe_load(PRESETS.read_text()).items() if not key.startswith("_")}
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        raise UsageError(f"{PRESETS} is not a mapping of presets in YAML: {' '.join(str(error).split())}") from error
    if name not in presets:
        raise UsageError(f"unknown preset {name!r}; choose one of: {', '.join(presets)}")
    values = presets[name] or {}
    unknown = set(values) - _NETWORK - _PPO
    if unknown:
        raise UsageError(f"preset {name!r} in {PRESETS.name} has unknown keys: {', '.join(sorted(unknown))}")
    try:
        network = NetworkConfig(num_actions, obs_shape, **{k: v for k, v in values.items() if k in _NETWORK})
        return network, PPOConfig(**{k: v for k, v in values.items() if k in _PPO})
    except (ValueError, TypeError) as error:
        raise UsageError(f"preset {name!r}: {error}") from error
