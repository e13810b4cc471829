"""A world model's errors by simulated step on held-out levels: writes loss_over_time.json and its plot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from analysis.io.shared_args import EvalArgs
from common.cli import parse, run_main


@dataclass
class Args(EvalArgs):
    exp_name: Annotated[str, tyro.conf.arg(aliases=["--gen_mod_exp_name"])] = "test"
    """Name of the experiment; results go to <out_dir>/<exp_name>/."""
    env_name: str | None = None
    """Game that the store must be of; default: any."""
    distribution_mode: str | None = None
    """Mode that the store must be of: easy, hard, extreme, memory or exploration; default: any."""
    start_level: int = 0
    """Seed of the first level that windows are from."""
    num_levels: int = 0
    """Number of levels that windows are from; 0 for all from start_level on."""
    part: str = "test"
    """Split of the layouts that windows are from: test, validation or train."""
    num_batches: int = 16
    """Batches of windows, uniform over episode time; fewer if the store has fewer windows."""
    batch_size: int = 32
    """Windows per batch."""
    num_sim_steps: int = 32
    """Simulated frames; the first is the last frame given to the model."""
    out_dir: Path = Path("results/loss_over_time_precomp")
    """Directory of the experiments."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import logging

import numpy as np
import torch

from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.model_eval.eval_run import check_batch_memory, load_eval, open_eval_run
from analysis.model_eval.eval_windows import EvalWindows, draw_windows
from analysis.model_eval.loss_over_time import open_loop_errors, summarize_errors
from analysis.plot_loss_over_time import draw
from common.checkpoints import write_json
from common.progress import progress_bar
from common.runs import UsageError, choose_device, manifest
from common.words import counted
from generative.simulator import Simulator
from rollouts.store import Rollouts


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    simulator, rollouts = load_eval(args, device)
    check_game(rollouts, args)
    args, windows = choose_windows(args, simulator, rollouts)
    run, inputs = open_eval_run(args.out_dir / args.exp_name, args, simulator, rollouts, device)
    if run.done:
        return
    summary = summarize_errors(measure_errors(args, simulator, windows, device))
    path = run.dir / "loss_over_time.json"
    write_json(path, {"manifest": manifest(inputs, run.precision)} | windows.describe() | summary)
    picture = draw(path)
    run.finish({"windows": len(windows.table)})
    logging.info("%s and %s", path, picture)


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_batches=1, batch_size=1, num_sim_steps=1)
    if args.start_level < 0 or args.num_levels < 0:
        raise UsageError(
            f"--start_level is {args.start_level} and --num_levels {args.num_levels}: both count from 0"
        )


def choose_windows(args: Args, simulator: Simulator, rollouts: Rollouts) -> tuple[Args, EvalWindows]:
    """The windows, and the flags with sizes lowered to what the store has.

    Raises:
        UsageError: for too few layouts, or batches that the machine's memory cannot hold.
    """
    k = simulator.model.config.num_initializing_steps
    length = k + args.num_sim_steps - 1
    counts = [args.num_batches * args.batch_size]
    levels = args.start_level, args.num_levels
    (windows,) = draw_windows(rollouts, [args.part], length, k, counts, args.seed, *levels)
    available = len(windows.table)
    because = f"{counted(available, 'window')} of layouts for {args.part}"
    args = fit_sizes(args, {"num_batches": Limit(-(-available // args.batch_size), because)})
    check_batch_memory(simulator, windows, args.batch_size, "--batch_size, --num_sim_steps")
    return args, windows


def measure_errors(
    args: Args, simulator: Simulator, windows: EvalWindows, device: torch.device
) -> dict[str, np.ndarray]:
    """`open_loop_errors` of all windows: arrays [S, n]."""
    errors = [
        open_loop_errors(simulator, windows.windows.batch(batch).to(device), args.seed)
        for batch in progress_bar(windows.batches(args.batch_size), unit="batch")
    ]
    return {name: np.concatenate([batch[name] for batch in errors], axis=1) for name in errors[0]}


def check_game(rollouts: Rollouts, args: Args) -> None:
    """Raises UsageError if the store is of another game or mode than the flags say."""
    for name in ("env_name", "distribution_mode"):
        expected = getattr(args, name)
        recorded = (rollouts.manifest.get("env") or {}).get(name)
        if expected not in (None, recorded):
            found = f"--{name} is {expected}, and {args.data_dir} was recorded with {recorded}"
            raise UsageError(f"{found}: leave it out, or give another --data_dir")


if __name__ == "__main__":
    run_main(main, ARGS)
