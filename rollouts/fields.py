"""Fields of steps and episodes in a store, as declared by its manifest, and validation of arrays against
them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

ENDS = ("terminated", "truncated", "cut")
"""How an episode ended: by the game, by its time limit, or cut by a simulation's horizon (no flag)."""
REQUIRED = ("num_actions", "action_names", "noop", "hidden_size")
"""Entries that every manifest must have."""


class Field(NamedTuple):
    """Type of one array: numpy dtype name (`str` for text) and shape of one entry."""

    dtype: str
    shape: tuple[int, ...] = ()


def step_fields(manifest: Mapping) -> dict[str, Field]:
    """Per-step fields of a store, including `extra_step_fields` of its manifest."""
    own = {
        "obs": Field("uint8", tuple(manifest.get("obs_shape", (64, 64, 3)))),
        "action": Field("uint8"),
        "reward": Field("float32"),
        "terminated": Field("bool"),
        "truncated": Field("bool"),
        "value": Field("float32"),
        "logits": Field("float32", (manifest["num_actions"],)),
        "log_prob": Field("float32"),
        "hidden": Field("float32", (manifest["hidden_size"],)),
    }
    return own | _declared(manifest, "extra_step_fields")


def episode_fields(manifest: Mapping) -> dict[str, Field]:
    """Per-episode fields that a writer supplies, including `extra_episode_fields` of the manifest."""
    own = {
        "id": Field("int64"),
        "level_seed": Field("int64"),
        "repeat": Field("int64"),
        "length": Field("int64"),
        "complete": Field("bool"),
        "behaviour": Field("str"),
        "policy_id": Field("str"),
        "final_hidden": Field("float32", (manifest["hidden_size"],)),
    }
    return own | _declared(manifest, "extra_episode_fields")


def derive(steps: Mapping[str, np.ndarray], episodes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Per-episode arrays computed from the steps: offset of the first step, sum of raw rewards, and end."""
    length = np.asarray(episodes["length"])
    offset = np.cumsum(length) - length
    last = offset + length - 1
    end = np.where(steps["terminated"][last], ENDS[0], np.where(steps["truncated"][last], ENDS[1], ENDS[2]))
    total = np.add.reduceat(steps["reward"].astype(np.float64), offset)
    return {"offset": offset, "return": total, "end": end}


def conform(
    arrays: Mapping[str, np.ndarray], fields: Mapping[str, Field], count: int
) -> dict[str, np.ndarray]:
    """Validates arrays and casts them to the declared types, in the fields' order.

    Args:
        arrays: {name: [count, ...]}.
        fields: declared fields.
        count: entries of every array.

    Raises:
        ValueError: a name, shape or value does not fit.
    """
    if arrays.keys() != fields.keys():
        missing = sorted(fields.keys() - arrays.keys())
        unknown = sorted(arrays.keys() - fields.keys())
        raise ValueError(
            f"a shard needs exactly the fields that its manifest declares: missing {missing},"
            f" undeclared {unknown}"
        )
    return {name: _conform(name, arrays[name], field, count) for name, field in fields.items()}


def check_lengths(steps: Mapping[str, np.ndarray], length: np.ndarray) -> None:
    """Raises ValueError unless episodes cover all steps and end exactly where the flags say."""
    total = len(steps["reward"])
    if not len(length) or length.min() < 1 or length.sum() != total:
        raise ValueError(
            f"{len(length)} episodes of {int(length.sum())} steps in all cannot describe {total} steps"
        )
    inside = np.ones(total, bool)
    inside[np.cumsum(length) - 1] = False
    if (steps["terminated"] | steps["truncated"])[inside].any():
        raise ValueError("an episode goes on after the step that ended it")
    if (steps["terminated"] & steps["truncated"]).any():
        raise ValueError("a step is both terminated and truncated; an episode has one end")


def _declared(manifest: Mapping, key: str) -> dict[str, Field]:
    return {
        name: Field(field["dtype"], tuple(field["shape"])) for name, field in manifest.get(key, {}).items()
    }


def _conform(name: str, array: np.ndarray, field: Field, count: int) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != (count, *field.shape):
        raise ValueError(f"{name} has shape {array.shape}; expected {(count, *field.shape)}")
    if array.dtype == field.dtype or field.dtype == "str" == array.dtype.kind:
        return np.ascontiguousarray(array)
    cast = array.astype(field.dtype)
    if not np.array_equal(cast, array):
        raise ValueError(f"{name} holds {array.dtype} values that {field.dtype} cannot")
    return cast
