"""Inputs for the readers of stores, of their labels, and of recordings in other formats."""

import gzip
import hashlib
import json
import lzma
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

import convert
from benchmarks.fuzz.guard import Reader
from benchmarks.fuzz.mutations import change_bytes, change_hdf5, change_value, json_text
from rollouts import check, fields, inspect_store, manifest, shard, store
from rollouts.formats.apart import read_apart
from rollouts.formats.episodes import BadRecording, ForeignGame, Recording
from rollouts.formats.midt import is_midt, read_midt, write_midt
from rollouts.formats.minari import read_minari, write_minari
from rollouts.formats.trajectory_pickle import read_pickle

SIDE = 8
ABOUT = {
    "num_actions": 3,
    "action_names": list("abc"),
    "noop": 2,
    "hidden_size": 2,
    "obs_shape": [SIDE, SIDE, 3],
    "extra_step_fields": {"sound": {"dtype": "float32", "shape": [2]}},
}
SECONDS = 2.0
"""Processor time for an episode of a few steps."""
RESIGNED = 0.8
"""Share of the changed entries whose checksum is made to fit, so that what lies behind it is reached."""


def readers(seeds: Path) -> list[Reader]:
    """Readers of stores; `seeds` is where sound files are made that the inputs are changed from."""
    sound = _make_store(seeds / "store")
    _make_foreign(sound, seeds)
    outside = seeds.parent / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["secret"] = np.full(100_000, 77, np.uint8)

    def store_input(place: Path, draw: random.Random) -> bool:
        _fresh(place, seeds / "store")
        return _change_store(place / "store", outside, draw)

    def midt_input(place: Path, draw: random.Random) -> bool:
        _fresh(place, seeds / "midt.h5")
        names = [f"trajectories/episode_0/{name}" for name in ("states", "actions", "rewards", "dones")]
        names += [
            "trajectories/episode_1/worldlens/steps/logits",
            "trajectories/episode_1/worldlens/episode/id",
        ]
        return _change_h5(place / "midt.h5", names, outside, draw)

    def minari_input(place: Path, draw: random.Random) -> bool:
        _fresh(place, seeds / "minari")
        about = place / "minari" / "data" / "metadata.json"
        if draw.random() < 0.4:
            _change_json(about, draw)
            return False
        names = [f"episode_0/{name}" for name in ("observations", "actions", "rewards", "terminations")]
        names += ["episode_1/infos/logits", "episode_1/worldlens/episode/id"]
        return _change_h5(about.with_name("main_data.hdf5"), names, outside, draw)

    def pickle_input(place: Path, draw: random.Random) -> bool:
        suffix = draw.choice((".pkl", ".pkl", ".gz", ".xz"))
        _fresh(place)
        whole = (seeds / f"trajectories{draw.choice('25')}.pkl").read_bytes()
        packers = {".pkl": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
        inner = change_bytes(whole, draw) if suffix == ".pkl" or draw.random() < 0.7 else whole
        packed = packers[suffix](inner)
        data = change_bytes(packed, draw) if inner is whole else packed
        (place / f"t{suffix}").write_bytes(data)
        return False

    return [
        Reader("store", store_input, _read_store),
        Reader("midt", midt_input, _read_midt, apart=True),
        Reader("minari", minari_input, _read_minari, apart=True),
        Reader("trajectory pickle", pickle_input, _read_pickle, apart=True),
    ]


def _fresh(place: Path, *sources: Path) -> None:
    """Empties a directory, and copies sound files into it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for source in sources:
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, place / source.name)


def _make_store(path: Path) -> store.Rollouts:
    draw = np.random.default_rng(0)
    store.create_store(path, ABOUT)
    for index, lengths in enumerate(([3, 2], [4])):
        count = sum(lengths)
        steps = {
            name: np.zeros((count, *field.shape), field.dtype)
            for name, field in fields.step_fields(ABOUT).items()
        }
        steps["obs"] = draw.integers(0, 256, steps["obs"].shape, np.uint8)
        steps["terminated"][np.cumsum(lengths) - 1] = True
        episodes = {
            name: np.zeros((len(lengths), *field.shape), "U4" if field.dtype == "str" else field.dtype)
            for name, field in fields.episode_fields(ABOUT).items()
        }
        episodes |= {"length": np.array(lengths), "id": 10 * index + np.arange(len(lengths))}
        store.write_shard(path, index, steps, episodes)
    return store.Rollouts.open(path)


def _make_foreign(sound: store.Rollouts, seeds: Path) -> None:
    write_midt(seeds / "midt.h5", sound, lambda count: None)
    write_minari(seeds / "minari", sound, "a/b-v0", convert.encode_image, lambda count: None)
    data = {
        "observations": np.ones((4, 2, 3, 3, 3)),
        "actions": np.ones((4, 2), int),
        "rewards": np.ones((4, 2)),
        "dones": np.eye(4, 2, dtype=bool),
        "truncated": np.zeros((4, 2), bool),
    }
    for protocol in (2, 5):
        content = pickle.dumps({"data": data, "metadata": {}}, protocol)
        (seeds / f"trajectories{protocol}.pkl").write_bytes(content)


def _change_store(path: Path, outside: Path, draw: random.Random) -> bool:
    kind = draw.randrange(3)
    entry = path / "shard_00000.json"
    if kind == 0:
        _change_json(path / "manifest.json", draw, lambda about: manifest._digest(about))
    elif kind == 1:
        _change_json(entry, draw, lambda about: shard._digest(about))
    else:
        data = path / "shard_00000.h5"
        leads_out = _change_h5(data, ["obs", "action", "hidden", "sound"], outside, draw)
        if draw.random() < RESIGNED or leads_out:
            _resign_data(entry, data)
        return leads_out
    return False


def _resign_data(entry: Path, data: Path) -> None:
    about = json.loads(entry.read_text())
    about.pop("sha256")
    image = data.read_bytes()
    about["data"] |= {"bytes": len(image), "sha256": hashlib.sha256(image).hexdigest()}
    entry.write_text(json.dumps(about | {"sha256": shard._digest(about)}))


def _change_json(path: Path, draw: random.Random, digest=None) -> None:
    """Changes bytes or values of a JSON file; with a digest, often signs it again."""
    if draw.random() < 0.2:
        path.write_bytes(change_bytes(path.read_bytes(), draw))
        return
    value = json.loads(path.read_text())
    if digest:
        value.pop("sha256", None)
    value = change_value(value, draw)
    if digest and isinstance(value, dict) and draw.random() < RESIGNED:
        value = json.loads(json.dumps(value))
        value |= {"sha256": digest(value)}
    path.write_text(json_text(value))


def _change_h5(path: Path, names: list[str], outside: Path, draw: random.Random) -> bool:
    if draw.random() < 0.5:
        path.write_bytes(change_bytes(path.read_bytes(), draw))
        return False
    return change_hdf5(path, names, outside, draw)


def _read_store(place: Path) -> None:
    rollouts = store.Rollouts.open(place / "store")
    inspect_store.describe(rollouts)
    list(check.check_store(rollouts))
    for name in rollouts.step_fields:
        for _ in rollouts.chunks(name):
            pass
    rollouts.windows(2).batch([0])


def _read_midt(place: Path) -> None:
    file = place / "midt.h5"

    def opened() -> Recording:
        if not is_midt(file):
            raise BadRecording("no MIDT")
        return read_midt(file, ForeignGame((SIDE, SIDE, 3), 3, 2))

    _read_apart(opened)


def _read_minari(place: Path) -> None:
    _read_apart(lambda: read_minari(place / "minari", ForeignGame(), convert.decode_image))


def _read_pickle(place: Path) -> None:
    (path,) = place.iterdir()
    _read_apart(lambda: read_pickle(path, ForeignGame(noop=0)))


def _read_apart(opened: Callable[[], Recording]) -> None:
    list(read_apart(opened, "it", SECONDS).episodes)
