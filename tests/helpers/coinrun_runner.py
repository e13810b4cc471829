"""An agent that runs and jumps to the right in CoinRun, a small recording of it, and an untrained simulator,
for tests with real fork points.
"""

from pathlib import Path

import torch

from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from common.runs import file_id
from envs.make import make_env
from envs.procgen import ProcgenConfig, action_space
from generative.model.config import WorldModelConfig
from generative.model.world_model import WorldModel
from generative.model.world_model_file import save_world_model
from rollouts.record import Actor, Plan, record
from rollouts.split import SPLIT_VERSION
from rollouts.store import Rollouts, create_store
from tests.helpers.tiny_models import MODEL_SIZES

RIGHT = 7
JUMP_RIGHT = 8
FRAMES = 2
CONFIG = ProcgenConfig("coinrun")


def save_runner(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    agent = ActorCritic(
        NetworkConfig(15, architecture="nature", feature_size=16, hidden_size=8, precision="fp32")
    )
    with torch.no_grad():
        agent.policy_head.weight.mul_(100)
        agent.encoder.out.weight.mul_(3)
        agent.policy_head.bias[RIGHT], agent.policy_head.bias[JUMP_RIGHT] = 4, 3
    save_agent(path, agent, {"env": vars(CONFIG), "reward_scale": 2.0})
    return path


def record_runner(
    path: Path, agent_file: Path, episodes: int = 30, seed: int = 5, per_shard: int | None = None
) -> Rollouts:
    agent = load_agent(agent_file)[0]
    actions = action_space("coinrun")
    plan = Plan(episodes, per_shard or episodes, start_level=3000, num_levels=5000, seed=seed)
    manifest = {
        "num_actions": 15,
        "action_names": actions.names,
        "noop": actions.noop,
        "hidden_size": 8,
        "env": vars(CONFIG),
        "plan": vars(plan),
    }
    create_store(path, manifest)
    record(
        path,
        plan,
        range(plan.num_shards),
        lambda: make_env(per_shard or episodes, CONFIG),
        lambda _: Actor(agent, "agent", file_id(agent_file)),
    )
    return Rollouts.open(path)


def save_untrained(path: Path, agent_file: Path) -> Path:
    torch.manual_seed(1)
    model = WorldModel(
        WorldModelConfig(
            15,
            (64, 64, 3),
            hidden_size=8,
            num_initializing_steps=FRAMES,
            precision="fp32",
            **MODEL_SIZES,
        )
    )
    about = {
        "agent": {"id": file_id(agent_file)},
        "noop": 4,
        "action_names": list(action_space("coinrun").names),
        "env": vars(CONFIG),
        "split": SPLIT_VERSION,
    }
    save_world_model(path, model, about)
    return path
