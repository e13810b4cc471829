"""Measures of a training run: running means, throughput and memory."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator

import torch

CLOCK_COLUMNS = ("wall_time", "frames_per_second", "wait_share", "peak_memory_mb", "peak_gpu_mb")


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
    """Training throughput since the last row: frames per second, and the fraction of time spent waiting for
    batches.
    """

    def __init__(self, wall_time: float):
        self._begun = time.monotonic() - wall_time
        self.reset()

    def reset(self) -> None:
        self._lap = time.monotonic()
        self.waited = 0.0
        self.frames = 0.0

    def timed(self, batches: Iterable) -> Iterator:
        """Yields the batches and records how long each was waited for."""
        iterator = iter(batches)
        while True:
            requested = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += time.monotonic() - requested
            yield batch

    def read(self) -> dict[str, float]:
        """The clock's columns of a row."""
        now = time.monotonic()
        elapsed = now - self._lap
        return {
            "wall_time": now - self._begun,
            "frames_per_second": self.frames / elapsed,
            "wait_share": self.waited / elapsed,
            "peak_memory_mb": peak_memory() / 1e6,
            "peak_gpu_mb": peak_gpu() / 1e6,
        }


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_gpu() -> int:
    """Peak GPU memory of tensors, in bytes; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def as_numbers(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Scalar tensors as Python numbers, in one transfer from the device."""
    return dict(zip(tensors, torch.stack([x.detach().float() for x in tensors.values()]).tolist()))
