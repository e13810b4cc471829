"""A bank of constructed scenes: pairs of states with and without one object, and their frames.

scenes.h5 holds the arrays; scenes.json describes them and holds the checksum of scenes.h5.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from common.checkpoints import write_atomically, write_json
from common.runs import UsageError
from envs.procgen import Snapshot
from rollouts.shard import encode

KIND = "worldlens scene bank"
WITH = 0
WITHOUT = 1
"""Indices along the second axis of `frames` and `states`: the scene, and its twin without the object."""


@dataclass(frozen=True)
class SceneBank:
    """n pairs of scenes.

    Attributes:
        about: JSON-able description; columns["kind"] indexes its `kinds`.
        columns: arrays [n, ...] (docs/concepts.md).
        frames: uint8 [n, 2, H, W, C], as the game draws them.
        states: n pairs of snapshots.
    """

    about: dict
    columns: dict[str, np.ndarray]
    frames: np.ndarray
    states: list[tuple[Snapshot, Snapshot]]

    def __len__(self) -> int:
        return len(self.states)

    def snapshots(self, side: int, index=None) -> list[Snapshot]:
        """Snapshots WITH or WITHOUT the object, of all pairs or those at `index`."""
        return [self.states[i][side] for i in (range(len(self)) if index is None else index)]

    def save(self, directory: Path) -> None:
        """Writes both files atomically."""
        image = encode(
            {
                "frames": self.frames,
                **_pack(self.states),
                **{f"columns/{name}": column for name, column in self.columns.items()},
            }
        )
        write_atomically(Path(directory) / "scenes.h5", lambda temporary: temporary.write_bytes(image))
        write_json(
            Path(directory) / "scenes.json",
            self.about | {"kind": KIND, "sha256": hashlib.sha256(image).hexdigest()},
        )

    @classmethod
    def open(cls, directory: Path) -> "SceneBank":
        """Reads a bank. Raises UsageError if it is missing, foreign or damaged."""
        path = Path(directory)
        again = "make it again with: python -m analysis.scene_bank --new"
        if not (path / "scenes.json").exists():
            raise UsageError(f"no scene bank in {path}: it lacks scenes.json; {again}")
        try:
            about = json.loads((path / "scenes.json").read_text())
            whole = (
                about.pop("kind") == KIND
                and about.pop("sha256") == hashlib.sha256((path / "scenes.h5").read_bytes()).hexdigest()
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
            whole = False
        if not whole:
            raise UsageError(
                f"the scene bank in {path} is damaged: its files do not match their checksum; {again}"
            )
        with h5py.File(path / "scenes.h5", "r") as file:
            columns = {name: column[:] for name, column in file["columns"].items()}
            return cls(
                about,
                columns,
                file["frames"][:],
                _unpack(file["states"][:], file["size"][:], file["sha256"][:]),
            )


def _pack(states: list[tuple[Snapshot, Snapshot]]) -> dict[str, np.ndarray]:
    """All states as one array [n, 2, longest], with lengths and checksums; adjacent twins compress best."""
    size = np.array([[len(snapshot.data) for snapshot in pair] for pair in states])
    packed = np.zeros((*size.shape, size.max()), np.uint8)
    for i, pair in enumerate(states):
        for side, snapshot in enumerate(pair):
            packed[i, side, : size[i, side]] = np.frombuffer(snapshot.data, np.uint8)
    digests = [[list(bytes.fromhex(snapshot.checksum)) for snapshot in pair] for pair in states]
    return {"states": packed, "size": size, "sha256": np.array(digests, np.int16)}


def _unpack(packed: np.ndarray, size: np.ndarray, digests: np.ndarray) -> list[tuple[Snapshot, Snapshot]]:
    def snapshot(i: int, side: int) -> Snapshot:
        return Snapshot(packed[i, side, : size[i, side]].tobytes(), bytes(digests[i, side].tolist()).hex())

    return [(snapshot(i, WITH), snapshot(i, WITHOUT)) for i in range(len(packed))]
