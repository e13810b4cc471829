"""Rollouts: a directory with one manifest and immutable shards, and an episode table in memory.

Shards are independent: several jobs may write different ones at once, and a killed process loses only the one
in progress. Time follows rollouts/segment.py: hidden[t] is the state before obs[t], and the final state of
every episode is kept.
"""

import hashlib
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.descriptions import fits
from common.locks import Locked
from common.runs import UsageError, plain
from common.runs import manifest as versions
from rollouts import shard as shards
from rollouts.fields import Field, check_lengths, conform, derive, episode_fields, step_fields
from rollouts.growth import GROWN
from rollouts.manifest import KIND, SCHEMA, check_manifest, read_manifest, write_manifest
from rollouts.remote import (
    StorePath,
    copies_kept,
    local_copy,
    lock,
    remove_abandoned_locks,
    store_path,
)
from rollouts.shard import BadStore, Shard
from rollouts.windows import Windows, window_table

if TYPE_CHECKING:
    from rollouts.labels import Labels

GROWING = {"plan": "num_episodes", "sampling": "num_samples"}
"""Where a manifest plans the number of episodes, the only entry that may change (upwards)."""
_OPEN_SHARDS = 128  # two file descriptors each


def create_store(path: StorePath, manifest: dict) -> None:
    """Creates a store with its manifest, or checks that the existing manifest is the same.

    A larger number of episodes is allowed: the store grows (rollouts/growth.py).

    Args:
        path: the directory.
        manifest: JSON-able; must hold `rollouts.fields.REQUIRED`; `obs_shape`, `extra_step_fields` and
            `extra_episode_fields` ({name: {"dtype", "shape"}}) declare deviations from the default fields.
            Versions are added under `made`.

    Raises:
        UsageError: the existing manifest differs.
        ValueError: the manifest is invalid.
    """
    path, asked = store_path(path), plain({"kind": KIND, "schema": SCHEMA} | manifest)
    check_manifest(asked)
    there = [file.name for file in path.iterdir()] if path.is_dir() else []
    if "manifest.json" not in there:
        # hidden: another job's, begun at the same time
        if any(not name.startswith(".") for name in there):
            raise UsageError(f"{path} is in use and holds no store; choose another place")
        write_manifest(path, asked | {"made": versions()})
        return
    there = read_manifest(path)
    found = {name: value for name, value in there.items() if name != "made"} | {"schema": SCHEMA}
    if "precision" not in found:  # stores of before there was a choice do not say it
        asked.pop("precision", None)
    differing = list(_differences(*_aside_from_growth(found, asked)))
    if differing:
        raise UsageError(
            f"{path} was made with {'; '.join(differing)}: choose another name or delete that store"
        )
    if found != asked:
        write_manifest(path, there | {name: asked[name] for name in GROWING if name in asked})


def _aside_from_growth(found: dict, asked: dict) -> tuple[dict, dict]:
    """Both manifests without the number of episodes, if the second plans no fewer."""
    found, asked = dict(found), dict(asked)
    for section in GROWING.keys() & found.keys() & asked.keys():
        before, now = (manifest[section].get(GROWING[section]) for manifest in (found, asked))
        if fits(before, int) and fits(now, int) and before <= now:
            for manifest in (found, asked):
                manifest[section] = {
                    name: value
                    for name, value in manifest[section].items()
                    if name not in (GROWING[section], GROWN)
                }
    return found, asked


def recorded_precision(path: StorePath) -> str | None:
    """The precision, bf16 or fp32, that the store's manifest says its networks ran in; None where there is no
    store yet, or none was noted.
    """
    return read_manifest(path).get("precision") if (store_path(path) / "manifest.json").exists() else None


def _differences(found, asked, name: str = "") -> Iterator[str]:
    """Where two plain values differ, down to the entries of nested mappings: `plan.seed = 0, not 1`."""
    if isinstance(found, dict) and isinstance(asked, dict):
        for key in sorted(found.keys() | asked.keys()):
            yield from _differences(found.get(key), asked.get(key), f"{name}.{key}" if name else key)
    elif found != asked:
        yield f"{name} = {_short(found)}, not {_short(asked)}"


def _short(value) -> str:
    """A value in a few words: of a mapping its keys, of a long list its beginning."""
    return textwrap.shorten(
        f"{{{', '.join(value)}}}" if isinstance(value, dict) else str(value), 60, placeholder=" ..."
    )


def unwritten(path: StorePath, indices: Iterable[int]) -> Iterator[int]:
    """Yields missing shards, each locked until the next is requested, so that no other process writes it.

    Raises:
        UsageError: another process writes one of them.
    """
    path = store_path(path)
    remove_abandoned_locks(path, ".shard_*.lock")
    for index in indices:
        if shard_done(path, index):
            continue
        try:
            with lock(path / f".shard_{index:05d}.lock"):
                if not shard_done(path, index):  # as it may be by now
                    yield index
        except Locked as holder:
            remedy = "wait for it or stop it, then run this command again, or give each job its own --job"
            raise UsageError(f"shard {index} of {path} is being made by {holder}: {remedy}") from holder


def shards_kept(path: StorePath, indices: Sequence[int]) -> str:
    """Message of how many of the requested shards exist; empty if none does."""
    done = sum(shard_done(path, index) for index in indices)
    return f"{done} of {len(indices)} shards are whole in {path}" if done else ""


def write_shard(
    path: StorePath, index: int, steps: dict[str, np.ndarray], episodes: dict[str, np.ndarray]
) -> None:
    """Writes shard `index` unless it exists.

    Args:
        path: the store.
        index: shard index.
        steps: fields of `step_fields(manifest)`, [sum of lengths, ...], episode after episode.
        episodes: fields of `episode_fields(manifest)`, [episodes, ...]; offset, return and end are computed.

    Raises:
        ValueError: the arrays do not fit the manifest or each other.
    """
    if shard_done(path, index):
        return
    manifest, episodes = read_manifest(path), dict(episodes)
    given = {name: episodes.pop(name) for name in ("offset", "return", "end") if name in episodes}
    steps = conform(steps, step_fields(manifest), len(steps["reward"]))
    episodes = conform(episodes, episode_fields(manifest), len(episodes["length"]))
    check_lengths(steps, episodes["length"])
    derived = derive(steps, episodes)
    for name, column in given.items():
        if not np.array_equal(column, derived[name]):
            raise ValueError(f"the episodes' {name!r} disagrees with their steps")
    shards.write(path, index, steps, episodes | derived)


def shard_done(path: StorePath, index: int) -> bool:
    """Whether shard `index` is complete, which is when its index entry exists. Raises BadStore if it is
    damaged.
    """
    entry = shards.entry_path(path, index)
    return entry.exists() and bool(shards.read_entry(entry))


class Rollouts:
    """Episodes of a store; the steps of all shards form one sequence in the order of the episode table.

    Attributes:
        manifest: what was recorded and how.
        episodes: {name: [E, ...]} (docs/data_format.md).
        first_step: [E] index of each episode's first step in `steps(...)`.
        id: hash of the shards' checksums.
    """

    def __init__(self, path: StorePath, manifest: dict, entries: list[dict]):
        self.path = path
        self.manifest = manifest
        self.entries = entries
        self.step_fields = step_fields(manifest)
        self.id = hashlib.sha256("".join(entry["sha256"] for entry in entries).encode()).hexdigest()[:16]
        self.episodes = {
            name: np.concatenate([entry["episodes"][name] for entry in entries])
            for name in entries[0]["episodes"]
        }
        self.episodes["shard"] = np.repeat(
            [entry["shard"] for entry in entries], [entry["num_episodes"] for entry in entries]
        )
        self.first_step = np.cumsum(self.episodes["length"]) - self.episodes["length"]
        self.num_steps = int(self.episodes["length"].sum())
        self._whole: set[int] = set()  # shards whose checksum holds
        kept = copies_kept(path, [entry["data"]["bytes"] for entry in entries], _OPEN_SHARDS)
        self._opened = lru_cache(kept)(self._open_shard)

    @classmethod
    def open(cls, path: StorePath | str) -> "Rollouts":
        """Opens a store. Raises BadStore if it is missing, foreign, truncated or damaged.

        Args:
            path: a directory, or a URL of fsspec (s3://bucket/name), whose shards are fetched when they are
                needed and kept on the local disk up to rollouts.remote.CACHE_BYTES.
        """
        path = store_path(path)
        manifest = read_manifest(path)
        entries = [shards.read_entry(entry) for entry in sorted(path.glob("shard_*.json"))]
        if not entries:
            raise BadStore(f"{path} holds no episodes yet: run its recording command again to fill it")
        for entry in entries:
            check_table(entry, path, manifest)
        return cls(path, manifest, entries)

    def __len__(self) -> int:
        return len(self.episodes["length"])

    def __repr__(self) -> str:
        game = (self.manifest.get("env") or {}).get("env_name", "unnamed game")
        kind = "simulated" if self.simulated else "real"
        return (
            f"Rollouts({str(self.path)!r}, {game}, {kind}, {len(self):,} episodes, {self.num_steps:,} steps)"
        )

    @property
    def simulated(self) -> bool:
        """Whether episodes are simulated: these begin in mid-episode with the corresponding hidden state."""
        return bool(self.manifest.get("simulated", False))

    def __reduce__(self):
        return Rollouts.open, (self.path,)

    def shard(self, index: int) -> Shard:
        """Shard `index`, open for reading (each process opens its own)."""
        return self._opened(int(index), os.getpid())

    def episode(self, i: int) -> dict[str, np.ndarray]:
        """All steps of episode `i`: {field: [T, ...]}; `hidden` is [T + 1, D] with the final state last."""
        shard = self.shard(self.episodes["shard"][i])
        begin = self.episodes["offset"][i]
        rows = np.arange(begin, begin + self.episodes["length"][i])
        steps = {name: shard.rows(name, rows) for name in self.step_fields}
        steps["hidden"] = np.concatenate([steps["hidden"], self.episodes["final_hidden"][i, None]])
        return steps

    def steps(self, name: str) -> np.ndarray:
        """A complete step field (or `hidden_after`), [num_steps, ...]. `chunks` yields it shard by shard."""
        return np.concatenate(list(self.chunks(name)))

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """Yields the column `steps(name)` shard by shard."""
        if name != "hidden_after" and name not in self.step_fields:
            raise ValueError(
                f"no step field {name!r} in {self.path}; it has: {', '.join(self.step_fields)}, hidden_after"
            )
        for entry in self.entries:
            shard = self.shard(entry["shard"])
            yield (
                _shifted(shard.column("hidden"), entry["episodes"])
                if name == "hidden_after"
                else shard.column(name)
            )

    def hidden_after(self) -> np.ndarray:
        """Hidden state after the observation of every step, [num_steps, D]."""
        return self.steps("hidden_after")

    def step_table(self) -> np.ndarray:
        """Episode index and time within the episode of every step, [num_steps, 2]."""
        length = self.episodes["length"]
        return np.stack(
            [
                np.repeat(np.arange(len(self)), length),
                np.arange(self.num_steps) - np.repeat(self.first_step, length),
            ],
            axis=1,
        )

    def windows(
        self,
        length: int,
        anchor: str = "start",
        pad: str = "right",
        min_steps: int = 1,
        labels: "Labels | None" = None,
    ) -> Windows:
        """Windows of `length` steps, with `labels` if given; see `window_table`. Raises ValueError for an
        invalid combination.
        """
        table = window_table(self.episodes["length"], length, anchor, pad, min_steps)
        return Windows(self, length, table, labels)

    def _open_shard(self, index: int, process: int) -> Shard:
        entry = next(entry for entry in self.entries if entry["shard"] == index)
        path = shards.data_path(self.path, index)
        known = index in self._whole and isinstance(path, Path)  # elsewhere, every fetch is checked
        with local_copy(path) as file:
            if not known and not shards.data_is_whole(file, entry):
                raise shards.unreadable(path, "its bytes do not match their checksum")
            self._whole.add(index)
            return Shard(file, self.step_fields, entry["num_steps"])


def _shifted(hidden: np.ndarray, episodes: dict[str, np.ndarray]) -> np.ndarray:
    """Converts states before each observation to states after it (final state at an episode's last step)."""
    after = np.empty_like(hidden)
    after[:-1] = hidden[1:]
    after[episodes["offset"] + episodes["length"] - 1] = episodes["final_hidden"]
    return after


def check_table(entry: dict, path: StorePath, manifest: dict) -> None:
    """Raises BadStore unless an episode table has the declared columns and lengths that sum to the shard's
    steps.
    """
    columns = entry["episodes"]
    count = entry["num_episodes"]
    wanted = episode_fields(manifest) | {
        "offset": Field("int64"),
        "return": Field("float64"),
        "end": Field("str"),
    }
    wrong = sorted(wanted.keys() ^ columns.keys())
    for name in wanted.keys() & columns.keys():
        dtype = "str" if columns[name].dtype.kind == "U" else columns[name].dtype.name
        shape = columns[name].shape
        if (dtype, shape) != (wanted[name].dtype, (count, *wanted[name].shape)):
            wrong.append(
                f"{name} ({dtype} {list(shape)}, expected {wanted[name].dtype}"
                f" {[count, *wanted[name].shape]})"
            )
    if not wrong and (
        not count or columns["length"].min() < 1 or columns["length"].sum() != entry["num_steps"]
    ):
        wrong = ["length"]
    if not wrong and not np.array_equal(columns["offset"], np.cumsum(columns["length"]) - columns["length"]):
        wrong = ["offset"]
    if wrong:
        file = shards.entry_path(path, entry["shard"]).name
        raise BadStore(
            f"{path / file} is damaged: its episode table does not fit the manifest in {wrong[0]};"
            f" {shards.remedy_for(file)}"
        )
