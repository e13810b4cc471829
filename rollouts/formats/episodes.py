"""Episodes between a store and the files of other projects, one at a time."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from common.errors import UsageError
from common.locks import Locked, held
from rollouts.datasets import read
from rollouts.fields import episode_fields, step_fields
from rollouts.manifest import MOST_ACTIONS, check_manifest
from rollouts.store import Rollouts, create_store, write_shard

SHARD_STEPS = 20_000
"""A shard is written once it holds this many steps: 250 MB of frames of 64 x 64."""
BEHAVIOUR = "imported"
"""Behaviour of episodes from files that do not name one."""
OWN = "worldlens"
"""Attribute or group of foreign files that holds what only a store has."""


SHARED = ("obs", "action", "reward", "terminated", "truncated")
"""Step fields that foreign formats hold under names of their own."""
DAMAGE = (LookupError, OSError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)
"""What reading an episode of a damaged HDF5 file raises."""


class BadRecording(UsageError):
    """The file is not a recording of the format, or it is damaged; the message says what is wrong."""


class Episode(NamedTuple):
    """One episode of T steps: step fields {name: [T, ...]}, and its row of the episode table, `length` left
    out.
    """

    steps: dict[str, np.ndarray]
    row: dict[str, Any]


class Recording(NamedTuple):
    """A foreign recording, opened: the manifest of the store that it becomes, its size, and its episodes."""

    manifest: dict
    num_episodes: int
    episodes: Iterator[Episode]


class ForeignGame(NamedTuple):
    """What a foreign file may not say of its game. None: found from the data.

    obs_shape: height, width and channels. num_actions: size of the action space. noop: number of the action
    that does nothing.
    """

    obs_shape: tuple[int, int, int] | None = None
    num_actions: int | None = None
    noop: int = 0

    def manifest(self, obs_shape: tuple[int, ...], num_actions: int) -> dict:
        """Manifest of a store of this game, whose agent is unknown. Raises BadRecording for an impossible
        one.
        """
        if not 1 <= num_actions <= MOST_ACTIONS:
            raise BadRecording(f"these episodes have {num_actions} actions; a store has 1 to {MOST_ACTIONS}")
        found = {
            "num_actions": int(num_actions),
            "action_names": [str(action) for action in range(num_actions)],
            "noop": self.noop,
            "hidden_size": 1,
            "obs_shape": list(obs_shape),
        }
        return store_manifest(found, "these episodes")


def store_manifest(found: dict, name: str) -> dict:
    """A manifest that a store can have. Raises BadRecording, which says `name`, for another one."""
    try:
        check_manifest(found)
    except ValueError as error:
        raise BadRecording(f"{name} fit no store: {error}") from error
    return found


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file, opened for reading. Raises BadRecording if it is none."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise BadRecording(f"{path} cannot be read as HDF5: {error}") from error


def stored_episodes(rollouts: Rollouts) -> Iterator[Episode]:
    """The episodes of a store, in order."""
    columns = [name for name in episode_fields(rollouts.manifest) if name != "length"]
    for i in range(len(rollouts)):
        steps = rollouts.episode(i)
        steps["hidden"] = steps["hidden"][:-1]
        yield Episode(steps, {name: rollouts.episodes[name][i] for name in columns})


def own_manifest(rollouts: Rollouts) -> dict:
    """The manifest of a store, without what says how and where it was made."""
    return {
        name: value for name, value in rollouts.manifest.items() if name not in ("kind", "schema", "made")
    }


def foreign_episode(manifest: Mapping, number: int, level_seed: int | None, outcome: dict) -> Episode:
    """An episode of which a file has only frames, actions and outcomes.

    The rest says that nothing is known: logits, hidden states and log-probabilities are zero, values NaN, and
    no level counts as solved.

    Args:
        manifest: by `ForeignGame.manifest`.
        number: of the episode in its file.
        level_seed: None takes the number, so that every episode counts as another level.
        outcome: obs [T, H, W, C] uint8, action [T], reward [T], terminated and truncated [T] bool; of a step
            that is both, the game's own end counts.
    """
    count = len(outcome["reward"])
    unknown = {
        name: np.zeros((count, *field.shape), field.dtype) for name, field in step_fields(manifest).items()
    }
    unknown["value"][:] = np.nan
    terminated = np.asarray(outcome["terminated"], bool)
    truncated = np.asarray(outcome["truncated"], bool) & ~terminated
    steps = unknown | outcome | {"terminated": terminated, "truncated": truncated}
    row = {
        "id": number,
        "level_seed": number if level_seed is None else level_seed,
        "repeat": 0,
        "complete": False,
        "behaviour": BEHAVIOUR,
        "policy_id": "none",
        "final_hidden": np.zeros(manifest["hidden_size"], np.float32),
    }
    return Episode(steps, row)


def write_store(path: Path, recording: Recording, advance: Callable[[int], object]) -> None:
    """Writes a recording as a store: complete, or not at all.

    Args:
        path: where nothing may be yet.
        recording: its episodes are read one at a time; those of one shard are in memory.
        advance: called with the number of episodes done.

    Raises:
        UsageError: something is there already.
        BadRecording: an episode fits no store.
    """
    with written_folder(path) as folder:
        create_store(folder, recording.manifest)
        for index, part in enumerate(_shards(_sound(recording.episodes))):
            try:
                write_shard(folder, index, *_joined(part, recording.manifest))
            except ValueError as error:
                raise BadRecording(f"the episodes fit no store: {error}") from error
            advance(len(part))


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """Context that gives a temporary folder, which becomes `path` unless there is an error.

    Raises UsageError if something is at `path`, or another process writes it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    with written_alone(path):
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        temporary.mkdir()
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def written_alone(path: Path) -> Iterator[None]:
    """Context in which no other process writes `path`, where nothing is yet; makes its folder.

    Raises UsageError if something is there, or another process writes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with held(path.with_name(f".{path.name}.lock")):
            check_free(path)
            yield
    except Locked as error:
        raise UsageError(f"{path} is being written by {error}: wait for it") from error


def check_free(path: Path) -> None:
    """Raises UsageError if something is at `path`."""
    if path.exists():
        raise UsageError(f"{path} is there already: delete it or choose another place")


def _sound(episodes: Iterable[Episode]) -> Iterator[Episode]:
    """The episodes. Raises BadRecording, which names it, for one with fields of different lengths or with
    rewards that are no numbers.
    """
    for number, episode in enumerate(episodes):
        count = len(episode.steps["reward"])
        for name, column in episode.steps.items():
            if len(column) != count:
                raise BadRecording(
                    f"the episodes fit no store: episode {number} has {len(column)} {name}, {count} rewards"
                )
        if not np.isfinite(episode.steps["reward"]).all():
            raise BadRecording(f"the episodes fit no store: a reward of episode {number} is not finite")
        yield episode


def _shards(episodes: Iterable[Episode]) -> Iterator[list[Episode]]:
    part: list[Episode] = []
    steps = 0
    for episode in episodes:
        part.append(episode)
        steps += len(episode.steps["reward"])
        if steps >= SHARD_STEPS:
            yield part
            part, steps = [], 0
    if part:
        yield part


def _joined(part: list[Episode], manifest: Mapping) -> tuple[dict, dict]:
    """Arguments of `write_shard`."""
    steps = {name: np.concatenate([one.steps[name] for one in part]) for name in step_fields(manifest)}
    columns = {name for name in episode_fields(manifest) if name != "length"}
    rows = {name: np.array([one.row[name] for one in part]) for name in columns}
    return steps, rows | {"length": np.array([len(one.steps["reward"]) for one in part])}


def write_row(group: h5py.Group, row: Mapping) -> None:
    """Writes an episode's row of the table as datasets."""
    for name, value in row.items():
        text = isinstance(value, str)
        group.create_dataset(name, data=value, dtype=h5py.string_dtype() if text else None)


def read_row(group: h5py.Group, manifest: Mapping) -> dict:
    """Reads what `write_row` wrote."""
    names = [name for name in episode_fields(manifest) if name != "length"]
    found = {name: read(group, name) for name in names}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}
