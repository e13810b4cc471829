"""Whether an agent, a store and a world model belong together; each mismatch is one line with the way out."""

import logging
from pathlib import Path

import numpy as np

from common.runs import UsageError
from common.words import counted
from rollouts.store import Rollouts

REMEDY = "give the agent that recorded the store"


def check_store(rollouts: Rollouts, agent, agent_meta: dict, agent_file: Path) -> None:
    """Raises UsageError unless the store can have been recorded by this agent, hidden states and all.

    agent: an ActorCritic. agent_meta: its file's description.
    """
    manifest = rollouts.manifest
    path = rollouts.path
    if rollouts.simulated:
        raise UsageError(
            f"{path} holds simulated episodes; give a store that record.py made of the real game"
        )
    game = env_name_of(manifest)
    agents_game = env_name_of(agent_meta)
    if game and agents_game and game != agents_game:
        raise UsageError(
            f"{path} was recorded in {game}, and {agent_file} plays {agents_game}; take both of the same game"
        )
    if not manifest["hidden_size"]:
        raise UsageError(f"{path} holds no hidden states; record it again with an agent that has them")
    if manifest["num_actions"] != agent.num_actions:
        raise UsageError(
            f"{path} has {counted(manifest['num_actions'], 'action')}, and {agent_file} {agent.num_actions}; {REMEDY}"
        )
    if manifest["hidden_size"] != agent.core.state_size:
        widths = manifest["hidden_size"], agent.core.state_size
        raise UsageError(
            f"{path} holds hidden states of width {widths[0]}, and those of {agent_file} have {widths[1]}; {REMEDY}"
        )
    if frame_shape(rollouts) != tuple(agent.config.obs_shape):
        raise UsageError(
            f"{path} holds frames of {frame_shape(rollouts)}, and {agent_file} sees {tuple(agent.config.obs_shape)}; {REMEDY}"
        )


def fraction_recorded_by(rollouts: Rollouts, agent_id: str) -> float:
    """The share of the store's episodes that this agent played, whose hidden states and logits are its own."""
    return float(np.mean(rollouts.episodes["policy_id"] == agent_id))


def recorded_by(rollouts: Rollouts, agent_id: str) -> bool:
    """Whether every episode of the store was played by this agent."""
    return fraction_recorded_by(rollouts, agent_id) == 1


def check_recorder(rollouts: Rollouts, agent_id: str) -> None:
    """A warning where episodes of the store are by others than this agent; raises UsageError where all are."""
    share = fraction_recorded_by(rollouts, agent_id)
    if not share:
        raise UsageError(
            f"no episode of {rollouts.path} is by this agent: its hidden states and logits are another's; {REMEDY}"
        )
    if share < 1:
        logging.warning(
            "%.0f%% of the episodes of %s are by this agent: hidden states and logits of the others are not its own",
            100 * share,
            rollouts.path,
        )


def frame_shape(rollouts: Rollouts) -> tuple[int, int, int]:
    return tuple(rollouts.step_fields["obs"].shape)


def env_name_of(description: dict) -> str | None:
    """The game that a store's manifest or an agent's description names."""
    return (description.get("env") or {}).get("env_name")
