"""The manifest of a store: what was recorded and how, with a checksum; validated on every read."""

import hashlib
import json
import math
from collections.abc import Mapping

from common.descriptions import described, fits
from rollouts.fields import REQUIRED
from rollouts.remote import StorePath, store_path, write_file
from rollouts.shard import BadStore, json_bytes, later_version, read_mapping

KIND = "worldlens rollouts"
SCHEMA = 2
"""Schema 1 has no checksum and is still read."""
MOST_ACTIONS = 256
"""An action is stored in a byte."""
_LARGEST_WIDTH = 2**20
_LARGEST_FRAME = 2**28
_DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "float16",
    "float32",
    "float64",
    "str",
)
_KINDS = {
    "num_actions": int,
    "action_names": list[str],
    "noop": int,
    "hidden_size": int,
    "obs_shape": list[int],
    "env": dict | None,
    "plan": dict,
    "sampling": dict,
    "core_parts": dict,
    "policies": list[str],
    "simulated": bool,
    "extra_step_fields": dict,
    "extra_episode_fields": dict,
    "interventions": dict,
    "num_envs": int,
    "precision": str,
}


def write_manifest(path: StorePath, manifest: dict) -> None:
    """Writes manifest.json with its checksum, atomically."""
    manifest = {name: value for name, value in manifest.items() if name != "sha256"} | {"schema": SCHEMA}
    write_file(store_path(path) / "manifest.json", json_bytes(manifest | {"sha256": _digest(manifest)}))


def read_manifest(path: StorePath) -> dict:
    """Reads a manifest. Raises BadStore if it is missing, foreign or damaged."""
    file = store_path(path) / "manifest.json"
    if not file.exists():
        raise BadStore(
            f"no store of rollouts at {path}: it lacks manifest.json; record one with: python"
            " record.py --help"
        )
    manifest = read_mapping(file, "it is foreign or damaged: choose another directory")
    if manifest.get("kind") != KIND or manifest.get("schema") not in (1, SCHEMA):
        held = f"{described(manifest.get('kind'))}, schema {described(manifest.get('schema'))}"
        remedy = later_version(manifest, KIND, SCHEMA) or "record it again"
        raise BadStore(f"{path} holds {held}; this version reads {KIND!r}, schema 1 to {SCHEMA}: {remedy}")
    stated = manifest.pop("sha256", None)
    remedy = "restore it or record again under another name"
    if manifest["schema"] == SCHEMA and stated != _digest(manifest):
        raise BadStore(f"{file} is damaged: it does not match its own checksum; {remedy}")
    try:
        check_manifest(manifest)
    except ValueError as error:
        raise BadStore(f"{file} is damaged: {error}; {remedy}") from error
    return manifest


def check_manifest(manifest: Mapping) -> None:
    """Raises ValueError, naming the entry, for an invalid manifest."""
    missing = [name for name in REQUIRED if name not in manifest]
    if missing:
        raise ValueError(f"the manifest of a store must say: {', '.join(missing)}")
    for name in _KINDS.keys() & manifest.keys():
        if not fits(manifest[name], _KINDS[name]):
            raise ValueError(f"its {name} is {described(manifest[name])}")
    actions = manifest["num_actions"]
    shape = manifest.get("obs_shape", [64, 64, 3])
    right = {
        "num_actions": 1 <= actions <= MOST_ACTIONS,
        "action_names": len(manifest["action_names"]) == actions,
        "noop": 0 <= manifest["noop"] < actions,
        "hidden_size": 0 <= manifest["hidden_size"] <= _LARGEST_WIDTH,
        "obs_shape": len(shape) == 3 and min(shape) > 0 and math.prod(shape) <= _LARGEST_FRAME,
    }
    for name, holds in right.items():
        if not holds:
            raise ValueError(f"its {name} is {described(manifest.get(name))}, with {actions} actions")
    for key in ("extra_step_fields", "extra_episode_fields"):
        for name, field in manifest.get(key, {}).items():
            if not (
                isinstance(field, dict) and field.get("dtype") in _DTYPES and _is_shape(field.get("shape"))
            ):
                raise ValueError(f"its {key} says of {name}: {described(field)}")


def _is_shape(value) -> bool:
    return fits(value, list[int]) and all(size > 0 for size in value) and math.prod(value) <= _LARGEST_FRAME


def _digest(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
