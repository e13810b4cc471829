"""Draws lagged correlations from their artefacts: matrices by lag, all clusters, and the strongest pairs."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    precomp_dir: Path | None = None
    """Directory of a finished step; default: the latest in <out_dir>/xcorr_precomp."""
    shown_lags: tuple[int, ...] = (0, 1, 2, 4, 6, 10)
    """Lags that have a matrix."""
    overview_lag: int = 1
    """Lag at which clusters are compared."""
    order: Literal["clustered", "fitted"] = "clustered"
    """Order of scores: hierarchically clustered at lag 0, or as their directions were fit."""
    out_dir: Path = Path("results")
    """Directory that holds xcorr_precomp and receives xcorr_plots."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.steps import find_step, read_numbers, read_part
from analysis.lagged.figures import (
    FigureText,
    clustered_order,
    draw_matrices,
    draw_overview,
    draw_pairs,
    symmetric_at_lag_0,
)
from analysis.lagged.store_correlations import ALL, COMMAND, NAME, VERSION, from_arrays, part_name
from analysis.plotting.style import REAL, SIMULATED
from common.runs import UsageError


def main(args: Args) -> None:
    directory = find_step(args.out_dir, NAME, VERSION, COMMAND, args.precomp_dir)
    about = read_numbers(directory)
    correlations = {name: from_arrays(read_part(directory, part_name(name))) for name in about["sets"]}
    marks = read_part(directory, "significant")
    lags = shown_lags(args, len(correlations[ALL].pairs) - 1)
    names = about["names"]
    order = np.arange(len(names))
    if args.order == "clustered":
        order = clustered_order(correlations[ALL].correlation[0])
    plots = args.out_dir / f"{NAME}_plots" / directory.name
    kind, look = ("Simulated", SIMULATED) if about["simulated"] else ("Recorded", REAL)
    for name, found in correlations.items():
        significant = symmetric_at_lag_0(marks[part_name(name)])
        n = f"{found.episodes:,} episodes, {found.pairs[0]:,} steps"
        text = FigureText(f"{kind} episodes, {'all' if name == ALL else name}.", n, about["levels"])
        path = plots / part_name(name)
        draw_matrices(found, significant, names, order, lags, text, path)
        draw_pairs(found, significant, names, look, text, path.with_name(f"{path.name}_pairs"))
    if len(correlations) > 1:
        n = f"{correlations[ALL].episodes:,} episodes, {correlations[ALL].pairs[0]:,} steps"
        text = FigureText(f"{kind} episodes.", n, about["levels"])
        draw_overview(correlations, order, args.overview_lag, text, plots / "clusters")
    logging.info("figures of %d subsets: %s", len(correlations), plots)


def shown_lags(args: Args, largest: int) -> list[int]:
    """The lags to draw that were computed. Raises UsageError if there is none, or for the overview's lag."""
    lags = [lag for lag in args.shown_lags if lag <= largest]
    if not lags or not 0 <= args.overview_lag <= largest:
        raise UsageError(
            f"lags from 0 to {largest} were computed: choose --shown_lags and --overview_lag among them"
        )
    return lags


if __name__ == "__main__":
    run_main(main, ARGS)
