"""Compares storage engines on a recorded store: write speed, bytes per step, random 34-step windows, opening
time.

Every engine writes the same step arrays and reads the same batches of windows, all fields. CPU seconds of one
process are counted, so that other work on the machine does not matter.
"""

import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    store: tyro.conf.Positional[Path]
    """Store to take the steps from; a few thousand steps of a trained agent suffice."""
    max_steps: int = 20_000
    """Number of its steps to use."""
    out_file: Path = Path("docs/results/storage.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import h5py
import hdf5plugin
import numpy as np
import zarr
import zstandard

from common.checkpoints import write_json
from rollouts import shard as shards
from rollouts.shard import CHUNK, LEVEL
from rollouts.store import Rollouts, create_store, write_shard

WINDOW = 34
BATCH = 32
BATCHES = 20
EPISODES_TO_OPEN = 10_000
EPISODES_PER_SHARD = 256


class ShardEngine:
    """The project's engine (rollouts/shard.py): HDF5, frames in zstd chunks, other fields contiguous and
    memory-mapped.
    """

    name = "HDF5: zstd frames, mapped fields"

    def write(self, path: Path, steps: dict) -> None:
        path.mkdir()
        shards.data_path(path, 0).write_bytes(shards.encode(steps))

    def open(self, path: Path, names):
        shard = shards.Shard(shards.data_path(path, 0), names)
        return lambda name, starts: shard.rows(name, _rows(starts))


class ChunkedHDF5:
    """HDF5 with every field chunked and compressed; a window is one slice."""

    def __init__(self, name: str, chunk: int, **filters):
        self.name = name
        self.chunk = chunk
        self.filters = filters

    def write(self, path: Path, steps: dict) -> None:
        with h5py.File(path, "w", libver="latest") as file:
            for name, array in steps.items():
                rows = self.chunk if array.ndim > 2 else 1024
                file.create_dataset(
                    name, data=array, chunks=(min(rows, len(array)), *array.shape[1:]), **self.filters
                )

    def open(self, path: Path, names):
        file = h5py.File(path, "r")
        columns = {name: file[name] for name in names}
        return lambda name, starts: np.concatenate(
            [columns[name][start : start + WINDOW] for start in starts]
        )


class Zarr:
    """Zarr 3 with the project's chunks, in shard files of 64 chunks."""

    name = "zarr 3: zstd, sharded"

    def write(self, path: Path, steps: dict) -> None:
        group = zarr.create_group(path)
        for name, array in steps.items():
            rows = CHUNK if array.ndim > 2 else 1024
            chunks = (rows, *array.shape[1:])
            shape = (rows * 64, *array.shape[1:])
            codec = zarr.codecs.ZstdCodec(level=LEVEL)
            group.create_array(
                name, shape=array.shape, dtype=array.dtype, chunks=chunks, shards=shape, compressors=codec
            )[:] = array

    def open(self, path: Path, names):
        group = zarr.open_group(path, mode="r")
        columns = {name: group[name] for name in names}
        return lambda name, starts: np.concatenate(
            [columns[name][start : start + WINDOW] for start in starts]
        )


class Plain:
    """Plain files: frames in zstd chunks with an offset table, other fields as memory-mapped .npy."""

    def __init__(self, chunk: int, level: int):
        self.name = f"plain files: zstd {level}, chunks of {chunk}"
        self.chunk = chunk
        self.level = level

    def write(self, path: Path, steps: dict) -> None:
        path.mkdir()
        compress = zstandard.ZstdCompressor(self.level).compress
        frames = steps["obs"]
        packed = [compress(frames[i : i + self.chunk].tobytes()) for i in range(0, len(frames), self.chunk)]
        (path / "obs.zst").write_bytes(b"".join(packed))
        np.save(path / "offsets.npy", np.cumsum([0, *map(len, packed)]))
        for name in steps.keys() - {"obs"}:
            np.save(path / f"{name}.npy", steps[name])

    def open(self, path: Path, names):
        columns = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in names if name != "obs"}
        data = np.memmap(path / "obs.zst", mode="r")
        offsets = np.load(path / "offsets.npy")
        decompress = zstandard.ZstdDecompressor().decompress

        def frames(rows):
            wanted, where = np.unique(rows // self.chunk, return_inverse=True)
            decoded = [
                np.frombuffer(decompress(data[offsets[i] : offsets[i + 1]]), np.uint8).reshape(-1, 64, 64, 3)
                for i in wanted
            ]
            starts = np.cumsum([0, *(len(chunk) for chunk in decoded)])
            return np.concatenate(decoded)[starts[where] + rows % self.chunk]

        return lambda name, starts: frames(_rows(starts)) if name == "obs" else columns[name][_rows(starts)]


ENGINES = {
    "hdf5": ShardEngine(),
    "hdf5_zstd": ChunkedHDF5("HDF5: all fields zstd 3, chunks of 32", 32, **hdf5plugin.Zstd(clevel=3)),
    "hdf5_blosc": ChunkedHDF5(
        "HDF5: all fields blosc-zstd 5, chunks of 16",
        16,
        **hdf5plugin.Blosc(cname="zstd", clevel=5, shuffle=0),
    ),
    "zarr": Zarr(),
    "plain": Plain(CHUNK, LEVEL),
    "plain_fast": Plain(32, 3),
}


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.store)
    steps = {name: _head(rollouts, name, args.max_steps) for name in rollouts.step_fields}
    with tempfile.TemporaryDirectory() as scratch:
        rows = {key: measure(engine, Path(scratch) / key, steps) for key, engine in ENGINES.items()}
        opening = time_opening(Path(scratch) / "many", rollouts.manifest)
    end_to_end = time_windows(rollouts)
    print("\n".join(table(list(rows.values()))))
    print(
        f"Windows.sample on {args.store}: {end_to_end:,.0f} frames/s; {EPISODES_TO_OPEN} episodes"
        f" opened in {opening:.2f} s"
    )
    found = {"store": rollouts.id, "engines": rows, "sample": end_to_end, "open_s": opening}
    write_json(args.out_file, found | {"steps": len(steps["reward"])})


def measure(engine, path: Path, steps: dict) -> dict:
    """Results of one engine: write and window speed in frames per CPU second, size, and seconds to open and
    read one window.
    """
    total = len(steps["reward"])
    began = time.process_time()
    engine.write(path, steps)
    written = time.process_time()
    read = engine.open(path, steps)
    for name in steps:
        read(name, np.array([0]))
    opened = time.process_time()
    starts = np.random.default_rng(0).integers(0, total - WINDOW, (BATCHES, BATCH))
    for batch in starts:
        for name in steps:
            read(name, batch)
    seconds = time.process_time() - opened
    size = (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if path.is_dir()
        else path.stat().st_size
    )
    speeds = {"write": total / (written - began), "windows": starts.size * WINDOW / seconds}
    return {"engine": engine.name, "bytes": size / total, "open_ms": 1000 * (opened - written), **speeds}


def time_windows(rollouts: Rollouts) -> float:
    """Frames per CPU second of random windows read from the store as Segments."""
    windows = rollouts.windows(WINDOW, anchor="start", pad="right")
    rng = np.random.default_rng(0)
    windows.sample(rng, BATCH)
    began = time.process_time()
    for _ in range(BATCHES):
        windows.sample(rng, BATCH)
    return BATCHES * BATCH * WINDOW / (time.process_time() - began)


def time_opening(path: Path, manifest: dict) -> float:
    """Wall-clock seconds to open a store of EPISODES_TO_OPEN two-step episodes (reads only the table)."""
    small = {
        key: value
        for key, value in manifest.items()
        if key not in ("made", "extra_step_fields", "extra_episode_fields")
    }
    create_store(path, small)
    for index, begin in enumerate(range(0, EPISODES_TO_OPEN, EPISODES_PER_SHARD)):
        write_shard(
            path, index, *_blank(np.arange(begin, min(begin + EPISODES_PER_SHARD, EPISODES_TO_OPEN)), small)
        )
    began = time.perf_counter()
    opened = Rollouts.open(path)
    seconds = time.perf_counter() - began
    shutil.rmtree(path)
    assert len(opened) == EPISODES_TO_OPEN
    return seconds


def table(rows: list[dict]) -> list[str]:
    """The rows as a Markdown table."""
    lines = [
        f"{r['engine']} | {r['write']:,.0f} | {r['bytes']:,.0f} | {r['windows']:,.0f} | {r['open_ms']:.0f}"
        for r in rows
    ]
    head = [
        "engine | write frames/s | bytes/step | 34-step windows frames/s | open ms",
        "---|---:|---:|---:|---:",
    ]
    return [f"| {line} |" for line in head + lines]


def _blank(ids: np.ndarray, manifest: dict) -> tuple[dict, dict]:
    """Two-step episodes of zeros."""
    n = len(ids)
    actions = manifest["num_actions"]
    width = manifest["hidden_size"]
    numbers = np.zeros(2 * n, np.float32)
    flags = np.zeros(2 * n, bool)
    vectors = {
        "logits": np.zeros((2 * n, actions), np.float32),
        "hidden": np.zeros((2 * n, width), np.float32),
    }
    scalars = {
        "reward": numbers,
        "value": numbers,
        "log_prob": numbers,
        "terminated": flags,
        "truncated": flags,
    }
    steps = {
        "obs": np.zeros((2 * n, *manifest["obs_shape"]), np.uint8),
        "action": np.zeros(2 * n, np.uint8),
        **scalars,
        **vectors,
    }
    final = np.random.default_rng(0).standard_normal((n, width)).astype(np.float32)
    words = {"behaviour": np.full(n, "agent"), "policy_id": np.full(n, "0123456789abcdef")}
    counts = {"id": ids, "level_seed": ids, "repeat": ids, "length": np.full(n, 2)}
    return steps, {**counts, "complete": np.zeros(n, bool), "final_hidden": final, **words}


def _head(rollouts: Rollouts, name: str, count: int) -> np.ndarray:
    """The first `count` steps of a column, shard by shard."""
    parts = []
    left = count
    for chunk in rollouts.chunks(name):
        parts.append(chunk[:left])
        left -= len(parts[-1])
        if not left:
            break
    return np.concatenate(parts)


def _rows(starts: np.ndarray) -> np.ndarray:
    return (starts[:, None] + np.arange(WINDOW)).ravel()


if __name__ == "__main__":
    run_main(main, ARGS)
