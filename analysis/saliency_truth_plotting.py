"""Draws the saliency benchmark from the artefacts of analysis.saliency_truth_precompute: states with maps and
real effects, the leaderboard of methods, maps under fresh weights, and what maps make of kinds of objects.
"""

from dataclasses import dataclass
from pathlib import Path

from analysis.io.shared_args import PlotArgs
from common.cli import parse, run_main


@dataclass
class Args(PlotArgs):
    benchmark: Path | None = None
    """Also write the benchmark to this path, as .safetensors and .json."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import logging

from analysis.game_check.saliency_figures import NAMES, best_method, draw_leaderboard, draw_misleads
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers, read_part
from analysis.saliency_truth_precompute import COMMAND, STEP, VERSION
from interpret.attribution.leaderboard import Benchmark


def main(args: Args) -> None:
    directory = find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir)
    numbers = read_numbers(directory)
    benchmark = Benchmark.open(directory / "benchmark")
    plots = args.out_dir / f"{STEP}_plots" / directory.name
    maps = read_part(directory, "maps_real")
    pictures = [
        draw_leaderboard(numbers, benchmark, maps, plots / "saliency_leaderboard"),
        draw_misleads(numbers, plots / "saliency_misleads"),
    ]
    publish(args, quotable(numbers), pictures)
    if args.benchmark:
        benchmark.save(args.benchmark)
        logging.info("benchmark: %s", args.benchmark)


def quotable(numbers: dict) -> dict:
    """The numbers for documentation pages, with the names of methods and, for each function and effect, the
    best one and those that are surely above edges.
    """
    real = numbers["scores"]["real"]
    above = {
        key: [NAMES[name] for name, row in rows.items() if (row["above_edges"]["low"] or 0) > 0]
        for key, rows in real.items()
    }
    best = {key: best_method(rows) for key, rows in real.items()}
    return numbers | {"names": NAMES, "best": best, "beats_edges": above}


if __name__ == "__main__":
    run_main(main, ARGS)
