"""The whole pipeline on real Procgen in about ten minutes: train, record, simulate, interpret, report.html.

The demo first times the machine and chooses sizes so that it ends within --minutes. The same command again
resumes with the same sizes.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    env_name: str = "coinrun"
    """The game. CoinRun continues with the pretrained agent and simulator, other games with those that the
    demo trains.
    """
    out_dir: Path | None = None
    """Directory of all results; default: demo/<env_name>."""
    minutes: float = 10.0
    """Time limit for the whole demo on this machine. It is saved in plan.json with all sizes; to change it,
    delete plan.json or give another --out_dir.
    """
    num_timesteps: int | None = None
    """Training steps of the demo's own agent; default: planned."""
    num_episodes: int | None = None
    """Recorded episodes; default: planned."""
    num_batches: int | None = None
    """Training batches of the demo's own world model; default: planned."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.demo_report.commands import SHIPPED_AGENT, SHIPPED_SIMULATOR, Demo, run_pipeline
from analysis.demo_report.demo_results import DemoResults
from analysis.demo_report.plan import Sizes, make_plan, measure_rates, plan_table, read_plan, steps_of
from analysis.demo_report.report import write_report
from common.runs import UsageError
from envs.procgen import ProcgenConfig


def main(args: Args) -> None:
    ProcgenConfig(args.env_name)  # refuses an unknown game
    check(args)
    out = args.out_dir or Path("demo") / args.env_name
    results = run_pipeline(Demo(args.env_name, out, plan_sizes(args, out)))
    report = write_report(results, out)
    print(next_commands(results))
    print(f"\nreport: {report.resolve()}")


def check(args: Args) -> None:
    """Raises UsageError for invalid flags, before any work."""
    if not 0 < args.minutes < math.inf:  # also refuses NaN, which would never equal the plan's minutes
        raise UsageError(f"--minutes is {args.minutes:g}: give a number above 0")
    for name, size in sizes_from_flags(args).items():
        if size < 1:
            raise UsageError(f"--{name} is {size}: give 1 or more")


def plan_sizes(args: Args, out: Path) -> Sizes:
    """The sizes of an earlier run into `out`, or new ones for this machine; prints the plan.

    Raises:
        UsageError: an earlier run into `out` had other flags.
    """
    steps = steps_of(args.env_name)
    asked = sizes_from_flags(args)
    plan = read_plan(out)
    if plan is None:
        print("timing this machine for a few seconds", flush=True)
        rates = measure_rates(args.env_name, SHIPPED_SIMULATOR, SHIPPED_AGENT)
        plan = make_plan(out, steps, rates, args.minutes, asked)
    elif (plan["minutes"], plan["asked"]) != (args.minutes, asked):
        raise UsageError(
            f"{out / 'plan.json'} is of a demo with other --minutes or sizes: give the same flags again, "
            "give another --out_dir, or delete it"
        )
    print(plan_table(steps, plan), flush=True)
    return Sizes(**plan["sizes"])


def sizes_from_flags(args: Args) -> dict[str, int]:
    """The sizes given as flags."""
    given = {name: getattr(args, name) for name in ("num_timesteps", "num_episodes", "num_batches")}
    return {name: size for name, size in given.items() if size is not None}


def next_commands(results: DemoResults) -> str:
    """Variables and commands that continue with the demo's results, for the documented pipeline."""
    variables = {
        "AGENT": results.agent_file,
        "MODEL": results.world_model_file,
        "DATA": results.recording,
        "DISCOVERY": results.recording,
    }
    lines = [f"{name}={path}" for name, path in variables.items()]
    if results.shipped:
        lines += [
            "python -m analysis.report_card --world_model_file $MODEL --agent_file $AGENT --data_dir $DATA",
            f"python -m analysis.probes_plotting --out_dir {results.artefacts}",
        ]
    lines.append(f"python analysis/hidden_analysis_plotting.py --out_dir {results.artefacts}")
    head = (
        "\nNext: the documented pipeline, on the demo's results; python -m analysis.status lists what exists."
    )
    return "\n".join([head, *(f"  {line}" for line in lines)])


if __name__ == "__main__":
    run_main(main, ARGS)
