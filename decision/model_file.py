"""Files of Decision Transformers: weights and a description of what they were trained with."""

from dataclasses import asdict
from pathlib import Path

import torch

from agents.actor_critic import load_agent
from common.checkpoints import (
    BadCheckpoint,
    build,
    load_checkpoint,
    load_module,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from common.descriptions import check_entries, described, look_up
from common.precision import set_precision
from common.runs import file_id
from decision.config import DTConfig
from decision.model import DecisionTransformer

KIND = "decision transformer"
ENCODER = "embed.state.encoder."
"""Prefix of the encoder's weights in a model."""
_ENTRIES = {
    "env": dict | None,
    "agent": dict | None,
    "action_names": list[str],
    "batches": int,
    "data": str,
    "returns": dict[str, float],
    "seed": int,
    "train": dict,
}
"""Optional entries of a checkpoint's description besides the model's config, with their types."""


def save_dt(path: Path, model: DecisionTransformer, meta: dict) -> None:
    """Writes weights and description; meta names its data and training."""
    save_checkpoint(
        path,
        with_prefix("model", model.state_dict()),
        {"kind": KIND, "model": asdict(model.config), **meta},
    )


def load_dt(path: Path, device: torch.device | str = "cpu") -> tuple[DecisionTransformer, dict]:
    """Reads a Decision Transformer or clone, in evaluation mode, and its description.

    A published one (decision.publish) takes the encoder from the file of the agent that it names.

    Raises BadCheckpoint for anything that `save_dt` or decision.publish did not write, and where that agent
    is missing or another one.
    """
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != KIND:
        held = described(meta.get("kind", "something unnamed"))
        raise BadCheckpoint(f"{path} holds {held}, not a {KIND}: train one with train_dt.py")
    check_entries(meta, _ENTRIES, path, BadCheckpoint)
    weights = without_prefix("model", tensors)
    if "file" in (meta.get("agent") or {}):
        weights |= _agents_encoder(path, meta["agent"])
    model = build(lambda: DecisionTransformer(DTConfig(**meta["model"])), weights, path)
    load_module(model, weights, str(path))
    set_precision("auto", model)
    return model.to(device).eval(), meta


def _agents_encoder(path: Path, agent: dict) -> dict[str, torch.Tensor]:
    """Weights of the encoder of the agent that the file at `path` names by its relative path and id."""
    file = look_up(agent, "file", str, path, BadCheckpoint)
    stated = look_up(agent, "id", str, path, BadCheckpoint)
    named = Path(path).parent / file
    if Path(file).is_absolute() or "\0" in file:
        raise BadCheckpoint(
            f"{path} names its agent by the path {file!r}: a path relative to it belongs there"
        )
    if not named.is_file() or file_id(named) != stated:
        found = "another agent" if named.is_file() else "no file"
        raise BadCheckpoint(
            f"{path} has the encoder of agent {stated}, and there is {found} at {named}: keep the two"
            " files where they were published"
        )
    encoder = load_agent(named)[0].encoder
    return {f"{ENCODER}{name}": x for name, x in encoder.state_dict().items()}
