"""The smallest agents, environments and runs that still have every part; shared by the agent's tests."""

from pathlib import Path

import numpy as np
import pytest
import torch

import agents.presets
import train
from agents.actor_critic import NetworkConfig
from agents.ppo import PPOConfig
from agents.trainer import Schedule, Trainer
from envs.diagnostic_envs import DiagnosticVecEnv

SIZE = 16
NEVER = 10**9

MODEL_SIZES = {
    "latent_global": 8,
    "latent_tile": 1,
    "vector_size": 16,
    "code_size": 4,
    "pose_size": 2,
    "texels": 4,
    "canvas_tiles": 24,
    "classes": 4,
    "units": 16,
    "depth": 8,
}
"""Of an untrained world model on real frames."""

PRESETS = """
tiny: &tiny
  n_envs: 4
  n_steps: 8
  epoch: 1
  mini_batch_per_epoch: 2
  architecture: nature
  feature_size: 16
  core: gru
  hidden_size: 8
tiny-lstm: {<<: *tiny, core: lstm}
broken: {n_envs: 4, speed: 11}
"""


def network(env, core: str = "gru", precision: str = "fp32", **shape) -> NetworkConfig:
    small = {"feature_size": 16, "hidden_size": 16}
    return NetworkConfig(env.num_actions, env.obs_shape, core=core, precision=precision, **(small | shape))


def staggered(name: str, num: int, seed: int = 0) -> DiagnosticVecEnv:
    """A probe whose slots are at different steps of their episodes, so that ends fall everywhere in a
    rollout.
    """
    env = DiagnosticVecEnv(name, num, seed, SIZE)
    for reopened in range(1, num):
        env.act(np.zeros(num, np.int64))
        env.open_level(reopened, reopened)
    return env


def trainer(
    directory: Path,
    env,
    config: PPOConfig,
    seed: int = 0,
    core: str = "gru",
    precision: str = "fp32",
    **sizes,
) -> Trainer:
    """A Trainer to be driven by `collect` and `update`; it never evaluates or saves."""
    schedule = Schedule(NEVER, 1, NEVER, 1, 0, NEVER)
    return Trainer(
        env,
        env,
        network(env, core, precision, **sizes),
        config,
        schedule,
        directory,
        seed,
        torch.device("cpu"),
        {},
    )


def sharpen(agent, times: float = 30.0) -> None:
    """Makes a fresh agent's policy far from uniform, so that a wrong state shows in its log-probabilities."""
    with torch.no_grad():
        agent.policy_head.weight.mul_(times)
        agent.encoder.out.weight.mul_(3)


@pytest.fixture
def tiny_presets(monkeypatch, tmp_path_factory):
    """train.py finds the presets above in place of the shipped ones."""
    path = tmp_path_factory.mktemp("presets") / "config.yml"
    path.write_text(PRESETS)
    monkeypatch.setattr(agents.presets, "PRESETS", path)
    return path


def tiny_args(out_dir: Path, **changed) -> train.Args:
    """Two iterations of Dodgeball (short episodes) with the tiny preset, one evaluation of two episodes at
    the end.
    """
    often = dict(num_timesteps=64, eval_episodes=2, eval_every=NEVER, save_every=NEVER)
    game = dict(param_name="tiny", env_name="dodgeball", num_levels=5, num_threads=1, device="cpu")
    return train.Args(out_dir=out_dir, **(often | game | changed))


def run_dirs(out_dir: Path) -> list[Path]:
    """Every run directory under a log directory, oldest first."""
    return sorted(
        (path.parent for path in out_dir.rglob("config.json")), key=lambda path: path.stat().st_mtime
    )
