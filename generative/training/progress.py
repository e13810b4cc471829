"""progress.csv, the log of a world model's training: its columns, running means, and where time and memory
went.
"""

import resource
import sys
import time
from collections.abc import Iterable, Iterator

import torch

from generative.training.losses import TERMS

MEASURES = ("loss", "psnr", *TERMS)
CLOCK_COLUMNS = ("wall_time", "frames_per_second", "wait_share", "peak_memory_mb", "peak_gpu_mb")
COLUMNS = (
    "batch",
    "wall_time",
    *MEASURES,
    *(f"val_{name}" for name in MEASURES),
    "grad_norm",
    "lr",
    *CLOCK_COLUMNS[1:],
)


class RunningMean:
    """Running means of named numbers since the last row."""

    def __init__(self, count: int = 0, totals: dict[str, float] | None = None):
        self.count = count
        self.totals = totals or {}

    def add(self, values: dict[str, float]) -> None:
        self.count += 1
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.totals.items()}


class ThroughputClock:
    """Since the last row: frames per second of training, and the share of the time spent waiting for windows.
    And peak memory.
    """

    def __init__(self, wall_time: float):
        self._begun = time.monotonic() - wall_time
        self.reset()

    def reset(self) -> None:
        self._lap = time.monotonic()
        self.waited = 0.0
        self.frames = 0.0

    def timed(self, batches: Iterable) -> Iterator:
        """The same batches, with the time each was waited for noted."""
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += time.monotonic() - asked
            yield batch

    def read(self) -> dict[str, float]:
        now = time.monotonic()
        spent = now - self._lap
        speed = {"frames_per_second": self.frames / spent, "wait_share": self.waited / spent}
        return (
            {"wall_time": now - self._begun}
            | speed
            | {"peak_memory_mb": peak_memory() / 1e6, "peak_gpu_mb": peak_gpu() / 1e6}
        )


def peak_memory() -> int:
    """The most memory that this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_gpu() -> int:
    """The most GPU memory that tensors have held, in bytes; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
