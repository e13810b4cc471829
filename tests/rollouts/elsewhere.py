"""What holds of stores on every file system that fsspec knows."""

from pathlib import Path

import fsspec

import record
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
    files, entry = fsspec.core.url_to_fs(f"{there}/data/test/shard_00001.json")
    files.rm(entry)
    record.main(record.Args(out_dir=Path(there), **RECORDING))
    assert Rollouts.open(f"{there}/data/test").id == made


def change_one_bit(url: str) -> bytes:
    """Changes a bit in the middle of a file; returns what it holds then."""
    files, path = fsspec.core.url_to_fs(url)
    image = bytearray(files.cat_file(path))
    image[len(image) // 2] ^= 1
    files.pipe_file(path, bytes(image))
    return bytes(image)
