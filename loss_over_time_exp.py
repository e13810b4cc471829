"""How a world model's errors grow over simulated steps, on held-out levels: writes loss_over_time.json and its plot."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path
    """The world model."""
    agent_file: Path
    """The agent that it was trained with."""
    data_dir: Path = Path("data")
    """Store of real rollouts."""
    exp_name: Annotated[str, tyro.conf.arg(aliases=["--gen_mod_exp_name"])] = "test"
    """Name of the experiment; results go to <out_dir>/<exp_name>/."""
    env_name: str | None = None
    """Game that the store has to be of; left out, any. So too the next flag."""
    distribution_mode: str | None = None
    """easy, hard, extreme, memory or exploration."""
    start_level: int = 0
    """Seed of the first level that windows are from."""
    num_levels: int = 0
    """How many levels they are from; 0 means all from start_level on."""
    part: str = "test"
    """Which layouts the windows are from: test, validation or train."""
    num_batches: int = 16
    """Batches of windows, drawn uniformly over episode time; fewer where the store has fewer windows."""
    batch_size: int = 32
    """Windows per batch."""
    num_sim_steps: int = 32
    """Simulated frames; the first is the last that the model was given."""
    seed: int = 0
    """Seed of windows and noise."""
    device: str = "auto"
    """auto, gpu or cpu."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""
    out_dir: Path = Path("results/loss_over_time_precomp")
    """Where experiments go."""
    new: bool = False
    """Start another run even though this command has one."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.actor_critic import load_agent
from analysis.card_windows import choose_parts
from analysis.limits import Limit, check_least, fit_sizes
from analysis.loss_over_time import losses, summary
from analysis.plot_loss_over_time import draw
from common.checkpoints import write_json
from common.integrity import check_memory
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id, manifest, open_run
from common.words import counted
from generative.compatibility import check_store
from generative.simulator import load_simulator
from rollouts.store import Rollouts


def main(args: Args) -> None:
    check_least(args, num_batches=1, batch_size=1, num_sim_steps=1)
    if args.start_level < 0 or args.num_levels < 0:
        raise UsageError(f"--start_level is {args.start_level} and --num_levels {args.num_levels}: both count from 0")
    device = choose_device(args.device, args.gpu_device)
    agent, agent_meta = load_agent(args.agent_file)
    rollouts = Rollouts.open(args.data_dir)
    check_store(rollouts, agent, agent_meta, args.agent_file)
    check_game(rollouts, args)
    simulator, _ = load_simulator(args.model_file, args.agent_file, device=device)
    k = simulator.model.config.num_initializing_steps
    count = args.num_batches * args.batch_size
    (part,) = choose_parts(rollouts, [args.part], k + args.num_sim_steps - 1, k, [count], args.seed, args.start_level, args.num_levels)
    has = len(part.table)
    args = fit_sizes(args, {"num_batches": Limit(-(-has // args.batch_size), f"{counted(has, 'window')} of layouts for {args.part}")})
    together = min(args.batch_size, has) * part.windows.length
    check_memory(4 * together * math.prod(simulator.model.config.obs_shape), f"a batch of {counted(together, 'frame')} (--batch_size, --num_sim_steps)")
    inputs = {"model_file": file_id(args.model_file), "agent_file": file_id(args.agent_file), "data_dir": rollouts.id}
    precision = choose_precision(args.precision, device)
    run = open_run(args.out_dir / args.exp_name, args.model_file.stem, args, args.new, inputs, precision=precision)
    set_precision(run.precision, simulator.model, simulator.agent)
    if run.done:
        return
    batches = progress_bar(part.batches(args.batch_size), unit="batch")
    found = [losses(simulator, part.windows.batch(windows).to(device), args.seed) for windows in batches]
    errors = {name: np.concatenate([batch[name] for batch in found], axis=1) for name in found[0]}
    path = run.dir / "loss_over_time.json"
    write_json(path, {"manifest": manifest(inputs, run.precision)} | part.describe() | summary(errors))
    picture = draw(path)
    run.finish({"windows": len(part.table)})
    logging.info("%s and %s", path, picture)


def check_game(rollouts: Rollouts, args: Args) -> None:
    """Raises UsageError for a store of another game, or of another mode of it, than was asked for."""
    for name in ("env_name", "distribution_mode"):
        asked, recorded = getattr(args, name), (rollouts.manifest.get("env") or {}).get(name)
        if asked not in (None, recorded):
            raise UsageError(f"--{name} is {asked}, and {args.data_dir} was recorded with {recorded}: leave it out, or give another --data_dir")


if __name__ == "__main__":
    run_main(main, ARGS)
