"""The store of rollouts: a directory with one manifest and immutable shards, read through an episode table in memory.

Shards are independent of each other: several jobs may write different ones at once, and a kill loses only the one in
progress. Time follows rollouts/segment.py: hidden[t] stands before obs[t], and the last hidden state of an episode is kept.
"""

import hashlib
import json
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.checkpoints import write_json
from common.locks import Locked, held, remove_abandoned
from common.runs import UsageError, manifest as versions, plain
from rollouts import shard as shards
from rollouts.fields import REQUIRED, check_lengths, conform, derive, episode_fields, step_fields
from rollouts.shard import SCHEMA, BadStore, Shard
from rollouts.windows import Windows, window_table

KIND = "worldlens rollouts"
_OPEN_SHARDS = 128  # two file descriptors each


def create_store(path: Path, manifest: dict) -> None:
    """Makes the directory with its manifest, or checks that the one there says the same. Raises UsageError if it does not.

    manifest: JSON-able; REQUIRED says what it must hold; `obs_shape`, `extra_step_fields` and `extra_episode_fields`
    ({name: {"dtype", "shape"}}) say how the arrays differ from the default ones. Versions are added under `made`.
    """
    missing = [name for name in REQUIRED if name not in manifest]
    if missing:
        raise ValueError(f"the manifest of a store must say: {', '.join(missing)}")
    path, asked = Path(path), plain({"kind": KIND, "schema": SCHEMA} | manifest)
    if not (path / "manifest.json").exists():
        if path.is_dir() and any(not file.name.startswith(".") for file in path.iterdir()):  # hidden: another job's, begun at the same time
            raise UsageError(f"{path} is in use and holds no store; choose another place")
        write_json(path / "manifest.json", asked | {"made": versions()})
        return
    found = {name: value for name, value in _read_manifest(path).items() if name != "made"}
    if "precision" not in found:  # stores of before there was a choice do not say it
        asked.pop("precision", None)
    differing = "; ".join(_differences(found, asked))
    if differing:
        raise UsageError(f"{path} was made with {differing}: choose another name or delete that store")


def recorded_precision(path: Path) -> str | None:
    """The precision, bf16 or fp32, that the store's manifest says its networks ran in; None where there is no store yet, or none was noted."""
    return _read_manifest(path).get("precision") if (Path(path) / "manifest.json").exists() else None


def _differences(found, asked, name: str = "") -> Iterator[str]:
    """Where two plain values differ, down to the entries of nested mappings: `plan.seed = 0, not 1`."""
    if isinstance(found, dict) and isinstance(asked, dict):
        for key in sorted(found.keys() | asked.keys()):
            yield from _differences(found.get(key), asked.get(key), f"{name}.{key}" if name else key)
    elif found != asked:
        yield f"{name} = {_short(found)}, not {_short(asked)}"


def _short(value) -> str:
    """A value in a few words: of a mapping its keys, of a long list its beginning."""
    return textwrap.shorten(f"{{{', '.join(value)}}}" if isinstance(value, dict) else str(value), 60, placeholder=" ...")


def unwritten(path: Path, indices: Iterable[int]) -> Iterator[int]:
    """Those shards that are not there yet, each locked until the next is asked for, so that no other process makes it too.

    Raises UsageError at a shard that another process is making.
    """
    remove_abandoned(Path(path).glob(".shard_*.lock"))
    for index in indices:
        if shard_done(path, index):
            continue
        try:
            with held(Path(path) / f".shard_{index:05d}.lock"):
                if not shard_done(path, index):  # as it may be by now
                    yield index
        except Locked as holder:
            way_out = "wait for it or stop it, then run this command again, or give each job its own --shards"
            raise UsageError(f"shard {index} of {path} is being made by {holder}: {way_out}") from holder


def shards_kept(path: Path, indices: Sequence[int]) -> str:
    """How many of the shards asked for are there, in words; nothing where none is."""
    done = sum(shard_done(path, index) for index in indices)
    return f"{done} of {len(indices)} shards are whole in {path}" if done else ""


def write_shard(path: Path, index: int, steps: dict[str, np.ndarray], episodes: dict[str, np.ndarray]) -> None:
    """Writes shard `index`, unless it is there already.

    steps: the fields of `step_fields(manifest)`, [sum of lengths, ...], episode after episode. episodes: those of
    `episode_fields(manifest)`, [episodes, ...]; offset, return and end are worked out here. Raises ValueError where
    these do not fit the manifest or each other.
    """
    if shard_done(path, index):
        return
    manifest, episodes = _read_manifest(Path(path)), dict(episodes)
    given = {name: episodes.pop(name) for name in ("offset", "return", "end") if name in episodes}
    steps = conform(steps, step_fields(manifest), len(steps["reward"]))
    episodes = conform(episodes, episode_fields(manifest), len(episodes["length"]))
    check_lengths(steps, episodes["length"])
    derived = derive(steps, episodes)
    for name, column in given.items():
        if not np.array_equal(column, derived[name]):
            raise ValueError(f"the episodes' {name!r} disagrees with their steps")
    shards.write(Path(path), index, steps, episodes | derived)


def shard_done(path: Path, index: int) -> bool:
    """Whether shard `index` is whole: its index entry, which is written last, is there. Raises BadStore for a damaged shard."""
    entry = shards.entry_path(path, index)
    return entry.exists() and bool(shards.read_entry(entry))


class Rollouts:
    """Episodes of a store. Steps of all shards count as one sequence, in the order of the episode table.

    manifest: what was recorded, how. episodes: arrays [E, ...] by name (docs/data_format.md). first_step [E]: index of
    an episode's first step in `steps(...)`. id: hash of the shards' checksums.
    """

    def __init__(self, path: Path, manifest: dict, entries: list[dict]):
        self.path, self.manifest, self.entries = path, manifest, entries
        self.step_fields = step_fields(manifest)
        self.id = hashlib.sha256("".join(entry["sha256"] for entry in entries).encode()).hexdigest()[:16]
        self.episodes = {name: np.concatenate([entry["episodes"][name] for entry in entries]) for name in entries[0]["episodes"]}
        self.episodes["shard"] = np.repeat([entry["shard"] for entry in entries], [entry["num_episodes"] for entry in entries])
        self.first_step = np.cumsum(self.episodes["length"]) - self.episodes["length"]
        self.num_steps = int(self.episodes["length"].sum())
        self._opened = lru_cache(_OPEN_SHARDS)(self._open_shard)

    @classmethod
    def open(cls, path: Path) -> "Rollouts":
        """Reads manifest and index. Raises BadStore for what is missing, foreign, truncated or damaged."""
        path = Path(path)
        manifest = _read_manifest(path)
        entries = [shards.read_entry(entry) for entry in sorted(path.glob("shard_*.json"))]
        if not entries:
            raise BadStore(f"{path} holds no episodes yet: run its recording command again to fill it")
        return cls(path, manifest, entries)

    def __len__(self) -> int:
        return len(self.episodes["length"])

    @property
    def simulated(self) -> bool:
        """Whether the episodes are simulated: they begin in mid-episode, with the hidden state of that moment."""
        return bool(self.manifest.get("simulated", False))

    def __reduce__(self):
        return Rollouts.open, (self.path,)

    def shard(self, index: int) -> Shard:
        """Shard number `index`, open for reading (each process opens its own)."""
        return self._opened(int(index), os.getpid())

    def episode(self, i: int) -> dict[str, np.ndarray]:
        """All steps of episode `i`: [T, ...] by field name; `hidden` is [T + 1, D], the final state last."""
        shard, begin = self.shard(self.episodes["shard"][i]), self.episodes["offset"][i]
        rows = np.arange(begin, begin + self.episodes["length"][i])
        steps = {name: shard.rows(name, rows) for name in self.step_fields}
        steps["hidden"] = np.concatenate([steps["hidden"], self.episodes["final_hidden"][i, None]])
        return steps

    def steps(self, name: str) -> np.ndarray:
        """A whole column, [num_steps, ...]: a step field, or `hidden_after`. `chunks` gives it shard by shard."""
        return np.concatenate(list(self.chunks(name)))

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """The column `steps(name)` in pieces, one shard's at a time."""
        if name != "hidden_after" and name not in self.step_fields:
            raise ValueError(f"no step field {name!r} in {self.path}; it has: {', '.join(self.step_fields)}, hidden_after")
        for entry in self.entries:
            shard = self.shard(entry["shard"])
            yield _shifted(shard.column("hidden"), entry["episodes"]) if name == "hidden_after" else shard.column(name)

    def hidden_after(self) -> np.ndarray:
        """The hidden state at every step, which always means the one after the observation: [num_steps, D]."""
        return self.steps("hidden_after")

    def step_table(self) -> np.ndarray:
        """[num_steps, 2]: the episode of each step and its time within the episode."""
        length = self.episodes["length"]
        return np.stack([np.repeat(np.arange(len(self)), length), np.arange(self.num_steps) - np.repeat(self.first_step, length)], axis=1)

    def windows(self, length: int, anchor: str = "start", pad: str = "right", min_steps: int = 1) -> Windows:
        """Windows of `length` steps; see `window_table`. Raises ValueError for a combination that makes no sense."""
        return Windows(self, length, window_table(self.episodes["length"], length, anchor, pad, min_steps))

    def _open_shard(self, index: int, process: int) -> Shard:
        return Shard(shards.data_path(self.path, index), self.step_fields)


def _shifted(hidden: np.ndarray, episodes: dict[str, np.ndarray]) -> np.ndarray:
    """States before each observation -> states after it: the next row's, or the final one at an episode's last step."""
    after = np.empty_like(hidden)
    after[:-1] = hidden[1:]
    after[episodes["offset"] + episodes["length"] - 1] = episodes["final_hidden"]
    return after


def _read_manifest(path: Path) -> dict:
    file = path / "manifest.json"
    if not file.exists():
        raise BadStore(f"no store of rollouts at {path}: it lacks manifest.json; record one with: python record.py --help")
    try:
        manifest = json.loads(file.read_text())
        foreign = manifest["kind"] != KIND
    except (ValueError, KeyError, TypeError) as error:
        raise BadStore(f"{file} is not the manifest of a store of rollouts: foreign or damaged; choose another directory") from error
    if foreign or manifest.get("schema") != SCHEMA:
        held = f"{manifest['kind']!r}, schema {manifest.get('schema')}"
        raise BadStore(f"{path} holds {held}; this version reads {KIND!r}, schema {SCHEMA}: record it again")
    missing = [name for name in REQUIRED if name not in manifest]
    if missing:
        raise BadStore(f"{file} is damaged: it lacks {', '.join(missing)}; restore it or record again under another name")
    return manifest
