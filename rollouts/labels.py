"""Labels: a sidecar of a store of real episodes, <store>/labels/, with the truth behind every stored frame.

Replaying the game says where the view is, how the player moves and which tiles are in view. The replay is in
rollouts/labelling.py, the fields in envs/frame_labels.py. They are training targets only: models see frames.

Each shard of the store has its file of flat arrays, in the order of the shard's steps, and a JSON entry with
checksums; the file is written first and the entry last, both atomically. manifest.json holds what they share.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.descriptions import described
from common.errors import UsageError
from common.runs import manifest as versions
from common.runs import plain
from envs.frame_labels import SIDE, TILE_KINDS, label_shapes
from rollouts.fields import Field
from rollouts.remote import StorePath, copies_kept, local_copy, store_path, write_file
from rollouts.replay import check_real
from rollouts.shard import json_bytes, read_mapping
from rollouts.store import Rollouts

FOLDER = "labels"
KIND = "worldlens labels"
SCHEMA = 1
WITHOUT = "a world model trains without labels too (--labels ignore), on motion estimated from the frames"


class BadLabels(UsageError):
    """The sidecar is missing, of another store, or damaged; the message says how to fix it."""


def label_fields(rollouts: Rollouts) -> dict[str, Field]:
    """Fields that labels of this store have."""
    return {name: Field(*spec) for name, spec in label_shapes(rollouts.manifest["env"]["env_name"]).items()}


def check_labelable(rollouts: Rollouts) -> None:
    """Raises UsageError for a store whose states replaying cannot recompute."""
    check_real(rollouts)
    if "env_name" not in (rollouts.manifest.get("env") or {}):
        raise UsageError(
            f"{rollouts.path} does not name a Procgen game, and no other game's state can be read: {WITHOUT}"
        )


def data_path(store: StorePath, index: int) -> StorePath:
    return store_path(store) / FOLDER / f"labels_{index:05d}.safetensors"


def entry_path(store: StorePath, index: int) -> StorePath:
    return store_path(store) / FOLDER / f"labels_{index:05d}.json"


class Labels:
    """Labels of all steps of a store, opened for reading.

    Attributes:
        store_id: the id of the store.
        fields: {name: Field}; `tiles`, `support` and `facing` exist for CoinRun only.
        unit: pixels per tile.
    """

    def __init__(self, rollouts: Rollouts, manifest: dict, sizes: list[int]):
        self.path = rollouts.path
        self.store_id = rollouts.id
        self.unit = manifest["unit"]
        self.fields = label_fields(rollouts)
        self._entries = {entry["shard"]: entry for entry in rollouts.entries}
        self._columns = lru_cache(copies_kept(self.path, sizes))(self._open_shard)

    @classmethod
    def open(cls, rollouts: Rollouts | StorePath | str) -> "Labels":
        """Opens the labels of a store, all of whose shards must be labelled. Those of a store elsewhere are
        fetched and kept as its shards are.

        Raises:
            BadLabels: labels are missing, of another store or of another schema.
            UsageError: this store cannot have labels.
        """
        rollouts = rollouts if isinstance(rollouts, Rollouts) else Rollouts.open(rollouts)
        check_labelable(rollouts)
        manifest = _read_manifest(rollouts)
        sizes = [_read_entry(rollouts.path, entry)["bytes"] for entry in rollouts.entries]
        return cls(rollouts, manifest, sizes)

    def __reduce__(self):
        return Labels.open, (self.path,)

    def __repr__(self) -> str:
        return f"Labels({str(self.path / FOLDER)!r}, {', '.join(self.fields)})"

    def column(self, shard: int, name: str) -> np.ndarray:
        """A field of a whole shard, [steps, ...], memory-mapped. Raises BadLabels if the file is damaged."""
        if name not in self.fields:
            raise UsageError(f"no label {name!r} in {self.path / FOLDER}; it has: {', '.join(self.fields)}")
        return self._columns(int(shard))[name]

    def rows(self, shard: int, name: str, rows: np.ndarray) -> np.ndarray:
        """The field at `rows` [n] of a shard, as in `Shard.rows`: [n, ...]."""
        return self.column(shard, name)[rows]

    def _open_shard(self, index: int) -> dict[str, np.ndarray]:
        return _read(self.path, self._entries[index], self.fields)


def write_labels(store: StorePath, entry: dict, labels: dict[str, np.ndarray]) -> None:
    """Writes labels {field: [steps, ...]} of the shard with this index entry: the file, then its entry."""
    path = data_path(store, entry["shard"])
    image = save(labels)
    write_file(path, image)
    about = {
        "kind": KIND,
        "schema": SCHEMA,
        "shard": entry["shard"],
        "shard_sha256": entry["sha256"],
        "data": {"file": path.name, "bytes": len(image), "sha256": hashlib.sha256(image).hexdigest()},
    }
    write_file(entry_path(store, entry["shard"]), json_bytes(about))


def _read_entry(store: StorePath, entry: dict) -> dict:
    """What the label entry of a shard says of its data file. Raises BadLabels unless it belongs to this shard
    and the file has the stated size.
    """
    path = entry_path(store, entry["shard"])
    data = data_path(store, entry["shard"])
    if not path.exists():
        raise BadLabels(f"shard {entry['shard']} of {store} has no labels: {_remedy(store)}")
    about = read_mapping(path, _remedy(store), BadLabels)
    _check_schema(about, path, store)
    if about.get("shard_sha256") != entry["sha256"]:
        raise BadLabels(f"{path} labels another recording of its shard: {_remedy(store)}")
    stated = about.get("data") if isinstance(about.get("data"), dict) else {}
    found = data.stat().st_size if data.exists() else 0
    if found != stated.get("bytes"):
        raise BadLabels(
            f"{data} holds {found} bytes of {described(stated.get('bytes'))}: truncated or missing;"
            f" {_remedy(store)}"
        )
    return stated


@contextmanager
def checked_labels(store: StorePath, entry: dict) -> Iterator[Path]:
    """The file of a shard's labels, or a local copy. Raises BadLabels unless the labels are of this shard and
    match their checksum (reads them all).
    """
    stated = _read_entry(store, entry)
    path = data_path(store, entry["shard"])
    with local_copy(path) as copy:
        with open(copy, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != stated.get("sha256"):
            raise BadLabels(f"{path} is damaged: it does not match its checksum; {_remedy(store)}")
        yield copy


def _read(store: StorePath, entry: dict, fields: dict[str, Field]) -> dict[str, np.ndarray]:
    """The label arrays of a shard, memory-mapped. Raises BadLabels if they do not match their checksum."""
    path = data_path(store, entry["shard"])
    with checked_labels(store, entry) as copy:
        try:
            with safe_open(copy, framework="pt") as file:
                labels = {name: file.get_tensor(name).numpy() for name in file.keys()}
        except (SafetensorError, OSError) as error:
            raise BadLabels(f"{path} cannot be read ({error}); {_remedy(store)}") from error
    found = {name: (column.dtype.name, column.shape) for name, column in labels.items()}
    if found != {name: (f.dtype, (entry["num_steps"], *f.shape)) for name, f in fields.items()}:
        raise BadLabels(f"{path} does not hold the fields that labels have; {_remedy(store)}")
    return labels


def _about(rollouts: Rollouts) -> dict:
    """What all label files of a store share, aside from the unit."""
    return plain(
        {
            "kind": KIND,
            "schema": SCHEMA,
            "store": rollouts.id,
            "env": rollouts.manifest["env"],
            "side": SIDE,
            "tile_kinds": TILE_KINDS,
            "fields": {name: field._asdict() for name, field in label_fields(rollouts).items()},
        }
    )


def write_manifest(rollouts: Rollouts, unit: float) -> None:
    """Writes manifest.json with its checksum, unless a sound one of this store is there."""
    if not manifest_stands(rollouts):
        manifest = _about(rollouts) | {"unit": unit, "made": plain(versions())}
        write_file(_manifest_path(rollouts), json_bytes(manifest | {"sha256": _digest(manifest)}))


def manifest_stands(rollouts: Rollouts) -> bool:
    """Whether manifest.json is sound and of this store."""
    try:
        _read_manifest(rollouts)
    except BadLabels:
        return False
    return True


def _read_manifest(rollouts: Rollouts) -> dict:
    """The manifest of a store's labels. Raises BadLabels if it is missing, damaged, or of another store."""
    store = rollouts.path
    path = _manifest_path(rollouts)
    if not path.exists():
        raise BadLabels(f"{store} has no labels: {_remedy(store)}; {WITHOUT}")
    manifest = read_mapping(path, _remedy(store), BadLabels)
    _check_schema(manifest, path, store)
    if manifest.get("store") != rollouts.id:
        raise BadLabels(
            f"{path} describes labels of store {described(manifest.get('store'))}, and {store} is"
            f" {rollouts.id}: another recording, or one that has grown since; {_remedy(store)}"
        )
    stated = manifest.pop("sha256", None)
    if stated != _digest(manifest) or manifest != manifest | _about(rollouts):
        raise BadLabels(f"{path} is damaged: it does not match its own checksum; {_remedy(store)}")
    return manifest


def _manifest_path(rollouts: Rollouts) -> StorePath:
    return rollouts.path / FOLDER / "manifest.json"


def _digest(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def _check_schema(about: dict, path: StorePath, store: StorePath) -> None:
    if (about.get("kind"), about.get("schema")) != (KIND, SCHEMA):
        raise BadLabels(
            f"{path} holds {described(about.get('kind'))}, schema {described(about.get('schema'))}; this"
            f" version reads {KIND!r}, schema {SCHEMA}: {_remedy(store)}"
        )


def _remedy(store: StorePath) -> str:
    return f"make them with: python label.py --data_dir {store}"
