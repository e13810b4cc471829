"""Training with two processes against one single-threaded process: speed, and whether losses are the same.

Both train the same model on the same batches, in turns, each process with one thread. A turn is a number of
whole steps. The ratio by the clock is the gain on a machine with two cores and nothing else to do; the ratio
of processor seconds, of one process to either of two, is what it can be at most, on a busy machine too.
Losses are compared step by step: windows and noise depend on the seed and the step alone, and the two
processes share them. They add in another order, and training enlarges the rounding. Two controls tell this
from a fault: one process alone whose first weights differ by about a rounding error, and the same comparison
of one process and two in float64.
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
    world_model_file: Path | None = None
    """World model whose weights the stages begin with, as after the earlier stages; default: random ones."""
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
NUDGE = 1e-7
"""Relative change of the first weights of the control: about the rounding of a float32."""
DIFFERENCES = ("differences", "differences_nudged", "differences_double")
TOLERANCE = 1e-4
"""Losses that differ by less, relatively, count as equal."""


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
    """Speeds of one process and of two over alternating turns, their ratio, and differences of losses."""
    speeds, cpu_speeds = np.zeros((turns, 2)), np.zeros((turns, 2))
    losses: list[list[float]] = [[], []]
    for turn in range(turns):
        for way in (0, 1) if turn % 2 else (1, 0):
            trained = groups[way].train(batches)
            speeds[turn, way] = trained["frames"] / trained["seconds"]
            cpu_speeds[turn, way] = trained["frames"] / trained["cpu_seconds"]
            losses[way] += trained["losses"]
    return {
        "per_second": np.median(speeds[1:], 0).tolist(),
        "ratio": median_ratio(speeds[1:]),  # the first turn warms up
        "cpu_ratio": median_ratio(cpu_speeds[1:]),
        "turns": turns - 1,
        "differences": difference(*losses),
        "losses": losses,
    }


def losses_alone(size: int, settings: dict, steps: int) -> list[float]:
    """Losses of the first steps of a group that nothing is compared with by the clock."""
    group = Group(size, settings)
    try:
        return group.train(steps)["losses"]
    finally:
        group.close()


def difference(one: list[float], other: list[float]) -> dict:
    """The largest relative difference of a loss, the first step with a difference beyond TOLERANCE (None if
    there is none), the number of steps, and the difference at each of them to one digit.
    """
    apart = np.abs(np.subtract(one, other)) / np.abs(one)
    beyond = np.flatnonzero(apart > TOLERANCE)
    return {
        "largest": float(apart.max()),
        "first_beyond": int(beyond[0]) if len(beyond) else None,
        "steps": len(apart),
        "by_step": [float(f"{one:.0e}") for one in apart],
    }


def median_ratio(speeds: np.ndarray) -> list[float]:
    """Median over turns [T, 2] of the second speed relative to the first, with its interval."""
    ratio = speeds[:, 1] / speeds[:, 0]
    return list(estimate(weighted_quantile(level_counts(len(ratio)), ratio, 0.5)))


def settings_of(args: Args) -> dict:
    """What the processes of all groups have in common."""
    names = ("interpreting_params_name", "param_name", "batch_size", "seed")
    settings = {name: getattr(args, name) for name in names} | {"nudge": 0.0, "double": False}
    files = {name: getattr(args, name) for name in ("agent_file", "data_dir", "world_model_file")}
    return settings | {name: str(path.resolve()) if path else None for name, path in files.items()}


def main(args: Args) -> None:
    shared = settings_of(args)
    found = {}
    for training in args.trainings:
        settings = shared | {"training": training}
        groups = [Group(size, settings) for size in (1, 2)]
        try:
            found[training] = compare(groups, args.turns, args.batches)
        finally:
            for group in groups:
                group.close()
        steps = args.turns * args.batches
        nudged = losses_alone(1, settings | {"nudge": NUDGE}, steps)
        found[training]["differences_nudged"] = difference(found[training]["losses"][0], nudged)
        doubles = [losses_alone(size, settings | {"double": True}, steps) for size in (1, 2)]
        found[training]["differences_double"] = difference(*doubles)
        logging.info(
            "%s: two processes are %.2f [%.2f, %.2f] times as fast (%.2f [%.2f, %.2f] in processor seconds);"
            " losses differ by %.1g of themselves at most, of one process with nudged weights by %.1g,"
            " in float64 by %.1g",
            training,
            *found[training]["ratio"],
            *found[training]["cpu_ratio"],
            *(found[training][kind]["largest"] for kind in DIFFERENCES),
        )
        write(args, found)


def write(args: Args, found: dict[str, dict]) -> None:
    """Writes the output file with the trainings that are done."""
    inputs = {"agent_file": file_id(args.agent_file), "data_dir": Rollouts.open(args.data_dir).id}
    if args.world_model_file:
        inputs["world_model_file"] = file_id(args.world_model_file)
    names = ("interpreting_params_name", "param_name", "batch_size", "seed", "turns", "batches")
    config = {name: getattr(args, name) for name in names}
    made = manifest(inputs, "fp32")
    write_json(
        args.out_file, {"trainings": found, "config": config, "cores": os.cpu_count(), "manifest": made}
    )


if __name__ == "__main__":
    run_main(main, ARGS)
