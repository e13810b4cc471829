"""Minari's layout on disk (Farama, 0.5): a folder with data/metadata.json and data/main_data.hdf5.

    episode_<i>/  observations (T + 1), actions, rewards, terminations, truncations (T), infos/<name> (T + 1)
                  attributes id, seed, total_steps

Minari's own writer compresses frames as JPEG, which changes them. Here they are PNG, which Minari reads in
the same way and which keeps every bit. Games that show no frame after the last action have a black one in its
place; it is left out on the way back. Step fields beyond Minari's go to infos, the rest of a store to
episode_<i>/worldlens and to the entry `worldlens` of the metadata.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from common.checkpoints import write_json
from common.descriptions import fits, parse_json, read_json
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
    written_folder,
)
from rollouts.formats.new_hdf5 import new_hdf5
from rollouts.store import Rollouts

VERSION = "0.5.3"
"""The version of Minari that reads what is written here."""
SMALLEST_IMAGE = 32
"""Minari takes uint8 arrays [H, W, C] of at least this height and width as images."""

EncodeImage = Callable[[np.ndarray], bytes]
"""Encodes a frame [H, W, 3] uint8 as a PNG file in memory."""
DecodeImage = Callable[[bytes], np.ndarray]
"""Decodes a JPEG or PNG file in memory to an array [H, W] or [H, W, C]."""


def write_minari(
    path: Path, rollouts: Rollouts, name: str, encode: EncodeImage, advance: Callable[[int], object]
) -> None:
    """Writes a store as a Minari dataset: complete, or not at all. One episode is in memory at a time.

    Args:
        path: folder of the dataset, where nothing may be yet.
        rollouts: the store.
        name: id of the dataset, such as coinrun/agent-v0.
        encode: for images.
        advance: called with the number of episodes done.
    """
    manifest = rollouts.manifest
    shape = rollouts.step_fields["obs"].shape
    if _is_image(shape) and shape[2] != 3:
        raise BadRecording(
            f"Minari keeps images of 3 channels, and the frames of {rollouts.path} have {shape[2]}"
        )
    with written_folder(path) as folder:
        (folder / "data").mkdir()
        with new_hdf5(folder / "data" / "main_data.hdf5", track_order=True) as (file, disk):
            for i, episode in enumerate(stored_episodes(rollouts)):
                _write_episode(file.create_group(f"episode_{i}"), i, episode, encode)
                disk.check()
                advance(1)
        size = (folder / "data" / "main_data.hdf5").stat().st_size
        space = {"type": "Box", "dtype": "uint8", "shape": list(shape)}
        space |= {"low": np.zeros(shape, int).tolist(), "high": np.full(shape, 255).tolist()}
        actions = {"type": "Discrete", "dtype": "int64", "start": 0, "n": manifest["num_actions"]}
        about = {
            "total_episodes": len(rollouts),
            "total_steps": rollouts.num_steps,
            "data_format": "hdf5",
            "observation_space": json.dumps(space),
            "action_space": json.dumps(actions),
            "dataset_id": name,
            "minari_version": VERSION,
            "dataset_size": round(size / 1e6, 1),
            OWN: own_manifest(rollouts),
        }
        write_json(folder / "data" / "metadata.json", about)


def _write_episode(group: h5py.Group, number: int, episode: Episode, encode: EncodeImage) -> None:
    steps = episode.steps
    group.attrs["id"] = number
    group.attrs["total_steps"] = len(steps["reward"])
    if episode.row["level_seed"] >= 0:
        group.attrs["seed"] = int(episode.row["level_seed"])
    obs = _one_more(steps["obs"])
    if _is_image(obs.shape[1:]):
        files = np.empty(len(obs), object)
        files[:] = [np.frombuffer(encode(frame), np.uint8) for frame in obs]
        group.create_dataset("observations", data=files, dtype=h5py.vlen_dtype(np.uint8))
    else:
        group.create_dataset("observations", data=obs)
    group.create_dataset("actions", data=steps["action"].astype(np.int64))
    names = {"rewards": "reward", "terminations": "terminated", "truncations": "truncated"}
    for theirs, ours in names.items():
        group.create_dataset(theirs, data=steps[ours])
    for name in steps.keys() - set(SHARED):
        last = episode.row["final_hidden"] if name == "hidden" else None
        group.create_dataset(f"infos/{name}", data=_one_more(steps[name], last))
    write_row(group.create_group(f"{OWN}/episode"), episode.row)


def _one_more(column: np.ndarray, last: np.ndarray | None = None) -> np.ndarray:
    """[T + 1, ...]: a column [T, ...] and one more row, zero by default."""
    row = np.zeros_like(column[:1]) if last is None else np.asarray(last)[None]
    return np.concatenate([column, row])


def data_folder(path: Path) -> Path | None:
    """The folder with metadata.json and main_data.hdf5, if `path` is a Minari dataset or that folder."""
    for folder in (Path(path) / "data", Path(path)):
        if (folder / "metadata.json").is_file() and (folder / "main_data.hdf5").is_file():
            return folder
    return None


def read_minari(path: Path, game: ForeignGame, decode: DecodeImage) -> Recording:
    """Opens a Minari dataset with frames and discrete actions; one episode is in memory at a time.

    Args:
        path: its folder.
        game: what the dataset does not say.
        decode: for images.

    Raises:
        BadRecording: the dataset is damaged, or has other observations or actions.
    """
    folder = data_folder(path)
    if folder is None:
        raise BadRecording(f"{path} is no Minari dataset: it lacks data/metadata.json or data/main_data.hdf5")
    file = folder / "metadata.json"
    about = read_json(file, "take another dataset", BadRecording)
    count = about.get("total_episodes")
    if not fits(count, int) or count < 1:
        raise BadRecording(f"{file} says of total_episodes: {count}")
    own = about.get(OWN)
    if own is not None and not isinstance(own, dict):
        raise BadRecording(f"{file} is damaged: its entry {OWN} is no manifest")
    if own is None:
        manifest = _foreign_manifest(about, file, game)
    else:
        manifest = store_manifest(own, f"the episodes of {path}")
    _check_count(folder, count)
    return Recording(manifest, count, _episodes(folder, count, manifest, own is not None, decode))


def _check_count(folder: Path, count: int) -> None:
    """Raises BadRecording if the file has another number of episodes than the metadata say."""
    path = folder / "main_data.hdf5"
    with open_hdf5(path) as file:
        try:
            found = sum(name.startswith("episode_") for name in file)
        except DAMAGE as error:
            raise BadRecording(f"{path} is damaged: {error}") from error
    if found != count:
        raise BadRecording(f"{path} has {found} episodes, and metadata.json says {count}")


def _foreign_manifest(about: dict, file: Path, game: ForeignGame) -> dict:
    spaces = {}
    for name in ("observation_space", "action_space"):
        if not isinstance(about.get(name), str):
            raise BadRecording(f"{file} does not say its {name}: take a dataset that does")
        spaces[name] = parse_json(about[name], f"{name} of {file}", "take another dataset", BadRecording)
    obs, actions = spaces.values()
    shape = obs.get("shape")
    if not (
        obs.get("type") == "Box"
        and obs.get("dtype") == "uint8"
        and fits(shape, list[int])
        and len(shape) == 3
    ):
        raise BadRecording(f"the observations of {file} are no uint8 frames [H, W, C]; a store holds such")
    if not (
        actions.get("type") == "Discrete" and actions.get("start", 0) == 0 and fits(actions.get("n"), int)
    ):
        raise BadRecording(f"the actions of {file} are not numbered from 0; a store holds such")
    return game.manifest(tuple(shape), actions["n"])


def _episodes(folder: Path, count: int, manifest: dict, own: bool, decode: DecodeImage) -> Iterator[Episode]:
    path = folder / "main_data.hdf5"
    with open_hdf5(path) as file:
        for number in range(count):
            try:
                yield _read_episode(plain_item(file, f"episode_{number}"), number, manifest, own, decode)
            except DAMAGE as error:
                raise BadRecording(f"episode_{number} of {path} is damaged: {error}") from error


def _read_episode(group: h5py.Group, number: int, manifest: dict, own: bool, decode: DecodeImage) -> Episode:
    count = len(plain_dataset(group, "rewards"))
    action = read(group, "actions")
    if not np.isin(action, np.arange(manifest["num_actions"])).all():
        raise ValueError(f"an action is none of the {manifest['num_actions']}")
    outcome = {
        "obs": _observations(
            plain_dataset(group, "observations"), step_fields(manifest)["obs"].shape, decode
        )[:count],
        "action": action.astype(np.uint8),
        "reward": read(group, "rewards").astype(np.float32),
        "terminated": read(group, "terminations").astype(bool),
        "truncated": read(group, "truncations").astype(bool),
    }
    if own:
        names = step_fields(manifest).keys() - set(SHARED)
        steps = {name: plain_dataset(group, f"infos/{name}")[:count] for name in names}
        return Episode(outcome | steps, read_row(plain_item(group, f"{OWN}/episode"), manifest))
    seed = group.attrs.get("seed")
    return foreign_episode(manifest, number, None if seed is None else int(seed), outcome)


def _observations(dataset: h5py.Dataset, shape: tuple[int, ...], decode: DecodeImage) -> np.ndarray:
    """Frames [T + 1, H, W, C], from images or arrays. Raises ValueError for frames of another shape."""
    images = _is_image(shape)
    frames = np.stack([decode(one.tobytes()) for one in dataset[()]]) if images else dataset[()]
    if frames.shape[1:] != shape or frames.dtype != np.uint8:
        raise ValueError(f"its frames are {frames.dtype} {frames.shape[1:]}, not uint8 {shape}")
    return frames


def _is_image(shape: tuple[int, ...]) -> bool:
    return min(shape[:2]) >= SMALLEST_IMAGE
