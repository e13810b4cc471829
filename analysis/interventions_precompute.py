"""What an edit of the hidden state does, in forks of the real game and in the simulator: arms, nulls, checks.

The agent plays on from recorded states, once as it is and once under the edit at each strength, with the same
noise; null edits of the same size go along other directions. Writes numbers to results/interventions_precomp
and resumes an unfinished run; draw them with analysis.interventions_plotting.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from common.cli import parse, run_main
from common.shared_flags import ALONE, Device, Job, JobFlag, LogLevel, PrecisionName
from interpret.interventions.flags import EditFlags


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the store."""
    edit: tyro.conf.OmitArgPrefixes[EditFlags] = field(default_factory=EditFlags)
    """The edit that is tested, one."""
    world_model_file: Path | None = None
    """Its world model, to play the same arms in the simulator; default: the real game alone."""
    data_dir: Path = Path("data")
    """Store of real rollouts that fork points are taken from."""
    part: Literal["test", "train", "all"] = "all"
    """Split of the world models that fork points are from; the agent was trained on none of it."""
    scenes: Literal["hazard", "any"] = "hazard"
    """States with a hazard 2 to 6 tiles ahead (CoinRun), or any."""
    num_fork_points: int = 300
    """Number of fork points, at most, each on its own layout."""
    steps: int = 24
    """Horizon of a fork."""
    draws: int = 1
    """Noise draws per fork point."""
    strengths: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5, 2.0)
    """Strengths of the edit; 1 must be among them, to which nulls are matched."""
    num_nulls: int = 99
    """Null edits of each of four families."""
    batch_size: int = 64
    """Forks that are played at a time."""
    job: JobFlag = ALONE
    num_threads: int = 2
    """Threads of the game; does not change results."""
    seed: int = 0
    """Seed of the choice of fork points and of null directions. The agent's noise is the recording's."""
    out_dir: Path = Path("results")
    """Directory that receives interventions_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)


from analysis.interventions.inputs import load_recorded
from analysis.interventions.run import Settings, compute
from analysis.interventions.summary import STEP, TESTED_OUTCOMES, VERSION
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device
from interpret.interventions.arms import only_edit
from interpret.interventions.from_flags import load_interventions
from interpret.interventions.nulls import MIN_NULLS

SETTINGS = ("part", "scenes", "num_fork_points", "steps", "draws", "strengths", "num_nulls", "seed")
"""Flags that the numbers depend on, besides the edit."""


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_fork_points=2, steps=1, draws=1, num_nulls=MIN_NULLS, batch_size=1)
    if 1.0 not in args.strengths or min(args.strengths) < 0:
        raise UsageError(f"--strengths are {args.strengths}: give 1 and others from 0 on")


def settings_of(args: Args) -> Settings:
    """The flags as settings of an experiment."""
    names = (*SETTINGS, "batch_size", "num_threads")
    return Settings(**{name: getattr(args, name) for name in names}, job=Job(*args.job))


def lines(numbers: dict) -> list[str]:
    """What the numbers say, a line for each world and outcome."""
    return [
        f"{world}: {outcome} changes by {value:+.3f} [{low:+.3f}, {high:+.3f}]: {found['verdicts'][outcome]}"
        for world, found in numbers["worlds"].items()
        for outcome in TESTED_OUTCOMES
        for value, low, high in [
            next(one for one in found["strengths"] if one["strength"] == 1)["effects"][outcome]
        ]
    ]


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    recorded = load_recorded(args.data_dir, args.agent_file, args.world_model_file, device)
    tested = load_interventions(args.edit, recorded.agent, recorded.ids["agent_file"])
    only_edit(tested)
    settings = {name: getattr(args, name) for name in SETTINGS} | {"interventions": tested.description()}
    precision = choose_precision(args.precision, device)
    run = open_step(args.out_dir, STEP, VERSION, settings, recorded.ids, args.new, precision, Job(*args.job))
    set_precision(run.precision, *recorded.networks)
    if not run.done:
        numbers = compute(run, settings_of(args), recorded, tested, device)
        if numbers is None:
            logging.info("%s: this job's share is done; the last job completes the step", run.dir)
            return
        about = {"inputs": recorded.ids, "asked": settings}
        finish_step(run, about | numbers | {"lines": lines(numbers)})
    point_latest(run)
    for line in read_numbers(run.dir)["lines"]:
        logging.info("%s", line)
    logging.info("numbers: %s", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
