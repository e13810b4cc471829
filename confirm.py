"""Tests a registered hypothesis about an edit on sealed levels, in the game and in the simulator.

The hypothesis is a YAML file that is committed before the test and unaltered since. Its direction is tested
on the sealed levels once; opened.jsonl next to it keeps the record. The same command resumes.
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
    hypothesis: tyro.conf.Positional[Path]
    """The YAML file."""
    agent_file: Path
    """The agent."""
    data_dir: Path
    """Store of its rollouts on the sealed levels."""
    direction_files: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--directions"])]
    """Files of directions, with those of the hypothesis among them."""
    world_model_file: Path | None = None
    """Its world model, to test the hypothesis in the simulator too."""
    num_nulls: int = 99
    """Null edits of each family."""
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

from agents.actor_critic import load_agent
from analysis.interventions.registry import check_registered, check_sealed, open_sealed
from analysis.interventions.run import Settings, compute
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id
from common.stats import Estimate
from generative.compatibility import check_store, recorded_by
from generative.simulator_file import load_simulator
from interpret.directions.by_kind import load_by_kind
from interpret.interventions.arms import only_edit
from interpret.interventions.effects import NullTest
from interpret.interventions.hypothesis import Hypothesis, judge, read_hypothesis
from interpret.interventions.interventions import Interventions, bind
from interpret.interventions.nulls import MIN_NULLS
from rollouts.store import Rollouts

STEP = "confirm"
VERSION = 1


def edit_of(args: Args, hypothesis: Hypothesis, agent, agent_id: str) -> Interventions:
    """The edit with its directions. Raises UsageError for another agent or other directions."""
    if hypothesis.agent != agent_id:
        raise UsageError(f"the hypothesis is about agent {hypothesis.agent}, not {agent_id}: give that one")
    by_kind = load_by_kind(args.direction_files, agent.core.state_size, agent_id)
    own = {kind: one for kind, one in by_kind.items() if one.id == hypothesis.directions}
    if not own:
        raise UsageError(f"none of --direction_files has the id {hypothesis.directions}: give that file")
    tested = bind([hypothesis.edit], own, num_actions=agent.num_actions)
    only_edit(tested)
    return tested.to(agent.initial_state(1).device)


def settings_of(args: Args, hypothesis: Hypothesis) -> Settings:
    """The experiment that the hypothesis asks for."""
    return Settings(
        scenes=hypothesis.scenes,
        num_fork_points=hypothesis.n,
        least_fork_points=hypothesis.n,
        steps=hypothesis.steps,
        strengths=(1.0,),
        num_nulls=args.num_nulls,
        seed=hypothesis.seed,
        batch_size=args.batch_size,
        num_threads=args.num_threads,
    )


def verdict_of(hypothesis: Hypothesis, world: dict) -> str:
    """The verdict in one world, from its numbers."""
    effect = Estimate(*world["strengths"][0]["effects"][hypothesis.event])
    test = world["nulls"]["KL-matched"]["tests"].get(hypothesis.event)
    return judge(hypothesis, effect, None if test is None else NullTest(**test))


def main(args: Args) -> None:
    check_least(args, num_nulls=MIN_NULLS, batch_size=1)
    hypothesis = read_hypothesis(args.hypothesis)
    commit = check_registered(args.hypothesis)
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    agent, meta = load_agent(args.agent_file, device)
    agent_id = file_id(args.agent_file)
    check_store(rollouts, agent, meta, args.agent_file)
    if not recorded_by(rollouts, agent_id):
        raise UsageError(f"{args.data_dir} was recorded by another agent than {args.agent_file}")
    check_sealed(hypothesis, rollouts)
    tested = edit_of(args, hypothesis, agent, agent_id)
    inputs = {"agent_file": agent_id, "data_dir": rollouts.id, "hypothesis": file_id(args.hypothesis)}
    simulator = None
    if args.world_model_file:
        simulator, _ = load_simulator(args.world_model_file, args.agent_file, device=device)
        agent = simulator.agent
        inputs["world_model_file"] = file_id(args.world_model_file)
    open_sealed(args.hypothesis, hypothesis, commit)
    asked = {"num_nulls": args.num_nulls}
    precision = choose_precision(args.precision, device)
    run = open_step(args.out_dir, STEP, VERSION, asked, inputs, args.new, precision)
    set_precision(run.precision, agent, *([simulator.model] if simulator else []))
    if not run.done:
        settings = settings_of(args, hypothesis)
        numbers = compute(run, settings, rollouts, agent, simulator, tested, device)
        verdicts = {name: verdict_of(hypothesis, world) for name, world in numbers["worlds"].items()}
        about = {"sentence": hypothesis.sentence, "commit": commit, "verdicts": verdicts, "inputs": inputs}
        finish_step(run, about | numbers)
    point_latest(run)
    for world, verdict in read_numbers(run.dir)["verdicts"].items():
        logging.info("%s: %s (%s)", hypothesis.sentence, verdict, world)
    logging.info("numbers: %s", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
