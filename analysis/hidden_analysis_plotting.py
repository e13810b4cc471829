"""Draws the hidden-state analysis from its artefacts: colourings of every map, episode paths, clusters,
animations, numbers, and an interactive explorer.

Reads only what analysis/hidden_analysis_precompute.py wrote: no agent, store or simulator.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    precomp_dir: Path | None = None
    """Directory written by the precompute step; default: the latest in <out_dir>/hx_analysis_precomp."""
    out_dir: Path = Path("results")
    """Directory that holds hx_analysis_precomp and receives hx_plots."""
    animations: tuple[str, ...] | None = None
    """Labels that colour a rotating animation; default: all; no word for no animation."""
    explorer: bool = True
    """Write explorer.html, an interactive map whose points show their frames and play their episodes."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.io.steps import find_step
from analysis.maps.hidden_state_pages import draw_page
from analysis.maps.map_artefacts import read_hidden_state_map
from analysis.maps.map_summary import COMMAND, STEP, VERSION
from analysis.plotting.colourings import HIDDEN_COLOURINGS
from common.runs import UsageError


def main(args: Args) -> None:
    known = [colouring.label for colouring in HIDDEN_COLOURINGS]
    animations = known if args.animations is None else args.animations
    unknown = [label for label in animations if label not in known]
    if unknown:
        raise UsageError(
            f"unknown label {unknown[0]!r} for an animation; choose from: {', '.join(known)}, or give "
            "--animations alone for none"
        )
    directory = find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir)
    out = args.out_dir / "hx_plots" / directory.name
    page = draw_page(read_hidden_state_map(directory), out, animations, args.explorer)
    logging.info("figures, numbers and page: %s", page)


if __name__ == "__main__":
    run_main(main, ARGS)
