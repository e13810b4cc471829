"""Draws the memory horizon of one or several agents, a row each, from numbers of analysis.memory_precompute.

Columns: change of policy and of value if only the last k frames are remembered; change of the share of levels
solved; change of the policy if the same frame is reached with another velocity.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    precomp_dirs: tuple[Path, ...] = ()
    """Finished precompute directories, one row each; default: the latest in <out_dir>/memory_precomp."""
    names: tuple[str, ...] = ()
    """Names of the agents, one for each directory; default: the directories' names."""
    out_dir: Path = Path("results")
    """Directory that holds memory_precomp and receives memory_plots."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.io.steps import find_step, read_numbers
from analysis.memory.figure import draw
from analysis.memory.summary import COMMAND, STEP, VERSION
from common.checkpoints import write_json
from common.runs import UsageError


def main(args: Args) -> None:
    directories = args.precomp_dirs or (None,)
    runs = [find_step(args.out_dir, STEP, VERSION, COMMAND, chosen) for chosen in directories]
    names = args.names or tuple(run.name for run in runs)
    if len(names) != len(runs) or len(set(names)) != len(names):
        raise UsageError(f"--names gives {len(names)} names for {len(runs)} agents: give each one of its own")
    numbers = {name: read_numbers(run) for name, run in zip(names, runs)}
    out = args.out_dir / "memory_plots"
    figure = draw(numbers, out / "memory")
    write_json(out / "memory.json", numbers)
    logging.info("figure: %s\nnumbers: %s", figure, out / "memory.json")


if __name__ == "__main__":
    run_main(main, ARGS)
