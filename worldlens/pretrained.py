"""Agents and simulators by name or by path."""

from pathlib import Path
from typing import Literal

import torch

from agents import actor_critic
from agents.actor_critic import ActorCritic
from common.errors import UsageError
from common.precision import set_precision
from decision import model_file
from decision.policy import DTPolicy
from generative import simulator_file
from generative.simulator import Simulator

_PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
SHIPPED_AGENTS = {
    "coinrun": _PRETRAINED / "coinrun_easy_200" / "seed_0_finished" / "model.safetensors",
    "coinrun_blink": _PRETRAINED / "coinrun_blink_200" / "rec" / "model.safetensors",
    "coinrun_blink_feedforward": _PRETRAINED / "coinrun_blink_200" / "ff" / "model.safetensors",
}
"""Name -> weights of the agents that come with the project."""
SHIPPED_SIMULATORS = {"coinrun": _PRETRAINED / "coinrun_simulator" / "model.safetensors"}
"""Name -> weights of the world models that come with the project."""
SHIPPED_DTS = {
    "coinrun": _PRETRAINED / "coinrun_decision_transformer" / "dt" / "model.safetensors",
    "coinrun_clone": _PRETRAINED / "coinrun_decision_transformer" / "clone" / "model.safetensors",
}
"""Name -> weights of the Decision Transformers and clones that come with the project."""


def load_agent(name: str | Path, device: torch.device | str = "cpu") -> ActorCritic:
    """Load a trained agent, ready to act, in evaluation mode.

    Args:
        name: A key of `SHIPPED_AGENTS`, or the path of a checkpoint that `train.py` wrote.
        device: Where its weights live.

    Raises:
        UsageError: Neither a shipped agent nor a file.
        BadCheckpoint: The file holds no agent.
    """
    agent, _ = actor_critic.load_agent(_resolve(name, SHIPPED_AGENTS, "agent"), device)
    return agent


def load_simulator(
    name: str | Path,
    agent: str | Path = "coinrun",
    device: torch.device | str = "cpu",
    precision: Literal["auto", "bf16", "fp32"] = "auto",
) -> Simulator:
    """Load a world model with its agent inside.

    Args:
        name: A key of `SHIPPED_SIMULATORS`, or the path of a checkpoint that `train_gen_model.py` wrote.
        agent: The agent that acts in it, as for `load_agent`; it must be the one the model was trained with.
        device: Where both live.
        precision: Of convolutions; "auto" is the faster one on this machine. Gradients want "fp32".

    Raises:
        UsageError: Neither a shipped name nor a file.
        BadCheckpoint: A file holds something else, or the agent is another one.
    """
    model_file = _resolve(name, SHIPPED_SIMULATORS, "simulator")
    agent_file = _resolve(agent, SHIPPED_AGENTS, "agent")
    simulator, _ = simulator_file.load_simulator(model_file, agent_file, device=device)
    set_precision(precision, simulator.model, simulator.agent)
    return simulator


def load_dt(
    name: str | Path, target_return: float | None = None, device: torch.device | str = "cpu"
) -> DTPolicy:
    """Load a Decision Transformer or behavioural clone, ready to act; the network itself is its `model`.

    Args:
        name: A key of `SHIPPED_DTS`, or the path of a checkpoint that `train_dt.py` wrote.
        target_return: The return to ask for in every episode; default: the highest of the training episodes.
        device: Where its weights live.

    Raises:
        UsageError: Neither a shipped model nor a file.
        BadCheckpoint: The file holds something else, or the agent whose encoder it uses is missing.
    """
    model, meta = model_file.load_dt(_resolve(name, SHIPPED_DTS, "Decision Transformer"), device)
    return DTPolicy(model, meta["returns"]["max"] if target_return is None else target_return)


def _resolve(name: str | Path, shipped: dict[str, Path], kind: str) -> Path:
    path = shipped.get(str(name), Path(name))
    if not path.is_file():
        raise UsageError(
            f"no {kind} {str(name)!r}: expected a checkpoint file or one of {', '.join(sorted(shipped))}"
        )
    return path
