"""Files of Decision Transformers: weights and a description of what they were trained with."""

from dataclasses import asdict
from pathlib import Path

import torch

from common.checkpoints import (
    BadCheckpoint,
    build,
    load_checkpoint,
    load_module,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from common.descriptions import check_entries, described
from common.precision import set_precision
from decision.config import DTConfig
from decision.model import DecisionTransformer

KIND = "decision transformer"
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

    Raises BadCheckpoint for anything that `save_dt` did not write.
    """
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != KIND:
        held = described(meta.get("kind", "something unnamed"))
        raise BadCheckpoint(f"{path} holds {held}, not a {KIND}: train one with train_dt.py")
    check_entries(meta, _ENTRIES, path, BadCheckpoint)
    weights = without_prefix("model", tensors)
    model = build(lambda: DecisionTransformer(DTConfig(**meta["model"])), weights, path)
    load_module(model, weights, str(path))
    set_precision("auto", model)
    return model.to(device).eval(), meta
