"""Truncates files and flips their bits: each reader must refuse the file, or read what was written."""

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from common.checkpoints import BadCheckpoint, load_checkpoint
from common.runs import UsageError, check_finished, read_config
from rollouts.labels import Labels
from rollouts.store import Rollouts

Reader = Callable[[Path], str]
"""Reads all that a file says and returns a hash of it."""
REFUSALS = (UsageError, BadCheckpoint)
SOURCES = (
    "label",
    "record_gen_samples",
    "train",
    "train_gen_model",
    "train_dt",
    "saliency_exps",
    "hidden_analysis_precompute",
)
"""Scripts whose results are damaged."""


def damage_often(references: Path, place: Path, times: int, draw: random.Random) -> dict[str, dict[str, int]]:
    """Damages one file of each kind `times` times, half by truncation and half by a flipped bit.

    Returns:
        {kind: counts}: damages, refused, read as good although it differs, and failed in any other way.
    """
    counts = {}
    for kind, path, read in stored_files(references):
        copy = place / kind.replace(" ", "_")
        shutil.rmtree(copy, ignore_errors=True)
        folder = _folder_of(kind, path)
        shutil.copytree(folder, copy)
        counts[kind] = _damage(copy / path.relative_to(folder), copy, read, times, draw)
        shutil.rmtree(copy)
    return counts


def _folder_of(kind: str, path: Path) -> Path:
    """The store or run that a file belongs to."""
    return path.parents[1] if kind.startswith("labels") else path.parent


def _damage(path: Path, folder: Path, read: Reader, times: int, draw: random.Random) -> dict[str, int]:
    whole, expected = path.read_bytes(), read(folder)
    found = {"damages": times, "refused": 0, "read_as_good": 0, "failed": 0}
    for number in range(times):
        path.write_bytes(_damaged(whole, number % 2 == 0, draw))
        try:
            found["read_as_good"] += read(folder) != expected
        except REFUSALS:
            found["refused"] += 1
        except Exception:
            found["failed"] += 1
    return found


def _damaged(whole: bytes, cut: bool, draw: random.Random) -> bytes:
    at = draw.randrange(len(whole))
    if cut:
        return whole[:at]
    return whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :]


def stored_files(references: Path) -> Iterator[tuple[str, Path, Reader]]:
    """(kind, a file of it, its reader) for every kind of file that is read again."""
    store = references / "label" / "data" / "test"
    yield "shard data", store / "shard_00001.h5", _read_store
    yield "shard entry", store / "shard_00001.json", _read_store
    yield "store manifest", store / "manifest.json", _read_store
    yield "labels data", store / "labels" / "labels_00001.safetensors", _read_labels
    yield "labels entry", store / "labels" / "labels_00001.json", _read_labels
    yield "labels manifest", store / "labels" / "manifest.json", _read_labels
    simulated = references / "record_gen_samples" / "store"
    yield "simulated shard data", simulated / "shard_00001.h5", _read_store
    for kind, script, pattern in (
        ("agent", "train", "model_0.safetensors"),
        ("agent training state", "train", "train_state.safetensors"),
        ("world model", "train_gen_model", "model_*.safetensors"),
        ("decision transformer", "train_dt", "best.safetensors"),
        ("saliency maps", "saliency_exps", "*.safetensors"),
        ("directions", "hidden_analysis_precompute", "pca*.safetensors"),
        ("step arrays", "hidden_analysis_precompute", "labels.safetensors"),
    ):
        for path in sorted((references / script).rglob(pattern))[:1]:
            yield kind, path, _checkpoint_reader(path.name)
    for path in sorted((references / "hidden_analysis_precompute").rglob("numbers.json"))[:1]:
        yield "step numbers", path, _read_run
        yield "step configuration", path.with_name("config.json"), _read_run


def _read_store(folder: Path) -> str:
    rollouts = Rollouts.open(folder)
    columns = [*rollouts.episodes.values(), *(rollouts.steps(name) for name in rollouts.step_fields)]
    return _hash(columns) + str(rollouts.manifest)


def _read_labels(folder: Path) -> str:
    rollouts = Rollouts.open(folder)
    labels = Labels.open(rollouts)
    shards = [entry["shard"] for entry in rollouts.entries]
    return _hash([labels.column(shard, name) for shard in shards for name in labels.fields])


def _checkpoint_reader(name: str) -> Reader:
    def read(folder: Path) -> str:
        tensors, meta = load_checkpoint(folder / name)
        return _hash([tensors[key].float().numpy() for key in sorted(tensors)]) + str(meta)

    return read


def _read_run(folder: Path) -> str:
    check_finished(folder)
    return str(read_config(folder)) + (folder / "numbers.json").read_text()


def _hash(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
