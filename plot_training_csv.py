"""Draws training curves of one or several runs: plot.png (all columns) and plot_for_fig.png (return only)."""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    datapath: tuple[Path, ...]
    """Run directories, or directories that contain runs; every log.csv below them is drawn. Runs that differ
    only in their seed share a colour, with a thin line each and their mean. A run that continues another's
    checkpoint continues its line.
    """
    smoothing: int | None = None
    """Window of the moving average, in environment steps; 0 for no smoothing; default: a thirtieth of the
    longest run.
    """
    out_dir: Path | None = None
    """Directory for the pictures; left out, the first --datapath."""
    formats: tuple[str, ...] = ("png",)
    """File formats: png, svg, pdf."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.plotting.style import save_figure
from analysis.training_curves.curves import find_runs, join_runs, load_run
from analysis.training_curves.figures import draw_columns, draw_returns
from common.runs import UsageError


def main(args: Args) -> None:
    if args.smoothing is not None and args.smoothing < 0:
        raise UsageError(f"--smoothing is {args.smoothing}: give a number of environment steps, 0 or more")
    if not args.datapath:
        raise UsageError("no --datapath given: give one run directory or more")
    runs = join_runs([load_run(directory) for directory in find_runs(args.datapath)])
    window = max(run.last_step for run in runs) / 30 if args.smoothing is None else args.smoothing
    output = args.out_dir or args.datapath[0]
    for name, draw in (("plot", draw_columns), ("plot_for_fig", draw_returns)):
        for path in save_figure(draw(runs, window), output / name, args.formats):
            logging.info("%s", path)


if __name__ == "__main__":
    run_main(main, ARGS)
