"""Memory and speed of windows streamed from a store that is fetched shard by shard."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    data_dir: Path = Path("data/coinrun")
    """A store on the disk; it is read as if it lay elsewhere."""
    length: int = 34
    """Steps per window."""
    batch_size: int = 32
    """Windows per batch."""
    stride: int = 16
    """One window in `stride` is read; every shard is fetched all the same."""
    cache_mb: int = 64
    """Local disk for copies of shards."""
    seed: int = 0
    """Draws the order."""
    out_file: Path = Path("docs/results/streaming.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.checkpoints import write_json
from common.runs import manifest
from rollouts import remote
from rollouts.store import Rollouts
from rollouts.streaming import stream
from rollouts.windows import Windows


def memory(field: str) -> float:
    """A field of /proc/self/status in MiB: VmHWM, the peak, or VmRSS, of now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def main(args: Args) -> None:
    remote.CACHE_BYTES = args.cache_mb * 2**20
    rollouts = Rollouts.open(f"local://{args.data_dir.resolve()}")
    table = rollouts.windows(args.length).table[:: args.stride]
    before = memory("VmRSS")
    began = time.monotonic()
    read = 0
    for segment in stream(
        Windows(rollouts, args.length, table), np.random.default_rng(args.seed), args.batch_size, 2
    ):
        read += int(segment.mask.sum())
    seconds = time.monotonic() - began
    found = {
        "store_mib": sum(entry["data"]["bytes"] for entry in rollouts.entries) / 2**20,
        "decoded_mib": rollouts.num_steps * np.prod(rollouts.step_fields["obs"].shape) / 2**20,
        "shards": len(rollouts.entries),
        "windows": len(table),
        "frames": read,
        "cache_mib": args.cache_mb,
        "growth_mib": memory("VmHWM") - before,
        "frames_per_second": read / seconds,
    }
    made = {name: value for name, value in manifest().items() if name != "command"}
    write_json(
        args.out_file, {name: round(float(value), 1) for name, value in found.items()} | {"manifest": made}
    )
    logging.info("%s", found)


if __name__ == "__main__":
    run_main(main, ARGS)
