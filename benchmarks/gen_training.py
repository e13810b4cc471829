"""Training speed of the world model's joint stage against that of the former design, in one paired run.

The former code is that of commit FORMER: it is checked out next to this one, and its trainer runs in a
process of its own. Both train the preset of the same name, which has about as many parameters in either
design (the result holds the numbers), on the same windows. They take turns, one batch each; a turn is a
whole step of the trainer, timed in CPU seconds of its process, so that whatever else the machine does matters
little.
"""

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel, PrecisionName

FORMER = "ce8b542"
"""The last commit with the former design of the world model."""


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the data."""
    data_dir: Path = Path("data")
    """Store of recorded rollouts. Its labels, if it has some, are used by the present design alone."""
    interpreting_params_name: str = "small"
    """Preset of hyperparams/generative.yml, of both."""
    rounds: int = 5
    """Timed batches of each, after one of each to warm up."""
    batch_size: int = 16
    """Windows per batch."""
    num_sim_steps: int = 16
    """Simulated frames per window."""
    torch_threads: int = 1
    """PyTorch threads of each."""
    seed: int = 0
    """Seed of weights, windows and noise."""
    out_file: Path = Path("benchmarks/results/gen_training.json")
    """Where the figures go."""
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.checkpoints import write_json
from common.precision import choose_precision
from common.runs import UsageError, file_id, manifest
from rollouts.store import Rollouts

ROOT = Path(__file__).parents[1]
WORKER = ROOT / "benchmarks" / "gen_training_worker.py"


@contextmanager
def former_code() -> Iterator[Path]:
    """A checkout of the former design, removed afterwards. Raises UsageError outside of its repository."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "former"
        done = git("worktree", "add", "--detach", str(path), FORMER)
        if done.returncode:
            raise UsageError(
                f"the benchmark runs the former code, commit {FORMER}, which git does not find here: run it "
                f"in a clone with its history ({done.stderr.strip()})"
            )
        try:
            yield path
        finally:
            git("worktree", "remove", "--force", str(path))


def git(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)


class Loop:
    """The trainer of one of the designs, in a process of its own (gen_training_worker.py).

    Args:
        code: the checkout it runs.
        settings: see the worker.
    """

    def __init__(self, code: Path, settings: dict):
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), json.dumps(settings)],
            cwd=code,
            env={"PYTHONPATH": str(code), "PATH": "", "OMP_NUM_THREADS": str(settings["torch_threads"])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._answer()
        """parameters: how many the model has. precision: that it computes in."""

    def step(self, batch: int) -> dict[str, float]:
        """Trains on a batch: its `seconds` and `frames`."""
        self._process.stdin.write(f"{batch}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the training process ended: exit status {self._process.wait()}")
        return json.loads(line)


def paired(loops: dict[str, Loop], rounds: int) -> dict:
    """Frames per second of both loops over `rounds` turns, and the ratio of ours to the former's."""
    turns = []
    for batch in range(rounds + 1):
        turns.append([loop.step(batch) for loop in loops.values()])
        logging.info(
            "round %d: %s",
            batch,
            ", ".join(f"{name} {turn['seconds']:.1f} s" for name, turn in zip(loops, turns[-1])),
        )
    seconds, frames = (
        np.array([[turn[name] for turn in pair] for pair in turns[1:]]) for name in ("seconds", "frames")
    )
    speeds = frames.sum(0) / seconds.sum(0)
    by_round = frames / seconds
    return {
        name: {"frames_per_second": speed} | loop.about for (name, loop), speed in zip(loops.items(), speeds)
    } | {
        "ratio": speeds[0] / speeds[1],
        "ratio_by_round": (by_round[:, 0] / by_round[:, 1]).tolist(),
    }


def main(args: Args) -> None:
    config = {
        name: getattr(args, name)
        for name in (
            "interpreting_params_name",
            "rounds",
            "batch_size",
            "num_sim_steps",
            "torch_threads",
            "seed",
        )
    }
    precision = choose_precision(args.precision, "cpu").name
    settings = config | {
        "agent_file": str(args.agent_file.resolve()),
        "data_dir": str(args.data_dir.resolve()),
        "precision": precision,
    }
    inputs = {"agent_file": file_id(args.agent_file), "data_dir": Rollouts.open(args.data_dir).id}
    with former_code() as former:
        loops = {"ours": Loop(ROOT, settings), "former": Loop(former, settings)}
        try:
            result = paired(loops, args.rounds)
        finally:
            for loop in loops.values():
                loop.close()
    logging.info(
        "joint stage %.1f frames/s (%.2fM parameters), former code %.1f (%.2fM): %.2f times",
        result["ours"]["frames_per_second"],
        result["ours"]["parameters"] / 1e6,
        result["former"]["frames_per_second"],
        result["former"]["parameters"] / 1e6,
        result["ratio"],
    )
    write_json(
        args.out_file,
        {"former_commit": FORMER, "config": config, **result, "manifest": manifest(inputs, precision)},
    )


if __name__ == "__main__":
    run_main(main, ARGS)
