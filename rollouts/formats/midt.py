"""The HDF5 layout of MIDT: flat float32 states per episode, and statistics of them.

    trajectories/episode_<i>/  states (T, S), actions, rewards, dones, truncated, timesteps, rtg (T,)
                               attributes metadata (JSON), total_reward, length
    metadata/num_episodes      attribute env_config (JSON) of metadata
    statistics/                state_mean, state_std (S,), return_mean, return_std

Frames are flattened to S = H * W * C floats. What else a store has goes to episode_<i>/worldlens and to the
attribute `worldlens` of the file, which other readers ignore; with them a store returns with the same bits.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from common.checkpoints import write_atomically
from common.descriptions import parse_json
from rollouts.datasets import plain_dataset, plain_item, read
from rollouts.fields import step_fields
from rollouts.formats.episodes import (
    DAMAGE,
    OWN,
    SHARED,
    BadRecording,
    Episode,
    ForeignGame,
    Recording,
    foreign_episode,
    open_hdf5,
    own_manifest,
    read_row,
    store_manifest,
    stored_episodes,
    write_row,
    written_alone,
)
from rollouts.formats.new_hdf5 import new_hdf5
from rollouts.store import Rollouts

GZIP = 4
"""Compression level of MIDT's own files."""
STD_FLOOR = 1e-6
"""Added to the standard deviations, as MIDT does."""
COLUMNS = ("states", "actions", "rewards", "dones")
"""Datasets that every episode must have; `truncated` is missing in older files."""


def write_midt(path: Path, rollouts: Rollouts, advance: Callable[[int], object]) -> None:
    """Writes a store in MIDT's layout, atomically; one episode is in memory at a time.

    Raises UsageError if something is at `path`.
    """

    def write(temporary: Path) -> None:
        with new_hdf5(temporary) as (file, disk):
            file.attrs[OWN] = json.dumps(own_manifest(rollouts))
            game = file.create_group("metadata")
            game.create_dataset("num_episodes", data=len(rollouts))
            game.attrs["env_config"] = json.dumps(rollouts.manifest.get("env") or {})
            moments = _Moments()
            for i, episode in enumerate(stored_episodes(rollouts)):
                moments.add(_write_episode(file.create_group(f"trajectories/episode_{i}"), episode))
                disk.check()
                advance(1)
            returns = rollouts.episodes["return"]
            statistics = moments.statistics() | {
                "return_mean": returns.mean(),
                "return_std": returns.std(),
            }
            for name, value in statistics.items():
                file.create_dataset(f"statistics/{name}", data=np.float32(value))

    with written_alone(path):
        write_atomically(path, write)


def _write_episode(group: h5py.Group, episode: Episode) -> np.ndarray:
    """Writes one episode; returns its states [T, S]."""
    steps = episode.steps
    count = len(steps["reward"])
    states = steps["obs"].reshape(count, -1).astype(np.float32)
    columns = {
        "states": states,
        "actions": steps["action"].astype(np.int64),
        "rewards": steps["reward"],
        "dones": steps["terminated"],
        "truncated": steps["truncated"],
        "timesteps": np.arange(count),
        "rtg": np.cumsum(steps["reward"][::-1], dtype=np.float64)[::-1].astype(np.float32),
    }
    for name, column in columns.items():
        group.create_dataset(name, data=column, compression="gzip", compression_opts=GZIP)
    group.attrs["total_reward"] = float(steps["reward"].sum(dtype=np.float64))
    group.attrs["length"] = count
    group.attrs["metadata"] = json.dumps({"level_seed": int(episode.row["level_seed"])})
    for name in steps.keys() - set(SHARED):
        group.create_dataset(f"{OWN}/steps/{name}", data=steps[name])
    write_row(group.create_group(f"{OWN}/episode"), episode.row)
    return states


class _Moments:
    """Mean and standard deviation of each state dimension, from sums."""

    def __init__(self):
        self.count = 0
        self.total = self.squares = 0.0

    def add(self, states: np.ndarray) -> None:
        states = states.astype(np.float64)
        self.count += len(states)
        self.total += states.sum(0)
        self.squares += (states**2).sum(0)

    def statistics(self) -> dict[str, np.ndarray]:
        mean = self.total / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0)
        return {"state_mean": mean, "state_std": np.sqrt(variance) + STD_FLOOR}


def is_midt(path: Path) -> bool:
    """Whether a file is HDF5 with episodes in this layout. Raises BadRecording if it is damaged HDF5."""
    if not Path(path).is_file() or not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        try:
            return "trajectories" in file
        except DAMAGE as error:
            raise BadRecording(f"{path} cannot be read as HDF5: {error}") from error


def read_midt(path: Path, game: ForeignGame) -> Recording:
    """Opens a file in MIDT's layout; one episode is in memory at a time.

    Args:
        path: the file.
        game: what a file that no store was written to does not say; obs_shape is needed for it.

    Raises:
        BadRecording: the file is damaged or lacks something, or its states are no frames.
    """
    with open_hdf5(path) as file:
        numbers = _episode_numbers(file, path)
        own = _own_manifest_text(file, path)
        if own is None:
            manifest = _foreign_manifest(file, numbers, path, game)
        else:
            name = f"the attribute {OWN} of {path}"
            manifest = parse_json(own, name, "take another file", BadRecording)
            manifest = store_manifest(manifest, f"the episodes of {path}")
    return Recording(manifest, len(numbers), _episodes(path, numbers, manifest, own is not None))


def _own_manifest_text(file: h5py.File, path: Path) -> str | None:
    try:
        return file.attrs.get(OWN)
    except DAMAGE as error:
        raise BadRecording(f"the attribute {OWN} of {path} is damaged: {error}") from error


def _episodes(path: Path, numbers: list[int], manifest: dict, own: bool) -> Iterator[Episode]:
    with open_hdf5(path) as file:
        for number in numbers:
            try:
                group = plain_item(file, f"trajectories/episode_{number}")
                yield _read_episode(group, number, manifest, own)
            except DAMAGE as error:
                raise BadRecording(f"episode_{number} of {path} is damaged: {error}") from error


def _read_episode(group: h5py.Group, number: int, manifest: dict, own: bool) -> Episode:
    terminated = read(group, "dones").astype(bool)
    truncated = read(group, "truncated").astype(bool) if "truncated" in group else np.zeros_like(terminated)
    outcome = {
        "obs": _frames(read(group, "states"), step_fields(manifest)["obs"].shape),
        "action": _whole(read(group, "actions"), manifest["num_actions"], "an action"),
        "reward": read(group, "rewards").astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
    }
    if own:
        names = step_fields(manifest).keys() - set(SHARED)
        steps = {name: read(group, f"{OWN}/steps/{name}") for name in names}
        return Episode(outcome | steps, read_row(plain_item(group, f"{OWN}/episode"), manifest))
    return foreign_episode(manifest, number, None, outcome)


def _frames(states: np.ndarray, obs_shape: tuple[int, ...]) -> np.ndarray:
    """Frames [T, H, W, C] uint8 of states [T, S]. Raises ValueError if they are none."""
    if states.shape[1:] != (int(np.prod(obs_shape)),):
        raise ValueError(f"states of shape {states.shape} are no frames of {obs_shape}")
    return _whole(states, 256, "a state").reshape(-1, *obs_shape)


def _whole(values: np.ndarray, bound: int, name: str) -> np.ndarray:
    """The values as uint8. Raises ValueError unless all are whole numbers from 0 to bound - 1."""
    wrong = ~((values >= 0) & (values < bound) & (values == np.floor(values)))
    if wrong.any():
        raise ValueError(f"{name} is {values[wrong].flat[0]:g}, no whole number from 0 to {bound - 1}")
    return values.astype(np.uint8)


def _episode_numbers(file: h5py.File, path: Path) -> list[int]:
    """Numbers of the episodes, ascending. Raises BadRecording if there are none or fewer than stated."""
    try:
        trajectories = plain_item(file, "trajectories")
        names = [name for name in trajectories if name.startswith("episode_")]
        numbers = sorted(int(name.removeprefix("episode_")) for name in names)
        stated = int(read(file, "metadata/num_episodes")) if "metadata/num_episodes" in file else len(numbers)
        for number in numbers:
            episode = plain_item(trajectories, f"episode_{number}")
            missing = [name for name in COLUMNS if name not in episode]
            if missing:
                raise ValueError(f"episode_{number} lacks {', '.join(missing)}")
    except DAMAGE as error:
        raise BadRecording(f"{path} is no recording in MIDT's layout: {error}") from error
    if not numbers or len(numbers) != stated:
        raise BadRecording(f"{path} holds {len(numbers)} episodes of {stated}: it is incomplete")
    return numbers


def _foreign_manifest(file: h5py.File, numbers: list[int], path: Path, game: ForeignGame) -> dict:
    try:
        groups = [plain_item(file, f"trajectories/episode_{number}") for number in numbers]
        width = plain_dataset(groups[0], "states").shape[-1]
        last = max(int(read(group, "actions").max()) for group in groups)
    except DAMAGE as error:
        raise BadRecording(f"{path} is no recording in MIDT's layout: {error}") from error
    if game.obs_shape is None or int(np.prod(game.obs_shape)) != width:
        raise BadRecording(
            f"the states of {path} are vectors of {width} numbers: if they are frames, give their height,"
            f" width and channels as --obs_shape H W C with H * W * C = {width}; other states have no store"
        )
    return game.manifest(game.obs_shape, game.num_actions or last + 1)
