"""Loads a world model with its agent inside."""

from pathlib import Path

import torch

from agents.actor_critic import load_agent
from common.checkpoints import BadCheckpoint
from common.descriptions import look_up
from common.runs import file_id
from common.words import counted
from generative.action_space import action_space_of
from generative.model.world_model_file import load_world_model
from generative.simulator import Simulator


def load_simulator(
    world_model_file: Path,
    agent_file: Path,
    allow_other_agent: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[Simulator, dict]:
    """Loads a world model and its agent: the simulator, and the model file's description.

    Args:
        world_model_file: the world model's checkpoint.
        agent_file: the agent's checkpoint.
        allow_other_agent: accept an agent that the model was not trained with.
        device: to load them on.

    Raises:
        BadCheckpoint: the agent is another one and not allowed, or has another number of actions.
    """
    model, meta = load_world_model(world_model_file, device)
    agent, _ = load_agent(agent_file, device)
    trained_with = look_up(meta, "agent.id", str, world_model_file, BadCheckpoint)
    agent_id = file_id(agent_file)
    noop = look_up(meta, "noop", int, world_model_file, BadCheckpoint)
    count = model.config.num_actions
    if not 0 <= noop < count or len(meta.get("action_names", range(count))) != count:
        raise BadCheckpoint(
            f"{world_model_file} is damaged: its noop and action_names are not those of {count} actions; "
            "take another checkpoint"
        )
    own = agent_id == trained_with
    if not own and not allow_other_agent:
        raise BadCheckpoint(
            f"{world_model_file} is for agent {trained_with}, not {agent_file} ({agent_id}); give that one "
            "(record_gen_samples.py and render.py also take another, with --allow_other_agent)"
        )
    if agent.num_actions != model.config.num_actions:
        raise BadCheckpoint(
            f"{agent_file} has {counted(agent.num_actions, 'action')}, the simulator "
            f"{model.config.num_actions}: it cannot act there"
        )
    actions = action_space_of(meta) if "action_names" in meta else None
    return Simulator(model.requires_grad_(False), agent, noop, own, actions), meta
