"""Draws the training curves of one or several runs: plot.png (every column) and plot_for_fig.png (return
only).
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    datapath: tuple[Path, ...]
    """Directories of runs, or directories that hold runs: every log.csv below them is drawn. Runs that differ
    only in their seed share a colour: a thin line each, and their mean. A run that went on from another's
    checkpoint continues its line.
    """
    smoothing: int | None = None
    """Window of the centred mean, in environment steps; 0 draws the log as it is; left out, a thirtieth of
    the longest run.
    """
    out_dir: Path | None = None
    """Directory for the pictures; left out, the first --datapath."""
    formats: tuple[str, ...] = ("png",)
    """Kinds of files to write: png, svg, pdf."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.plotting.style import save_figure
from analysis.training_curves.curves import find_runs, join_runs, load_run
from analysis.training_curves.figures import draw_columns, draw_returns
from common.runs import UsageError


def main(args: Args) -> None:
    if args.smoothing is not None and args.smoothing < 0:
        raise UsageError(f"--smoothing is a number of environment steps from 0 on, not {args.smoothing}")
    if not args.datapath:
        raise UsageError("no --datapath given: name the directory of at least one run")
    runs = join_runs([load_run(directory) for directory in find_runs(args.datapath)])
    window = max(run.last_step for run in runs) / 30 if args.smoothing is None else args.smoothing
    output = args.out_dir or args.datapath[0]
    for name, draw in (("plot", draw_columns), ("plot_for_fig", draw_returns)):
        for path in save_figure(draw(runs, window), output / name, args.formats):
            logging.info("%s", path)


if __name__ == "__main__":
    run_main(main, ARGS)
