"""Draws lagged correlations from their artefacts: matrices by lag, clusters side by side, and the strongest
pairs with their nulls.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    precomp_dir: Path | None = None
    """Directory of a finished step; left out, the latest of out_dir/xcorr_precomp."""
    shown_lags: tuple[int, ...] = (0, 1, 2, 4, 6, 10)
    """Lags that have a matrix."""
    overview_lag: int = 1
    """The lag at which clusters stand side by side."""
    order: Literal["clustered", "fitted"] = "clustered"
    """Scores that go together at lag 0 side by side, or all as their directions were fit."""
    out_dir: Path = Path("results")
    """Where xcorr_precomp is, and xcorr_plots is written."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.steps import find_step, read_numbers, read_part
from analysis.lagged.figures import draw_matrices, draw_overview, draw_pairs, in_order, mirrored
from analysis.lagged.store_correlations import ALL, COMMAND, NAME, VERSION, from_arrays
from analysis.plotting.style import REAL, SIMULATED
from common.runs import UsageError


def main(args: Args) -> None:
    directory = find_step(args.out_dir, NAME, VERSION, COMMAND, args.precomp_dir)
    about = read_numbers(directory)
    stands = read_part(directory, "stands")
    sets = {name: from_arrays(read_part(directory, name.replace(" ", "_"))) for name in about["sets"]}
    stands = {name: mirrored(stands[name.replace(" ", "_")]) for name in sets}
    lags = len(sets[ALL].pairs) - 1
    shown = [lag for lag in args.shown_lags if lag <= lags]
    if not shown or not 0 <= args.overview_lag <= lags:
        raise UsageError(
            f"lags from 0 to {lags} were computed: choose --shown_lags and --overview_lag among them"
        )
    names = about["names"]
    levels = about["levels"]
    order = in_order(sets[ALL].correlation[0]) if args.order == "clustered" else np.arange(len(names))
    plots = args.out_dir / f"{NAME}_plots" / directory.name
    kind, look = ("Simulated", SIMULATED) if about["simulated"] else ("Recorded", REAL)
    for name, found in sets.items():
        which = f"{kind} episodes, {'all' if name == ALL else name}."
        n = f"{found.episodes:,} episodes, {found.pairs[0]:,} steps"
        path = plots / name.replace(" ", "_")
        draw_matrices(found, stands[name], names, order, shown, which, n, levels, path)
        draw_pairs(found, stands[name], names, look, which, n, levels, path.with_name(f"{path.name}_pairs"))
    if len(sets) > 1:
        n = f"{sets[ALL].episodes:,} episodes, {sets[ALL].pairs[0]:,} steps"
        draw_overview(sets, order, args.overview_lag, f"{kind} episodes.", n, levels, plots / "clusters")
    logging.info("pictures of %d sets: %s", len(sets), plots)


if __name__ == "__main__":
    run_main(main, ARGS)
