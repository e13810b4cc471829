"""What every script that scores a world model on recorded windows begins with."""

import math
from pathlib import Path

import torch

from agents.actor_critic import load_agent
from analysis.io.shared_args import EvalArgs
from analysis.model_eval.eval_windows import EvalWindows
from common.integrity import check_memory
from common.precision import choose_precision, set_precision
from common.runs import Run, file_id, open_run
from common.words import counted
from generative.compatibility import check_split, check_store
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from rollouts.split import SPLIT_VERSION
from rollouts.store import Rollouts


def load_eval(args: EvalArgs, device: torch.device) -> tuple[Simulator, Rollouts]:
    """The simulator and the store.

    Raises:
        UsageError: if agent, world model and store do not belong together.
    """
    rollouts = Rollouts.open(args.data_dir)
    agent, agent_meta = load_agent(args.agent_file, device)
    check_store(rollouts, agent, agent_meta, args.agent_file)
    simulator, meta = load_simulator(args.world_model_file, args.agent_file, device=device)
    check_split(meta, args.world_model_file)
    return simulator, rollouts


def open_eval_run(
    out_dir: Path,
    args: EvalArgs,
    simulator: Simulator,
    rollouts: Rollouts,
    device: torch.device,
    more_inputs: dict[str, str] | None = None,
) -> tuple[Run, dict[str, str]]:
    """The run of this command, and the ids of its inputs; sets the precision of the networks."""
    inputs = {
        "world_model_file": file_id(args.world_model_file),
        "agent_file": file_id(args.agent_file),
        "data_dir": rollouts.id,
    } | (more_inputs or {})
    precision = choose_precision(args.precision, device)
    config = vars(args) | {"split": SPLIT_VERSION}
    run = open_run(out_dir, args.world_model_file.stem, config, args.new, inputs, precision=precision)
    set_precision(run.precision, simulator.model, simulator.agent)
    return run, inputs


def check_batch_memory(simulator: Simulator, windows: EvalWindows, batch_size: int, flags: str) -> None:
    """Raises UsageError, naming the flags, if the machine's memory cannot hold a batch of windows."""
    batch = min(batch_size, len(windows.table))
    size = 4 * batch * windows.windows.length * math.prod(simulator.model.config.obs_shape)
    check_memory(size, f"a batch of {counted(batch, 'window')} ({flags})")
