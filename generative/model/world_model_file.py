"""Files of world models: weights and a description of what they were trained with."""

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
from common.integrity import check_finite
from common.precision import set_precision
from generative.model.config import as_values, model_config
from generative.model.world_model import WorldModel

_ENTRIES = {
    "env": dict | None,
    "agent": dict,
    "action_names": list[str],
    "noop": int,
    "batches": int,
    "data": str,
    "split": int,
    "labels": bool,
    "seed": int,
    "train": dict,
    "loss_scales": dict,
}
"""Optional entries of a checkpoint's description besides the model's config, with their types."""
_FORMER = {"map_channels", "latent_cell", "blocks", "groups"}
"""Entries of the config of world models of the former design."""


def save_world_model(path: Path, model: WorldModel, meta: dict) -> None:
    """Writes weights and description of a model; meta names its agent, data and training."""
    save_checkpoint(
        path,
        with_prefix("model", model.state_dict()),
        {"kind": "world model", "model": as_values(model.config), **meta},
    )


def read_world_model(path: Path) -> tuple[WorldModel, dict[str, torch.Tensor], dict]:
    """Reads a checkpoint: a model of its config, its weights (not loaded into the model), its description.

    Raises BadCheckpoint for anything that `save_world_model` did not write.
    """
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != "world model":
        raise BadCheckpoint(
            f"{path} holds {described(meta.get('kind', 'something unnamed'))}, not a world model"
        )
    refuse_former_design(meta.get("model"), path)
    check_entries(meta, _ENTRIES, path, BadCheckpoint)
    weights = without_prefix("model", tensors)
    check_finite(weights, path)
    return build(lambda: WorldModel(model_config(meta["model"])), weights, path), weights, meta


def refuse_former_design(config: object, path: Path) -> None:
    """Raises BadCheckpoint for the config of a model from before frames were drawn from tiles."""
    if isinstance(config, dict) and _FORMER & config.keys():
        raise BadCheckpoint(
            f"{path} is a world model of the former design, which this version does not run; train its "
            "successor with train_gen_model.py, or take pretrained/coinrun_simulator"
        )


def load_world_model(path: Path, device: torch.device | str = "cpu") -> tuple[WorldModel, dict]:
    """Loads a checkpoint: the model in evaluation mode, and its description.

    It runs in the precision that suits this machine (`set_precision` changes it); its config holds the one it
    was trained in. Raises BadCheckpoint for anything that `save_world_model` did not write.
    """
    model, weights, meta = read_world_model(path)
    load_module(model, weights, str(path))
    set_precision("auto", model)
    return model.to(device).eval(), meta
