"""One of the processes of benchmarks/two_processes.py: trains as many steps as the first one is asked for.

The first process reads numbers of steps, one a line, and answers each with a line of JSON: the losses of the
steps, and seconds and frames of all. It passes the number on to the others.

Settings (JSON): training, agent_file, data_dir, world_model_file (may be null), interpreting_params_name,
param_name, batch_size and seed as the flags of the benchmark; nudge, the relative size of a random change of
the first weights; double, whether all is computed in float64.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import decision.config
import generative.model.config
from agents.actor_critic import load_agent
from benchmarks.device.stages import NEVER, StoppedClock
from common.distributed import DistContext, join_ranks
from common.precision import set_precision
from common.throughput import RunningMean
from decision.model import DecisionTransformer
from decision.trainer import Trainer as DTTrainer
from decision.windows import DTWindows, SamplingConfig, WindowSampler
from generative.model.config import STAGES, LossScales, window_length
from generative.model.world_model_file import read_world_model
from generative.training.data import WindowSource
from generative.training.trainer import Trainer as WorldModelTrainer
from rollouts.labels import Labels
from rollouts.split import episode_layouts
from rollouts.store import Rollouts


def world_model_trainer(settings: dict, ranks: DistContext, directory: Path) -> WorldModelTrainer:
    """A trainer of the stage that `settings` name."""
    agent, _ = load_agent(Path(settings["agent_file"]))
    set_precision("fp32", agent)
    rollouts = Rollouts.open(Path(settings["data_dir"]))
    labels = Labels.open(rollouts)
    shape = {"num_actions": agent.num_actions, "hidden_size": agent.core.state_size, "precision": "fp32"}
    shape |= {"tile_pixels": labels.unit, "knows_phase": True}
    sizes = {f"{stage}_batches": NEVER if stage == settings["training"] else 0 for stage in STAGES}
    sizes |= {"batch_size": settings["batch_size"]}
    name = settings["interpreting_params_name"]
    model, train = generative.model.config.load_preset(name, shape, sizes)
    steps = model.num_initializing_steps
    windows = rollouts.windows(window_length(model, train), min_steps=steps, labels=labels)
    layouts = episode_layouts(rollouts)
    source = WindowSource(windows, layouts, settings["seed"], train.death_oversampling)
    first = settings["world_model_file"]
    weights = read_world_model(Path(first))[1] if first else None
    place = (directory, settings["seed"], ranks.device, {}, weights, ranks)
    return WorldModelTrainer(model, train, LossScales(), source, agent, *place)


def dt_trainer(settings: dict, ranks: DistContext, directory: Path) -> DTTrainer:
    """A trainer of a Decision Transformer on frames."""
    rollouts = Rollouts.open(Path(settings["data_dir"]))
    shape = {"num_actions": 15, "obs_shape": rollouts.step_fields["obs"].shape, "precision": "fp32"}
    sizes = {"batch_size": settings["batch_size"]}
    config, train = decision.config.load_preset(settings["param_name"], shape, sizes)
    windows = DTWindows(rollouts, train.window_steps, config.gamma)
    sampler = WindowSampler(windows, np.zeros(len(rollouts), bool), SamplingConfig(), settings["seed"])
    torch.manual_seed(settings["seed"])
    place = (directory, settings["seed"], ranks.device, {}, ranks)
    return DTTrainer(DecisionTransformer(config), train, windows, sampler, *place)


def compute_in_double() -> None:
    """Makes this process compute in float64, also where code asks for float32."""
    from_numpy = torch.from_numpy

    def doubled(array: np.ndarray) -> torch.Tensor:
        return from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array)

    torch.set_default_dtype(torch.float64)
    torch.from_numpy = doubled
    torch.Tensor.float = torch.Tensor.double


@torch.no_grad()
def nudge(model: torch.nn.Module, size: float) -> None:
    """Multiplies every weight by 1 plus a normal number of this standard deviation."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.mul_(1 + size * torch.randn(parameter.shape, generator=generator))


def train(trainer, batches: int) -> dict:
    """Trains for some steps: losses, seconds by the clock and of this process's core, and frames."""
    losses, frames = [], 0
    begun, used = time.perf_counter(), time.process_time()
    for _ in range(batches):
        trainer._sums = RunningMean()
        batch = trainer._train_batch(trainer.batches)
        frames += batch.mask.numel() * trainer.ranks.size
        trainer.update(batch)
        losses.append(trainer._sums.means()["loss"])
    return {
        "losses": losses,
        "frames": frames,
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - used,
    }


def main(settings: dict) -> None:
    torch.set_num_threads(1)
    if settings["double"]:
        compute_in_double()
    ranks = join_ranks(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as directory:
        where = Path(ranks.broadcast(directory))
        make = dt_trainer if settings["training"] == "dt" else world_model_trainer
        trainer = make(settings, ranks, where)
        if settings["double"]:
            world_model = [] if settings["training"] == "dt" else [trainer.agent, trainer.average.model]
            for module in (trainer.model, *world_model):
                module.double()
        nudge(trainer.model, settings["nudge"])
        trainer._clock = trainer._save_clock = StoppedClock()
        while line := ranks.broadcast(sys.stdin.readline() if ranks.first else "").strip():
            answer = train(trainer, int(line))
            if ranks.first:
                print(json.dumps(answer), flush=True)
    ranks.leave()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
