"""One shard: an HDF5 file of flat step arrays, and a JSON index entry with checksums and episode table.

The data file is written first and the entry last, both atomically: a shard exists only once its entry does.
Frames are compressed in chunks of CHUNK; other fields are contiguous and memory-mapped.
"""

import base64
import hashlib
import itertools
import json
import mmap
from collections.abc import Mapping
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from common.descriptions import described, fits, look_up, parse_json
from common.runs import UsageError
from rollouts.datasets import plain_dataset
from rollouts.fields import Field
from rollouts.remote import StorePath, store_path, write_file

CHUNK = 20
"""Frames per compressed chunk: for 64 x 64 frames just below 256 KiB, up to which zstd searches harder."""
LEVEL = 5
"""zstd compression level; benchmarks/storage.py measures the alternatives."""
SCHEMA = 1
_KIND = "worldlens shard"
_BLOCK = 1 << 24  # bytes by which the file under construction grows in memory


class BadStore(UsageError):
    """The directory is not a valid store of rollouts; the message says what is wrong and how to fix it."""


def data_path(store: StorePath, index: int) -> StorePath:
    return store_path(store) / f"shard_{index:05d}.h5"


def entry_path(store: StorePath, index: int) -> StorePath:
    return store_path(store) / f"shard_{index:05d}.json"


def write(
    store: StorePath, index: int, steps: Mapping[str, np.ndarray], episodes: Mapping[str, np.ndarray]
) -> None:
    """Writes the data file, then the entry. An OSError (a full disk) leaves no entry."""
    path = data_path(store, index)
    image = encode(steps)
    write_file(path, image)
    entry = {
        "kind": _KIND,
        "schema": SCHEMA,
        "shard": index,
        "num_steps": len(steps["reward"]),
        "num_episodes": len(episodes["length"]),
        "data": {"file": path.name, "bytes": len(image), "sha256": hashlib.sha256(image).hexdigest()},
        "episodes": {name: _pack(column) for name, column in episodes.items()},
    }
    write_file(entry_path(store, index), json_bytes(entry | {"sha256": _digest(entry)}))


def encode(steps: Mapping[str, np.ndarray]) -> memoryview:
    """The bytes of an HDF5 file with one dataset per field [steps, ...]; equal arrays give equal bytes."""
    with h5py.File(
        "shard", "w", driver="core", backing_store=False, block_size=_BLOCK, libver="latest"
    ) as file:
        for name, array in steps.items():
            if _is_frames(array):
                chunks = (min(CHUNK, len(array)), *array.shape[1:])
                file.create_dataset(name, data=array, chunks=chunks, **hdf5plugin.Zstd(clevel=LEVEL))
            else:
                file.create_dataset(name, data=array)
        file.flush()
        return memoryview(file.id.get_file_image())


def json_bytes(value) -> bytes:
    """A JSON file of a store, keys in the order given."""
    return (json.dumps(value, indent=2) + "\n").encode()


def read_entry(path: StorePath) -> dict:
    """Reads an index entry. Raises BadStore if it is damaged or its data file has the wrong size."""
    remedy = remedy_for(path.name)
    entry = read_mapping(path, remedy)
    stated = entry.pop("sha256", None)
    if entry.get("kind") != _KIND or stated != _digest(entry):
        raise BadStore(f"{path} is damaged: it does not match its own checksum; {remedy}")
    if entry.get("schema") != SCHEMA:
        held = described(entry.get("schema"))
        remedy = later_version(entry, _KIND, SCHEMA) or remedy
        raise BadStore(f"{path} has schema {held}; this version reads schema {SCHEMA}: {remedy}")
    try:
        _check_entry(entry, path)
        entry["episodes"] = {name: _unpack(column) for name, column in entry["episodes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadStore(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}") from error
    data = path.parent / entry["data"]["file"]
    found = data.stat().st_size if data.exists() else 0
    if found != entry["data"]["bytes"]:
        raise BadStore(
            f"{data} holds {found} bytes of {entry['data']['bytes']}: truncated or missing; {remedy}"
        )
    return entry | {"sha256": stated}


def read_mapping(path: StorePath, remedy: str, error: type[Exception] = BadStore) -> dict:
    """A JSON file of a store. Raises `error`, naming the remedy, if it holds no mapping."""
    try:
        text = path.read_text()
    except UnicodeDecodeError as cause:
        raise error(f"{path} is damaged ({cause}); {remedy}") from cause
    return parse_json(text, path, remedy, error)


def later_version(description: dict, kind: str, schema: int) -> str:
    """Advice on a file of that kind that a later version wrote; empty for any other."""
    found = description.get("schema")
    later = description.get("kind") == kind and fits(found, int) and found > schema
    return "a later version of Worldlens made it, so update this one" if later else ""


def remedy_for(name: str) -> str:
    return f"delete {name} and run the recording command again to remake this shard"


def _check_entry(entry: dict, path: StorePath) -> None:
    """Raises ValueError unless an entry names its own data file and has valid sizes."""
    kinds = {
        "shard": int,
        "num_steps": int,
        "num_episodes": int,
        "data.file": str,
        "data.bytes": int,
        "data.sha256": str,
        "episodes": dict,
    }
    for name, kind in kinds.items():
        value = look_up(entry, name, kind, path, ValueError)
        if kind is int and value < 0:
            raise ValueError(f"{name} is {value}")
    if (
        path != entry_path(path.parent, entry["shard"])
        or entry["data"]["file"] != data_path(path.parent, entry["shard"]).name
    ):
        raise ValueError(
            f"it is the entry of shard {entry['shard']} and names the data file {entry['data']['file']}"
        )


def data_is_whole(path: Path, entry: dict) -> bool:
    """Whether a shard's data file, or a copy of it, matches its checksum (reads all of it)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry["data"]["sha256"]


class Shard:
    """Step arrays of a shard, read on demand.

    Args:
        path: the data file, or a copy of it.
        fields: declared dtype and shape of every field; columns that differ are refused.
        steps: number of steps.
    """

    def __init__(self, path: Path, fields: Mapping[str, Field], steps: int):
        try:
            self._file = h5py.File(path, "r", locking=False)
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._columns = {
                name: self._open(name, plain_dataset(self._file, name), field, steps)
                for name, field in fields.items()
            }
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise unreadable(path, error) from error

    def column(self, name: str) -> np.ndarray:
        """A complete field, [steps, ...]."""
        column = self._columns[name]
        return column if isinstance(column, np.ndarray) else self._frames(column, np.arange(len(column)))

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The field at `rows` [n], in any order and with repetitions: [n, ...]; decodes each frame once."""
        column = self._columns[name]
        if isinstance(column, np.ndarray):
            return column[rows]
        wanted, where = np.unique(rows, return_inverse=True)
        return self._frames(column, wanted)[where]

    def _frames(self, column: h5py.Dataset, wanted: np.ndarray) -> np.ndarray:
        """Frames at the increasing rows `wanted` [n], read in runs of consecutive ones."""
        frames = np.empty((len(wanted), *column.shape[1:]), column.dtype)
        edges = np.flatnonzero(np.diff(wanted, prepend=-2, append=-2) != 1)
        try:
            for begin, end in itertools.pairwise(edges):
                column.read_direct(frames, np.s_[wanted[begin] : wanted[end - 1] + 1], np.s_[begin:end])
        except OSError as error:
            raise unreadable(Path(self._file.filename), error) from error
        return frames

    def _open(self, name: str, dataset: h5py.Dataset, field: Field, steps: int) -> np.ndarray | h5py.Dataset:
        declared = np.dtype(field.dtype), (steps, *field.shape)
        if (dataset.dtype, dataset.shape) != declared:
            raise ValueError(
                f"{name} is {dataset.dtype} {list(dataset.shape)}, and {field.dtype}"
                f" {list(declared[1])} is declared"
            )
        if dataset.chunks and _are_frames(field.dtype, field.shape):
            return dataset
        if dataset.chunks:
            raise ValueError(f"{name} is compressed, and only frames are")
        return np.frombuffer(self._map, dataset.dtype, dataset.size, dataset.id.get_offset()).reshape(
            dataset.shape
        )


def unreadable(path: Path, error: object) -> BadStore:
    """The error for a data file that cannot be read, with the command that says why."""
    return BadStore(
        f"{path} cannot be read ({error}); see what is damaged with: python -m"
        f" rollouts.inspect_store {path.parent} --check"
    )


def _is_frames(array: np.ndarray) -> bool:
    return _are_frames(array.dtype.name, array.shape[1:])


def _are_frames(dtype: str, shape: tuple[int, ...]) -> bool:
    return dtype == "uint8" and len(shape) >= 2


def _digest(entry: dict) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _pack(column: np.ndarray) -> dict:
    """An episode column as JSON: plain values if one-dimensional, else base64 of little-endian bytes."""
    dtype = "str" if column.dtype.kind == "U" else column.dtype.name
    if column.ndim == 1:
        return {"dtype": dtype, "values": column.tolist()}
    return {"dtype": dtype, "shape": column.shape, "base64": base64.b64encode(column.tobytes()).decode()}


def _unpack(column: dict) -> np.ndarray:
    if "values" in column:
        return np.array(column["values"], column["dtype"])
    return np.frombuffer(base64.b64decode(column["base64"]), column["dtype"]).reshape(column["shape"])
