"""What fitting directions costs as recordings grow: seconds and peak memory of each method, by number of
states.

The states are made up: squashed mixtures of sparse sources, as wide as an agent's memory. What is asked of a
million states of width 64 on two cores is 10 minutes and 6 GB (resident memory, libraries and the states
themselves included). The clock counts all that the machine does; CPU seconds, summed over threads, only the
fit.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel

METHODS = ("pca", "ica", "nmf", "dictionary", "probes")


@dataclass
class Args:
    counts: tuple[int, ...] = (10_000, 50_000, 250_000, 1_000_000)
    """Numbers of states."""
    width: int = 64
    """Features of each state."""
    num_directions: int = 16
    """Directions to fit; a dictionary has 16 times as many and activates this many at a time."""
    methods: tuple[str, ...] = METHODS
    """Which of pca, ica, nmf, dictionary and probes."""
    num_threads: int = 2
    """Of PyTorch and of the linear algebra."""
    out_file: Path = Path("benchmarks/results/directions.json")
    """Where the figures go."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.simulation import peak_bytes
from common.checkpoints import write_json
from common.progress import progress_bar
from common.runs import manifest
from interpret.directions.dictionary import fit_dictionary
from interpret.directions.ica import fit_ica
from interpret.directions.nmf import fit_nmf
from interpret.directions.pca import fit_pca
from interpret.directions.probe_directions import fit_probes
from interpret.directions.reconstruction import reconstruct

STEPS_PER_LEVEL = 70
MOST_SECONDS = 600
MOST_BYTES = 6e9
FITS: dict[str, Callable] = {
    "pca": fit_pca,
    "ica": fit_ica,
    "nmf": fit_nmf,
    "dictionary": lambda x, groups, count: fit_dictionary(x, groups, 16 * count, count),
    "probes": lambda x, groups, count: fit_probes(
        x, groups, {"number": x[:, 0] * x[:, 1] + x[:, 2], "truth": x[:, 3] + x[:, 4] * x[:, 5] > 0.5}
    ),
}


def made_states(count: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """States [count, width] float32 in (-1, 1) and their levels [count]."""
    rng = np.random.default_rng(seed)
    sources = width // 4
    mixing = rng.normal(size=(sources, width)).astype(np.float32)
    x = np.empty((count, width), np.float32)
    for at in range(0, count, 65_536):
        part = x[at : at + 65_536]
        part[:] = np.tanh(rng.laplace(size=(len(part), sources)).astype(np.float32) @ mixing / sources)
    return x, np.arange(count) // STEPS_PER_LEVEL


def cell(method: str, x: np.ndarray, groups: np.ndarray, directions: int) -> dict:
    """One method on these states: seconds by the clock and of the CPU, peak memory, and how well its scores
    hold the states.
    """
    peak_bytes(torch.device("cpu"), reset=True)
    clock = time.perf_counter()
    cpu = time.process_time()
    found = FITS[method](x, groups, directions)
    spent = {
        "clock_s": time.perf_counter() - clock,
        "cpu_s": time.process_time() - cpu,
        "peak_bytes": peak_bytes(torch.device("cpu")),
    }
    return {
        "method": method,
        "states": len(x),
        "fit_on": found.provenance["n"],
        **spent,
        "explained": reconstruct(found, x[:20_000]).explained,
    }


def with_growth(rows: list[dict]) -> list[dict]:
    """The rows with the exponent of CPU seconds against states since the method's row before (1 is linear),
    and whether they are within bounds.
    """
    last: dict[str, dict] = {}
    for row in rows:
        before = last.get(row["method"])
        row["growth"] = (
            math.log(row["cpu_s"] / before["cpu_s"]) / math.log(row["states"] / before["states"])
            if before
            else None
        )
        row["within"] = row["clock_s"] <= MOST_SECONDS and row["peak_bytes"] <= MOST_BYTES
        last[row["method"]] = row
    return rows


def main(args: Args) -> None:
    torch.set_num_threads(args.num_threads)
    rows = []
    with threadpool_limits(args.num_threads):
        for count in progress_bar(sorted(args.counts), unit="size", desc="directions"):
            states = made_states(count, args.width)
            rows += [cell(method, *states, args.num_directions) for method in args.methods]
    logging.info(
        "method       states    fit on  clock s    CPU s  growth  peak GB  explained  within 10 min and 6 GB"
    )
    for row in with_growth(rows):
        growth = "" if row["growth"] is None else f"{row['growth']:.2f}"
        logging.info(
            "%-10s %8d  %8d  %7.1f  %7.1f  %6s  %7.2f  %9.3f  %s",
            row["method"],
            row["states"],
            row["fit_on"],
            row["clock_s"],
            row["cpu_s"],
            growth,
            row["peak_bytes"] / 1e9,
            row["explained"],
            "yes" if row["within"] else "no",
        )
    write_json(args.out_file, {"rows": rows, "threads": args.num_threads, "manifest": manifest()})


if __name__ == "__main__":
    run_main(main, ARGS)
