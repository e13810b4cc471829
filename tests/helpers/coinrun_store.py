"""A small store of real CoinRun play with several layouts in each part of the split, the agent that played,
and a model to score on it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from common.runs import file_id
from envs.layouts import first_states, layout_hash
from envs.make import make_env
from envs.procgen import ProcgenConfig, action_space
from generative.model.config import WorldModelConfig
from generative.model.world_model import WorldModel
from generative.model.world_model_file import save_world_model
from rollouts.play import EpisodeSpec
from rollouts.record import Actor, play_shard
from rollouts.split import split_by_layout
from rollouts.store import Rollouts, create_store, write_shard
from tests.helpers.tiny_models import MODEL_SIZES

WIDTH = 8
RIGHT = 7
UP_RIGHT = 8
UP = 5
PER_PART = {"train": 6, "test": 4, "validation": 3}
_SEARCHED = 160


def levels_of_each_part() -> list[int]:
    """The first levels from 10,000 on that give every part its layouts, one level of each."""
    env = make_env(16, ProcgenConfig())
    levels = np.arange(10_000, 10_000 + _SEARCHED)
    layouts = np.array([layout_hash(state) for state in first_states(env, levels.tolist())])
    env.close()
    first = np.sort(np.unique(layouts, return_index=True)[1])
    levels, part = levels[first], split_by_layout(layouts[first])
    return sorted(int(level) for name, count in PER_PART.items() for level in levels[part == name][:count])


class World(NamedTuple):
    """Recordings, and the files of the agent that made them and of an untrained world model for it."""

    store: Rollouts
    agent_file: Path
    world_model_file: Path


def write_world(root: Path) -> World:
    """One episode on each of those levels."""
    agent_file = root / "agent.safetensors"
    world_model_file = root / "model.safetensors"
    _write_agent(agent_file)
    _write_model(world_model_file, agent_file)
    agent = load_agent(agent_file)[0]
    config = ProcgenConfig()
    actions = action_space("coinrun")
    about = {
        "num_actions": 15,
        "action_names": actions.names,
        "noop": actions.noop,
        "hidden_size": WIDTH,
        "env": vars(config),
    }
    create_store(root / "store", about)
    env = make_env(8, config)
    jobs = [EpisodeSpec(level, i) for i, level in enumerate(levels_of_each_part())]
    write_shard(root / "store", 0, *play_shard(env, Actor(agent, "agent", file_id(agent_file)), jobs, 0))
    env.close()
    return World(Rollouts.open(root / "store"), agent_file, world_model_file)


def _write_agent(path: Path) -> None:
    """An untrained agent that leans to the right, its read-out stretched over what it sees so that its
    choices vary.
    """
    torch.manual_seed(0)
    agent = ActorCritic(
        NetworkConfig(15, architecture="nature", feature_size=16, hidden_size=WIDTH, precision="fp32")
    )
    lean = torch.zeros(15)
    lean[[RIGHT, UP_RIGHT, UP]] = torch.tensor([3.0, 3.0, 1.5])
    with torch.no_grad():
        logits = agent.heads(
            agent.unroll(_some_frames(), agent.initial_state(8), torch.zeros(20, 8, dtype=torch.bool))
        )[0]
        agent.policy_head.weight.mul_(2 / logits.std((0, 1))[:, None])
        agent.policy_head.bias.copy_(lean - 2 * logits.mean((0, 1)) / logits.std((0, 1)))
    save_agent(path, agent, {"env": vars(ProcgenConfig())})


def _some_frames() -> torch.Tensor:
    """[20, 8, H, W, C]: eight levels, walking and jumping to the right."""
    env = make_env(8, ProcgenConfig(start_level=10_000, num_levels=8))
    frames = []
    rng = np.random.default_rng(0)
    for _ in range(20):
        frames.append(env.observe()[1].copy())
        env.act(rng.choice([RIGHT, UP_RIGHT], 8))
    env.close()
    return torch.from_numpy(np.stack(frames))


def _write_model(path: Path, agent_file: Path) -> None:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig(15, (64, 64, 3), hidden_size=WIDTH, precision="fp32", **MODEL_SIZES))
    save_world_model(
        path, model, {"agent": {"id": file_id(agent_file)}, "noop": action_space("coinrun").noop}
    )
