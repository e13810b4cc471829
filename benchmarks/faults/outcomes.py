"""What a directory of results holds: contents without clocks, final files, and files that are damaged."""

import csv
import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from safetensors import safe_open

from common.checkpoints import load_checkpoint
from common.video import read_video
from rollouts.shard import data_is_whole, data_path, read_entry
from rollouts.store import Rollouts

UNCOMPARED = ("lock", "checksums.json", "events.out.*", "latest")
CLOCKS = (
    "wall_time",
    "steps_per_second",
    "frames_per_second",
    "wait_share",
    "peak_memory_mb",
    "peak_gpu_mb",
    "seconds",
)
"""Columns and entries that say how long something took."""
PROVENANCE = ("made", "git", "command", "sha256", "machine", "threads")
"""Entries that say when and how something was made, and checksums of them."""
GROWING = (
    "log.csv",
    "progress.csv",
    "_state.safetensors",
    "best.safetensors",
    "opened.jsonl",
    "motion_data.bin",
)
"""Files that a script replaces or removes as it proceeds; all others are final once they are there, shards
once they have an entry.
"""
LEFTOVERS = (".*.part", ".*.lock", ".latest.*", ".*_[0-9a-f]*.[0-9]*")
PICTURES = (".png", ".jpg")


def files_below(directory: Path) -> list[Path]:
    """Results below a directory: no hidden files, locks or logs for viewers."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return [
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(directory).parts)
        and not any(path.match(name) for name in UNCOMPARED)
        and "latest" not in path.parts
    ]


def contents(directory: Path) -> dict[str, str]:
    """{path: hash} of every result, without clocks and provenance."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(_content(path, directory)).hexdigest()[:16]
        for path in files_below(directory)
    }


def final_files(directory: Path) -> dict[str, str]:
    """`contents` of the files that no script may change any more."""
    return {
        name: hash_
        for name, hash_ in contents(directory).items()
        if not name.endswith(GROWING) and not _awaits_entry(directory / name)
    }


def _awaits_entry(path: Path) -> bool:
    """Whether a file is the data of a shard that was not committed."""
    return path.name.startswith("shard_") and path.suffix == ".h5" and not path.with_suffix(".json").exists()


def _content(path: Path, directory: Path) -> bytes:
    """What must be equal in two runs: not the directory that they are in, nor clocks and provenance."""
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            rows = [_timeless(row) for row in csv.DictReader(file)]
        return json.dumps(rows).encode()
    if path.suffix == ".mp4":  # x264 gives other bytes, and frames that differ slightly, from run to run
        return str(read_video(path)[0].shape).encode()
    if path.suffix in (".h5", ".hdf5") and not path.with_suffix(".json").exists():
        return _arrays(path)
    if path.suffix == ".json":
        try:
            timeless = json.dumps(_timeless(json.loads(path.read_bytes())), sort_keys=True)
            return timeless.replace(str(directory), "OUT").encode()
        except ValueError:
            return path.read_bytes()
    return path.read_bytes()


def _arrays(path: Path) -> bytes:
    """Names, attributes and arrays of an HDF5 file, which itself holds the times of its groups."""
    digest = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        digest.update(f"{name} {sorted((key, str(value)) for key, value in item.attrs.items())}".encode())
        if isinstance(item, h5py.Dataset):
            array = np.asarray(item[()])
            pieces = array.flat if array.dtype.hasobject else [array]  # of variable length
            digest.update(b"".join(np.asarray(piece).tobytes() for piece in pieces))

    with h5py.File(path, locking=False) as file:
        add("", file)
        file.visititems(add)
    return digest.digest()


def _timeless(value):
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in (*CLOCKS, *PROVENANCE)}
        return {k: _timeless(v) for k, v in kept.items()}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def leftovers(directory: Path) -> list[str]:
    """Partial files and locks below a directory."""
    return sorted(str(path.relative_to(directory)) for name in LEFTOVERS for path in directory.rglob(name))


def damaged(directory: Path) -> list[str]:
    """Results that are visible under their final names and that their own reader refuses."""
    return [
        f"{path.relative_to(directory)}: {why}" for path in files_below(directory) if (why := _fault(path))
    ]


def _fault(path: Path) -> str:
    try:
        _read(path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _read(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_bytes())
        if path.name.startswith("shard_"):
            _check_shard(path)
    elif path.suffix == ".jsonl":
        [json.loads(line) for line in path.read_text().splitlines()]
    elif path.suffix == ".safetensors" and path.parent.name == "labels":
        with safe_open(path, framework="np") as file:
            list(file.keys())
    elif path.suffix == ".safetensors":
        load_checkpoint(path)
    elif path.suffix in PICTURES:
        with Image.open(path) as image:
            image.load()


def _check_shard(path: Path) -> None:
    entry = read_entry(path)
    if not data_is_whole(data_path(path.parent, entry["shard"]), entry):
        raise ValueError("its data file does not match its checksum")


def episodes_below(directory: Path) -> dict[str, set[int]]:
    """{store: ids of its committed episodes} of all stores below a directory."""
    stores = {path.parent for path in directory.rglob("shard_*.json") if not path.name.startswith(".")}
    return {
        str(store.relative_to(directory)): set(Rollouts.open(store).episodes["id"].tolist())
        for store in sorted(stores)
    }
