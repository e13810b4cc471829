"""The store of rollouts: a directory with one manifest and immutable shards, read through an episode table in
memory.

Shards are independent of each other: several jobs may write different ones at once, and a kill loses only the
one in progress. Time follows rollouts/segment.py: hidden[t] stands before obs[t], and the last hidden state
of an episode is kept.
"""

import hashlib
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.descriptions import fits
from common.locks import Locked, held, remove_abandoned
from common.runs import UsageError, plain
from common.runs import manifest as versions
from rollouts import shard as shards
from rollouts.fields import Field, check_lengths, conform, derive, episode_fields, step_fields
from rollouts.growth import GROWN
from rollouts.manifest import KIND, SCHEMA, check_manifest, read_manifest, write_manifest
from rollouts.shard import BadStore, Shard
from rollouts.windows import Windows, window_table

GROWING = {"plan": "num_episodes", "sampling": "num_samples"}
"""Where a manifest says how many episodes a store is to hold: the one thing that may change, upwards."""
_OPEN_SHARDS = 128  # two file descriptors each


def create_store(path: Path, manifest: dict) -> None:
    """Makes the directory with its manifest, or checks that the one there says the same. Raises UsageError if
    it does not, unless only the number of episodes is larger: then the store grows (rollouts/growth.py).
    Raises ValueError for what is no manifest.

    manifest: JSON-able; `rollouts.fields.REQUIRED` says what it must hold; `obs_shape`, `extra_step_fields`
    and `extra_episode_fields` ({name: {"dtype", "shape"}}) say how the arrays differ from the default ones.
    Versions are added under `made`.
    """
    path, asked = Path(path), plain({"kind": KIND, "schema": SCHEMA} | manifest)
    check_manifest(asked)
    if not (path / "manifest.json").exists():
        if path.is_dir() and any(
            not file.name.startswith(".") for file in path.iterdir()
        ):  # hidden: another job's, begun at the same time
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
    """The two, without the number of episodes where the second plans no fewer."""
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


def recorded_precision(path: Path) -> str | None:
    """The precision, bf16 or fp32, that the store's manifest says its networks ran in; None where there is no
    store yet, or none was noted.
    """
    return read_manifest(path).get("precision") if (Path(path) / "manifest.json").exists() else None


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


def unwritten(path: Path, indices: Iterable[int]) -> Iterator[int]:
    """Those shards that are not there yet, each locked until the next is asked for, so that no other process
    makes it too.

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


def write_shard(
    path: Path, index: int, steps: dict[str, np.ndarray], episodes: dict[str, np.ndarray]
) -> None:
    """Writes shard `index`, unless it is there already.

    steps: the fields of `step_fields(manifest)`, [sum of lengths, ...], episode after episode. episodes:
    those of `episode_fields(manifest)`, [episodes, ...]; offset, return and end are worked out here. Raises
    ValueError where these do not fit the manifest or each other.
    """
    if shard_done(path, index):
        return
    manifest, episodes = read_manifest(Path(path)), dict(episodes)
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
    """Whether shard `index` is whole: its index entry, which is written last, is there. Raises BadStore for a
    damaged shard.
    """
    entry = shards.entry_path(path, index)
    return entry.exists() and bool(shards.read_entry(entry))


class Rollouts:
    """Episodes of a store. Steps of all shards count as one sequence, in the order of the episode table.

    manifest: what was recorded, how. episodes: arrays [E, ...] by name (docs/data_format.md). first_step [E]:
    index of an episode's first step in `steps(...)`. id: hash of the shards' checksums.
    """

    def __init__(self, path: Path, manifest: dict, entries: list[dict]):
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
        self._opened = lru_cache(_OPEN_SHARDS)(self._open_shard)

    @classmethod
    def open(cls, path: Path) -> "Rollouts":
        """Reads manifest and index. Raises BadStore for what is missing, foreign, truncated or damaged."""
        path = Path(path)
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
        """Whether the episodes are simulated: they begin in mid-episode, with the hidden state of that
        moment.
        """
        return bool(self.manifest.get("simulated", False))

    def __reduce__(self):
        return Rollouts.open, (self.path,)

    def shard(self, index: int) -> Shard:
        """Shard number `index`, open for reading (each process opens its own)."""
        return self._opened(int(index), os.getpid())

    def episode(self, i: int) -> dict[str, np.ndarray]:
        """All steps of episode `i`: [T, ...] by field name; `hidden` is [T + 1, D], the final state last."""
        shard = self.shard(self.episodes["shard"][i])
        begin = self.episodes["offset"][i]
        rows = np.arange(begin, begin + self.episodes["length"][i])
        steps = {name: shard.rows(name, rows) for name in self.step_fields}
        steps["hidden"] = np.concatenate([steps["hidden"], self.episodes["final_hidden"][i, None]])
        return steps

    def steps(self, name: str) -> np.ndarray:
        """A whole column, [num_steps, ...]: a step field, or `hidden_after`. `chunks` gives it shard by
        shard.
        """
        return np.concatenate(list(self.chunks(name)))

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """The column `steps(name)` in pieces, one shard's at a time."""
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
        """The hidden state at every step, which always means the one after the observation: [num_steps, D]."""
        return self.steps("hidden_after")

    def step_table(self) -> np.ndarray:
        """[num_steps, 2]: the episode of each step and its time within the episode."""
        length = self.episodes["length"]
        return np.stack(
            [
                np.repeat(np.arange(len(self)), length),
                np.arange(self.num_steps) - np.repeat(self.first_step, length),
            ],
            axis=1,
        )

    def windows(self, length: int, anchor: str = "start", pad: str = "right", min_steps: int = 1) -> Windows:
        """Windows of `length` steps; see `window_table`. Raises ValueError for a combination that makes no
        sense.
        """
        return Windows(self, length, window_table(self.episodes["length"], length, anchor, pad, min_steps))

    def _open_shard(self, index: int, process: int) -> Shard:
        entry = next(entry for entry in self.entries if entry["shard"] == index)
        return Shard(shards.data_path(self.path, index), self.step_fields, entry["num_steps"])


def _shifted(hidden: np.ndarray, episodes: dict[str, np.ndarray]) -> np.ndarray:
    """States before each observation -> states after it: the next row's, or the final one at an episode's
    last step.
    """
    after = np.empty_like(hidden)
    after[:-1] = hidden[1:]
    after[episodes["offset"] + episodes["length"] - 1] = episodes["final_hidden"]
    return after


def check_table(entry: dict, path: Path, manifest: dict) -> None:
    """Raises BadStore unless an index entry's episode table has the declared columns, and lengths that make
    up its steps.
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
                f"{name} ({dtype} {list(shape)}, expected {wanted[name].dtype} {[count, *wanted[name].shape]})"
            )
    if not wrong and (
        not count or columns["length"].min() < 1 or columns["length"].sum() != entry["num_steps"]
    ):
        wrong = ["length"]
    if wrong:
        file = shards.entry_path(path, entry["shard"]).name
        raise BadStore(
            f"{path / file} is damaged: its episode table does not fit the manifest in {wrong[0]}; {shards.remedy_for(file)}"
        )
