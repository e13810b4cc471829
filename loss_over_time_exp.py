"""How a world model's errors grow over simulated steps, on held-out levels: writes loss_over_time.json and its plot."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.actor_critic import load_agent
from analysis.card_windows import choose_parts
from analysis.loss_over_time import losses, summary
from analysis.plot_loss_over_time import draw
from common.checkpoints import write_json
from common.cli import run_script
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id, manifest, open_run
from generative.compatibility import check_store
from generative.simulator import load_simulator
from rollouts.store import Rollouts


@dataclass
class Args:
    model_file: Path
    """The world model."""
    agent_file: Path
    """The agent that it was trained with."""
    data_dir: Path = Path("data")
    """Store of real rollouts."""
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
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""
    logdir: Path = Path("results/loss_over_time_precomp")
    """Where results go."""
    new: bool = False
    """Start another run even though this command has one."""


def main(args: Args) -> None:
    for name in ("num_batches", "batch_size", "num_sim_steps"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}; give 1 or more")
    device = choose_device(args.device, args.gpu_device)
    agent, agent_meta = load_agent(args.agent_file)
    rollouts = Rollouts.open(args.data_dir)
    check_store(rollouts, agent, agent_meta, args.agent_file)
    simulator, _ = load_simulator(args.model_file, args.agent_file, device=device)
    k = simulator.model.config.num_initializing_steps
    count = args.num_batches * args.batch_size
    (part,) = choose_parts(rollouts, [args.part], k + args.num_sim_steps - 1, k, [count], args.seed)
    inputs = {"model_file": file_id(args.model_file), "agent_file": file_id(args.agent_file), "data_dir": rollouts.id}
    run = open_run(args.logdir, args.model_file.stem, args, args.new, inputs)
    if run.done:
        logging.info("%s is done; --new starts another", run.dir)
        return
    batches = progress_bar(part.batches(args.batch_size), unit="batch")
    found = [losses(simulator, part.windows.batch(windows).to(device), args.seed) for windows in batches]
    errors = {name: np.concatenate([batch[name] for batch in found], axis=1) for name in found[0]}
    path = run.dir / "loss_over_time.json"
    write_json(path, {"manifest": manifest(inputs)} | part.describe() | summary(errors))
    picture = draw(path)
    run.finish({"windows": len(part.table)})
    logging.info("%s and %s", path, picture)


if __name__ == "__main__":
    run_script(main, Args, __doc__)
