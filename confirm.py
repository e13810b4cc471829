"""Tests registered hypotheses about edits on sealed levels, in the game and in the simulator.

A hypothesis is a YAML file that is committed before the test and unaltered since. All files of a folder are
one family: they share fork points, control arms and null edits, and Holm's correction. A direction is tested
on the sealed levels once; opened.jsonl next to the files keeps the record. Null edits of the same dose
decide; those of equal norm, and the simulator's errors in recognising deaths and coins, are reported too. The
same command resumes.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    hypotheses: tyro.conf.Positional[tuple[Path, ...]]
    """The YAML files: all those of a folder."""
    agent_file: Path
    """The agent."""
    data_dir: Path
    """Store of its rollouts on the sealed levels."""
    direction_files: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--directions"])]
    """Files of directions, with those of the hypotheses among them."""
    world_model_file: Path | None = None
    """Its world model, to test the hypotheses in the simulator too."""
    batch_size: int = 64
    """Forks that are played at a time."""
    num_threads: int = 2
    """Threads of the game; does not change results."""
    out_dir: Path = Path("results")
    """Directory that receives confirm_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.interventions.confirmation import STEP, VERSION
from analysis.interventions.confirmed import FamilyInputs, compute
from analysis.interventions.inputs import load_recorded
from analysis.interventions.registry import check_registered, check_sealed, open_sealed, read_family
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id
from interpret.directions.by_kind import load_by_kind
from interpret.directions.directions import Directions
from interpret.interventions.arms import only_edit
from interpret.interventions.hypothesis import Hypothesis
from interpret.interventions.interventions import bind


def directions_of(args: Args, family: dict[str, Hypothesis], agent, agent_id: str) -> Directions:
    """The directions of the family. Raises UsageError for another agent, other directions or other edits."""
    for name, hypothesis in family.items():
        if hypothesis.agent != agent_id:
            raise UsageError(f"{name} is about agent {hypothesis.agent}, not {agent_id}: give that one")
    wanted = next(iter(family.values())).directions
    by_kind = load_by_kind(args.direction_files, agent.core.state_size, agent_id)
    own = {kind: one for kind, one in by_kind.items() if one.id == wanted}
    if not own:
        raise UsageError(f"none of --direction_files has the id {wanted}: give that file")
    for hypothesis in family.values():
        only_edit(bind([hypothesis.edit], own, num_actions=agent.num_actions))
    (directions,) = own.values()
    return directions.to(agent.initial_state(1).device)


def main(args: Args) -> None:
    check_least(args, batch_size=1)
    family = read_family(args.hypotheses)
    commits = {path.name: check_registered(path) for path in args.hypotheses}
    device = choose_device(args.device)
    recorded = load_recorded(args.data_dir, args.agent_file, args.world_model_file, device)
    for hypothesis in family.values():
        check_sealed(hypothesis, recorded.rollouts)
    directions = directions_of(args, family, recorded.agent, recorded.ids["agent_file"])
    inputs = recorded.ids | {path.name: file_id(path) for path in args.hypotheses}
    for path in args.hypotheses:
        open_sealed(path, family[path.name], commits[path.name])
    run = open_step(
        args.out_dir, STEP, VERSION, {}, inputs, args.new, choose_precision(args.precision, device)
    )
    set_precision(run.precision, *recorded.networks)
    if not run.done:
        given = FamilyInputs(recorded, directions, args.batch_size, args.num_threads, device)
        numbers = compute(run, family, given)
        for one in numbers["hypotheses"]:
            one["commit"] = commits[one["file"]]
        finish_step(run, {"inputs": inputs} | numbers)
    point_latest(run)
    for one in read_numbers(run.dir)["hypotheses"]:
        for world, found in one["worlds"].items():
            logging.info("%s (%s): %s: %s", one["file"], world, one["sentence"], found["verdict"])
    logging.info("numbers: %s; draw them with python -m analysis.confirmations_plotting", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
