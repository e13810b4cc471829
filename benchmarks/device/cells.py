"""Cells of benchmarks/gpu.py: something that is repeated and timed, with its peak memory."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.simulation import peak_bytes

LEAST_ROUNDS = 2


@dataclass(frozen=True)
class Cell:
    """What is timed.

    Attributes:
        name: of the network or script.
        what: its variant: a preset, a stage, a batch size.
        unit: that is counted.
        prepare: returns the function that is timed, which returns how many units it did.
        more: further entries of the row.
        facts: entries of the row that are known once it has run.
    """

    name: str
    what: str
    unit: str
    prepare: Callable[[], Callable[[], float]]
    more: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """What cells are prepared from: the flags, the device, and a directory for their files."""

    args: Any
    device: torch.device
    directory: Path


class Budget:
    """Time that is left for further cells.

    Args:
        minutes: in all.
    """

    def __init__(self, minutes: float):
        self.minutes = minutes
        self._begun = time.monotonic()

    @property
    def spent(self) -> float:
        """Minutes since the beginning."""
        return (time.monotonic() - self._begun) / 60

    @property
    def is_over(self) -> bool:
        return self.spent >= self.minutes


def measure(cell: Cell, device: torch.device, seconds: float, budget: Budget) -> dict:
    """The row of a cell: its rate and peak memory, or why there is none.

    The function runs once to warm up, and then until `seconds` have passed, LEAST_ROUNDS times at least.
    """
    row = {"name": cell.name, "what": cell.what, "unit": cell.unit, **cell.more}
    if budget.is_over:
        return row | {"skipped": "out of time"}
    try:
        work = cell.prepare()
        work()
        peak_bytes(device, reset=True)
        rate, rounds = timed(work, device, seconds)
    except Exception as error:  # a device or compiler that cannot: the other cells go on
        logging.debug("traceback", exc_info=True)
        return row | {"skipped": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return row | {"per_second": rate, "rounds": rounds, "peak_gb": peak_bytes(device) / 1e9} | cell.facts


def timed(work: Callable[[], float], device: torch.device, seconds: float) -> tuple[float, int]:
    """Units per second, and the number of rounds behind them: by the clock on a GPU, per second of processor
    time on a CPU, where whatever else the machine does then matters little.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    units, rounds = 0.0, 0
    begun = clock()
    while rounds < LEAST_ROUNDS or clock() - begun < seconds:
        units += work()
        rounds += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return units / (clock() - begun), rounds
