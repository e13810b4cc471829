"""Draws the memory horizon from what analysis.memory_precompute wrote, a row for each agent; its numbers go
into one file.

By row: how far policy and value move when only the last k frames are remembered; how many levels fewer are
solved; how far the policy moves where the frame is the same and the velocity, which is not on the screen, is
another.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    precomp_dirs: tuple[Path, ...] = ()
    """Directories that the precompute step wrote, a row each; left out, the latest in
    <out_dir>/memory_precomp.
    """
    names: tuple[str, ...] = ()
    """What the agents are called in the figure and in the file of numbers, one name each; left out, by their
    directories.
    """
    out_dir: Path = Path("results")
    """Where memory_plots is written, and memory_precomp is looked for."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.io.steps import find_step, read_numbers
from analysis.memory.figure import draw
from analysis.memory.summary import COMMAND, STEP, VERSION
from common.checkpoints import write_json
from common.runs import UsageError


def main(args: Args) -> None:
    runs = [
        find_step(args.out_dir, STEP, VERSION, COMMAND, chosen) for chosen in args.precomp_dirs or (None,)
    ]
    names = args.names or tuple(run.name for run in runs)
    if len(names) != len(runs) or len(set(names)) != len(names):
        raise UsageError(f"--names gives {len(names)} names for {len(runs)} agents: give each one of its own")
    found = {name: read_numbers(run) for name, run in zip(names, runs)}
    out = args.out_dir / "memory_plots"
    picture = draw(found, out / "memory")
    write_json(out / "memory.json", found)
    logging.info("figure: %s\nnumbers: %s", picture, out / "memory.json")


if __name__ == "__main__":
    run_main(main, ARGS)
