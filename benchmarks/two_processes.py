"""Training with two processes against one single-threaded process: speed, and whether losses are the same.

Both train the same model on the same batches, in turns, each process with one thread. A turn is a number of
whole steps. The ratio by the clock is the gain on a machine with two cores and nothing else to do; the ratio
of processor seconds, of one process to either of two, is what it can be at most, on a busy machine too.
Losses are compared step by step: windows and noise depend on the seed and the step alone, and the two
processes share them.
"""

import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent that recorded the data."""
    data_dir: Path = Path("data")
    """Store of recorded rollouts, with labels."""
    trainings: tuple[str, ...] = ("painter", "latent", "motion", "tiles", "joint", "dt")
    """What is trained: stages of the world model, and dt, a Decision Transformer on frames."""
    interpreting_params_name: str = "small"
    """Preset of the world model."""
    param_name: str = "paper"
    """Preset of the Decision Transformer."""
    turns: int = 10
    """Turns of each."""
    batches: int = 5
    """Steps per turn."""
    batch_size: int = 16
    """Windows per batch, of both processes together."""
    seed: int = 0
    """Seed of weights, windows and noise."""
    out_file: Path = Path("benchmarks/results/two_processes.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.checkpoints import write_json
from common.runs import file_id, manifest
from common.stats import estimate, level_counts, weighted_quantile
from rollouts.store import Rollouts

ROOT = Path(__file__).parents[1]


class Group:
    """Processes that train together (benchmarks/device/two_processes_worker.py).

    Args:
        size: number of processes.
        settings: see the worker.
    """

    def __init__(self, size: int, settings: dict):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": ROOT}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.device.two_processes_worker", json.dumps(settings)],
                env=os.environ | {name: str(value) for name, value in (shared | {"RANK": rank}).items()},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                text=True,
            )
            for rank in range(size)
        ]

    def train(self, batches: int) -> dict:
        """Trains for some steps: their `losses`, and the `seconds` and `frames` of all."""
        first = self._processes[0]
        first.stdin.write(f"{batches}\n")
        first.stdin.flush()
        line = first.stdout.readline()
        if not line:
            raise RuntimeError(f"a training process ended: exit status {first.wait()}")
        return json.loads(line)

    def close(self) -> None:
        for process in self._processes:
            process.stdin.close()
        for process in self._processes:
            process.wait()


def compare(groups: list[Group], turns: int, batches: int) -> dict:
    """Speeds of one process and of two over alternating turns, their ratio, and the largest difference of a
    loss.
    """
    speeds, cpu_speeds = np.zeros((turns, 2)), np.zeros((turns, 2))
    losses: list[list[float]] = [[], []]
    for turn in range(turns):
        for way in (0, 1) if turn % 2 else (1, 0):
            trained = groups[way].train(batches)
            speeds[turn, way] = trained["frames"] / trained["seconds"]
            cpu_speeds[turn, way] = trained["frames"] / trained["cpu_seconds"]
            losses[way] += trained["losses"]
    one, two = np.array(losses)
    return {
        "per_second": np.median(speeds[1:], 0).tolist(),
        "ratio": median_ratio(speeds[1:]),  # the first turn warms up
        "cpu_ratio": median_ratio(cpu_speeds[1:]),
        "turns": turns - 1,
        "steps": len(one),
        "largest_relative_difference": float(np.max(np.abs(one - two) / np.abs(one))),
        "losses": [one.tolist(), two.tolist()],
    }


def median_ratio(speeds: np.ndarray) -> list[float]:
    """Median over turns [T, 2] of the second speed relative to the first, with its interval."""
    ratio = speeds[:, 1] / speeds[:, 0]
    return list(estimate(weighted_quantile(level_counts(len(ratio)), ratio, 0.5)))


def main(args: Args) -> None:
    names = ("interpreting_params_name", "param_name", "batch_size", "seed")
    shared = {name: getattr(args, name) for name in names}
    shared |= {"agent_file": str(args.agent_file.resolve()), "data_dir": str(args.data_dir.resolve())}
    found = {}
    for training in args.trainings:
        groups = [Group(size, shared | {"training": training}) for size in (1, 2)]
        try:
            found[training] = compare(groups, args.turns, args.batches)
        finally:
            for group in groups:
                group.close()
        logging.info(
            "%s: two processes are %.2f [%.2f, %.2f] times as fast (%.2f [%.2f, %.2f] in processor seconds);"
            " losses differ by %.1g of themselves at most",
            training,
            *found[training]["ratio"],
            *found[training]["cpu_ratio"],
            found[training]["largest_relative_difference"],
        )
    inputs = {"agent_file": file_id(args.agent_file), "data_dir": Rollouts.open(args.data_dir).id}
    config = shared | {"turns": args.turns, "batches": args.batches}
    for name in ("agent_file", "data_dir"):
        config.pop(name)
    write_json(
        args.out_file,
        {"trainings": found, "config": config, "cores": os.cpu_count(), "manifest": manifest(inputs, "fp32")},
    )


if __name__ == "__main__":
    run_main(main, ARGS)
