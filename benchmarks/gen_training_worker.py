"""One of the two processes of benchmarks/gen_training.py: trains a world model, one batch per request.

It runs with the packages of the checkout that it is started in, of the present or of the former design. Reads
numbers of batches, one a line, and answers each with a line of JSON: CPU seconds of the trainer's step, and
frames. The first line that it writes describes the model.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from agents.actor_critic import load_agent
from common.precision import set_precision
from generative.model.config import LossScales, TrainConfig, load_preset, window_length
from generative.training.data import WindowSource
from generative.training.trainer import Trainer
from rollouts.store import Rollouts

MANY = 10**6
"""More batches than are trained, so that learning rate and stage stay what they are at the first."""


def main(settings: dict) -> None:
    torch.set_num_threads(settings["torch_threads"])
    agent, _ = load_agent(Path(settings["agent_file"]))
    set_precision(settings["precision"], agent)
    shape = {"num_actions": agent.num_actions, "hidden_size": agent.core.state_size}
    shape |= {"precision": settings["precision"]}
    sizes = {name: settings[name] for name in ("batch_size", "num_sim_steps")}
    rollouts = Rollouts.open(Path(settings["data_dir"]))
    setup = present if hasattr(TrainConfig, "stage_of") else former
    more_shape, more_train, scales, of_windows = setup(rollouts)
    model, train = load_preset(settings["interpreting_params_name"], shape | more_shape, sizes | more_train)
    windows = rollouts.windows(window_length(model, train), anchor="start", pad="none", **of_windows)
    source = WindowSource(windows, rollouts.episodes["level_seed"].astype(str), settings["seed"])
    with tempfile.TemporaryDirectory() as directory:
        device = torch.device("cpu")
        trainer = Trainer(model, train, scales, source, agent, Path(directory), settings["seed"], device, {})
        trainer._clock = _Clock()
        trainer._save_clock = _Clock()
        parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        say({"parameters": parameters, "precision": settings["precision"]})
        for line in sys.stdin:
            segment = source.train_batch(int(line), train.batch_size)
            begun = time.process_time()
            trainer.update(segment)
            spent = time.process_time() - begun
            say({"seconds": spent, "frames": train.batch_size * train.num_sim_steps})


class _Clock:
    """Stands in for the clocks that the trainer's loop sets."""

    frames = 0.0
    due = False


def present(rollouts: Rollouts) -> tuple[dict, dict, LossScales, dict]:
    """Shape of the model, training values, scales and arguments of `Rollouts.windows`: the joint stage."""
    from generative.model.config import STAGES
    from rollouts.labels import FOLDER, Labels

    batches = {f"{stage}_batches": MANY if stage == "joint" else 0 for stage in STAGES}
    if not (rollouts.path / FOLDER).exists():
        return {}, batches, LossScales(), {}
    labels = Labels.open(rollouts)
    return {"tile_pixels": labels.unit, "knows_phase": True}, batches, LossScales(), {"labels": labels}


def former(rollouts: Rollouts) -> tuple[dict, dict, LossScales, dict]:
    """The same for the former design, with the weights that its reference was trained with."""
    return {}, {"num_batches": MANY}, LossScales(loss_scale_overshooting=0.0), {}


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
