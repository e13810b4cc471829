"""Checks that an agent, a store and a world model belong together; errors name the mismatch and its fix."""

import logging
from pathlib import Path

import numpy as np
import torch

from agents.actor_critic import ActorCritic, load_agent
from common.runs import UsageError, file_id
from common.words import counted
from envs.procgen import GAMES
from rollouts.split import SPLIT_VERSION
from rollouts.store import Rollouts

REMEDY = "give the agent that recorded the store"


def check_store(rollouts: Rollouts, agent, agent_meta: dict, agent_file: Path) -> None:
    """Raises UsageError for a store that this agent cannot have recorded: another game, or other shapes.

    Args:
        rollouts: the store.
        agent: an ActorCritic.
        agent_meta: the description in its file.
        agent_file: named in error messages.
    """
    manifest = rollouts.manifest
    path = rollouts.path
    if rollouts.simulated:
        raise UsageError(
            f"{path} holds simulated episodes; give a store of the real game, as record.py writes it"
        )
    game = env_name_of(manifest)
    agent_game = env_name_of(agent_meta)
    if game and agent_game and game != agent_game:
        raise UsageError(
            f"{path} was recorded in {game}, and {agent_file} plays {agent_game}; give both of the same game"
        )
    if not manifest["hidden_size"]:
        raise UsageError(f"{path} holds no hidden states; record it again with an agent that has them")
    if manifest["num_actions"] != agent.num_actions:
        raise UsageError(
            f"{path} has {counted(manifest['num_actions'], 'action')}, and {agent_file} {agent.num_actions}; "
            f"{REMEDY}"
        )
    if manifest["hidden_size"] != agent.core.state_size:
        raise UsageError(
            f"{path} holds hidden states of width {manifest['hidden_size']}, and those of {agent_file} have "
            f"{agent.core.state_size}; {REMEDY}"
        )
    if frame_shape(rollouts) != tuple(agent.config.obs_shape):
        raise UsageError(
            f"{path} holds frames of {frame_shape(rollouts)}, and {agent_file} sees "
            f"{tuple(agent.config.obs_shape)}; {REMEDY}"
        )


def fraction_recorded_by(rollouts: Rollouts, agent_id: str) -> float:
    """Fraction of the store's episodes that this agent played; their hidden states and logits are its own."""
    return float(np.mean(rollouts.episodes["policy_id"] == agent_id))


def recorded_by(rollouts: Rollouts, agent_id: str) -> bool:
    """Whether every episode of the store was played by this agent."""
    return fraction_recorded_by(rollouts, agent_id) == 1


def check_sole_recorder(rollouts: Rollouts, agent_file: Path) -> None:
    """Raises UsageError unless this agent played every episode of the store."""
    if not recorded_by(rollouts, file_id(agent_file)):
        raise UsageError(
            f"{rollouts.path} was recorded by another agent than {agent_file}; record with this one"
        )


def load_recorder(
    rollouts: Rollouts, agent_file: Path, device: torch.device | str = "cpu"
) -> tuple[ActorCritic, dict]:
    """The agent of the file, which recorded every episode of the store, and the file's description.

    Raises:
        BadCheckpoint: the file holds no agent.
        UsageError: it is of another game or shape than the store, or did not record all of it.
    """
    agent, meta = load_agent(agent_file, device)
    check_store(rollouts, agent, meta, agent_file)
    check_sole_recorder(rollouts, agent_file)
    return agent, meta


def check_recorder(rollouts: Rollouts, agent_id: str) -> None:
    """Warns where this agent played only some of the episodes; raises UsageError where it played none."""
    fraction = fraction_recorded_by(rollouts, agent_id)
    if not fraction:
        raise UsageError(
            f"this agent recorded no episode of {rollouts.path}, so hidden states and logits are another's; "
            f"{REMEDY}"
        )
    if fraction < 1:
        logging.warning(
            "this agent recorded %.0f%% of the episodes of %s; hidden states and logits of the others are "
            "not its own",
            100 * fraction,
            rollouts.path,
        )


def check_split(meta: dict, world_model_file: Path) -> None:
    """Warns where a world model was trained under another split, which held out other levels.

    Args:
        meta: the description in the world model's file.
        world_model_file: named in the warning.
    """
    if env_name_of(meta) in GAMES and meta.get("split", 1) != SPLIT_VERSION:
        logging.warning(
            "%s was trained under split %s, and this is split %s (rollouts/split.py): it was trained on some "
            "of the levels that are held out here, and its scores on them are too good; train it again",
            world_model_file,
            meta.get("split", 1),
            SPLIT_VERSION,
        )


def frame_shape(rollouts: Rollouts) -> tuple[int, int, int]:
    """H, W, C of a store's frames."""
    return tuple(rollouts.step_fields["obs"].shape)


def env_name_of(description: dict) -> str | None:
    """The game that a store's manifest or an agent's description names."""
    return (description.get("env") or {}).get("env_name")
