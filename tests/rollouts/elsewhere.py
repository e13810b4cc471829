"""What holds of stores, and of their labels, on every file system that fsspec knows."""

from pathlib import Path

import fsspec
import numpy as np
import pytest

import label
import record
from rollouts.labels import FOLDER, BadLabels, Labels
from rollouts.store import Rollouts

RECORDING = {
    "behaviour": "random",
    "env_name": "coinrun",
    "num_episodes": 3,
    "episodes_per_shard": 2,
    "num_envs": 2,
    "num_levels": 5,
    "num_threads": 1,
    "device": "cpu",
}


def check_recording(here: Path, there: str) -> None:
    """A recording has the same id in both places, and resumes there as after a kill."""
    record.main(record.Args(out_dir=here, **RECORDING))
    record.main(record.Args(out_dir=Path(there), **RECORDING))
    made = Rollouts.open(here / "data" / "test").id
    assert Rollouts.open(f"{there}/data/test").id == made
    remove(f"{there}/data/test/shard_00001.json")
    record.main(record.Args(out_dir=Path(there), **RECORDING))
    assert Rollouts.open(f"{there}/data/test").id == made


def check_labels(here: Path, there: str) -> None:
    """Labels have the same bytes in both places, whether jobs share them, or some are missing or damaged, or
    the store grows.
    """
    stores = here / "data" / "test", f"{there}/data/test"
    for place in (here, Path(there)):
        record.main(record.Args(out_dir=place, **RECORDING))
    with pytest.raises(BadLabels, match=rf"{there}/data/test has no labels: make them with: python label.py"):
        Labels.open(stores[1])
    label.main(label.Args(stores[0]))
    label.main(label.Args(Path(stores[1]), job=(1, 2)))
    with pytest.raises(BadLabels, match="shard 0 .* has no labels"):
        Labels.open(stores[1])
    label.main(label.Args(Path(stores[1]), job=(0, 2)))
    assert files_of(stores[1]) == files_of(str(stores[0]))
    assert_same_windows(*stores)
    remove(f"{stores[1]}/{FOLDER}/labels_00000.json")
    label.main(label.Args(Path(stores[1])))
    assert files_of(stores[1]) == files_of(str(stores[0]))
    change_one_bit(f"{stores[1]}/{FOLDER}/labels_00001.safetensors")
    with pytest.raises(BadLabels, match=rf"{there}.*labels_00001.safetensors is damaged: it does not match"):
        Labels.open(stores[1]).column(1, "tiles")
    label.main(label.Args(Path(stores[1])))
    assert files_of(stores[1]) == files_of(str(stores[0]))
    for place in (here, Path(there)):
        record.main(record.Args(out_dir=place, **RECORDING | {"num_episodes": 5}))
    with pytest.raises(BadLabels, match="one that has grown since"):
        Labels.open(stores[1])
    for store in stores:
        label.main(label.Args(Path(store)))
    assert len(files_of(stores[1])) == 2 * 3
    assert files_of(stores[1]) == files_of(str(stores[0]))
    assert_same_windows(*stores)


def assert_same_windows(*stores: Path | str) -> None:
    """Windows with labels have the same bits in both places."""
    both = [Rollouts.open(store) for store in stores]
    one, other = (store.windows(3, labels=Labels.open(store)).batch([0, 5, 9]) for store in both)
    assert {"position", "velocity", "tiles"} <= one.extra.keys() == other.extra.keys()
    for name, values in one.extra.items():
        assert np.array_equal(values, other.extra[name]), name


def files_of(store: str) -> dict[str, bytes]:
    """Bytes of the labels of each shard, and of their entries, by name; no other file is there."""
    files, folder = fsspec.core.url_to_fs(f"{store}/{FOLDER}")
    files.invalidate_cache()
    paths = {path.rpartition("/")[2]: path for path in files.ls(folder, detail=False)}
    paths.pop("manifest.json")  # says when it was made
    return {name: files.cat_file(path) for name, path in paths.items()}


def remove(url: str) -> None:
    """Removes a file."""
    files, path = fsspec.core.url_to_fs(url)
    files.rm(path)


def change_one_bit(url: str) -> bytes:
    """Changes a bit in the middle of a file; returns what it holds then."""
    files, path = fsspec.core.url_to_fs(url)
    image = bytearray(files.cat_file(path))
    image[len(image) // 2] ^= 1
    files.pipe_file(path, bytes(image))
    return bytes(image)
