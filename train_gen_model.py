"""Trains a world model of an agent's environment on recorded rollouts. The same command again resumes.

On several GPUs or CPU processes: torchrun --nproc-per-node 4 train_gen_model.py ... (batch_size is the total
over processes).
"""

import logging
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName
from generative.model.config import (
    LossScales,
    TrainConfig,
    WorldModelConfig,
    check_scales,
    load_preset,
    sizes_for_frames,
    window_length,
)


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the data."""
    data_dir: Path = Path("data")
    """Store of recorded rollouts."""
    gen_mod_exp_name: Annotated[str, tyro.conf.arg(aliases=["--tgm_exp_name"])] = "test_tgm"
    """Name of the experiment; results go to <out_dir>/<gen_mod_exp_name>/."""
    interpreting_params_name: str = "small"
    """Preset of hyperparams/generative.yml: tiny, small or paper. Flags left out below are the preset's."""
    world_model_file: Annotated[Path | None, SEED_MODEL_FILE] = None
    """Start from the weights of this world model; tensors of another shape are newly initialised, and logged.
    """
    labels: Literal["auto", "use", "ignore"] = "auto"
    """Labels of the store (python label.py) as training targets: auto uses them where there are some."""
    num_batches: int | None = None
    """Batches in all; every stage keeps its share of the preset's."""
    epochs: int | None = None
    """Instead of num_batches: passes over the steps of the training levels."""
    painter_batches: int | None = None
    """Batches of stage 1, which draws tiles and the player; 0 leaves a stage out, as in those below."""
    latent_batches: int | None = None
    """Batches of stage 2, which learns the latent."""
    motion_batches: int | None = None
    """Batches of stage 3, which learns motion, rewards and ends."""
    tiles_batches: int | None = None
    """Batches of stage 4, which learns what comes into view."""
    joint_batches: int | None = None
    """Batches of stage 5, which learns outcomes and what comes into view on its own rollouts."""
    batch_size: int | None = None
    """Windows per batch."""
    motion_batch_size: int | None = None
    """Windows per batch of the motion stage."""
    num_sim_steps: int | None = None
    """Simulated frames per window; the first is the last initialising frame."""
    num_initializing_steps: int | None = None
    """Frames that the latent is encoded from."""
    latent: Literal["gaussian", "sphere"] | None = None
    """Latent space: Gaussian with a KL to N(0, I), or the unit sphere."""
    lr: float | None = None
    """Learning rate of Adam after the warm-up, in all stages but the joint one."""
    joint_lr: float | None = None
    """Learning rate of the joint stage."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights that is validated and saved; 0 for the weights themselves.
    """
    free_running_fraction: float | None = None
    """Fraction of windows that go on from their own motion in the motion stage."""
    death_oversampling: float | None = None
    """Fraction of each batch drawn from windows in which an episode terminates without a reward."""
    log_interval: int | None = None
    """Batches between rows of progress.csv."""
    save_interval: int | None = None
    """Batches between checkpoints."""
    scales: tyro.conf.OmitArgPrefixes[LossScales] = field(default_factory=LossScales)
    """Weight of each term of the loss."""
    loss_scale_gen_adv: float = 0.0
    """Accepted for compatibility: this model has no adversarial term, so only 0 is valid."""
    seed: int = 0
    """Seed of everything random: weights, windows, noise."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO
    out_dir: Path = Path("results/world_models")
    """Where results go."""
    new: bool = False
    """Start another run even though this command has one."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.actor_critic import load_agent
from common.distributed import DistContext, finish_run, joined, shared_run
from common.integrity import check_memory, within_memory
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id, open_run
from common.words import counted
from generative.compatibility import check_recorder, check_store, frame_shape
from generative.model.world_model import WorldModel
from generative.model.world_model_file import read_world_model
from generative.training.data import WindowSource
from generative.training.trainer import Trainer
from rollouts.labels import FOLDER, Labels
from rollouts.split import SPLIT_VERSION, episode_layouts
from rollouts.store import Rollouts


def main(args: Args) -> None:
    with joined(choose_device(args.device), args.log_level) as ranks:
        train_in(ranks, args)


def train_in(ranks: DistContext, args: Args) -> None:
    """Trains in this process of the group."""
    device = ranks.device
    agent, agent_meta = load_agent(args.agent_file, device)
    rollouts = Rollouts.open(args.data_dir)
    check_store(rollouts, agent, agent_meta, args.agent_file)
    labels = open_labels(args, rollouts)
    model, train = resolve(args, agent, frame_shape(rollouts), labels)
    check_shares(ranks, model, train)
    length = window_length(model, train)
    check_length(length, rollouts)
    init_from = None
    if args.world_model_file:
        found, init_from, _ = read_world_model(args.world_model_file)
        check_compatible(found.config, model, args.world_model_file)
    agent_id = file_id(args.agent_file)
    check_recorder(rollouts, agent_id)
    windows = rollouts.windows(
        length, anchor="start", pad="right", min_steps=model.num_initializing_steps, labels=labels
    )
    source = WindowSource(windows, episode_layouts(rollouts), args.seed, train.death_oversampling)
    train = with_total(args, train, source)
    inputs = {"agent_file": agent_id, "data_dir": rollouts.id} | (
        {"world_model_file": file_id(args.world_model_file)} if args.world_model_file else {}
    )
    precision = choose_precision(model.precision if args.precision == "auto" else args.precision, device)
    config = {"args": args, "model": model, "train": train, "split": SPLIT_VERSION}
    name = f"{args.interpreting_params_name}_seed_{args.seed}"
    parent = args.out_dir / args.gen_mod_exp_name
    run = shared_run(ranks, lambda: open_run(parent, name, config, args.new, inputs, precision))
    if run.done:
        return
    model = replace(model, precision=run.precision)  # the checkpoint says what it was trained in
    set_precision(run.precision, agent)
    meta = {
        "agent": {"id": agent_id, "network": agent_meta["network"]},
        "env": rollouts.manifest.get("env", {}),
        "action_names": rollouts.manifest["action_names"],
        "noop": rollouts.manifest["noop"],
        "data": rollouts.id,
        "split": SPLIT_VERSION,
        "labels": labels is not None,
        "train": asdict(train),
        "loss_scales": asdict(args.scales),
        "seed": args.seed,
    }
    trainer = Trainer(
        model, train, args.scales, source, agent, run.dir, args.seed, device, meta, init_from, ranks
    )
    finish_run(ranks, run, trainer.train())


def check_shares(ranks: DistContext, model: WorldModelConfig, train: TrainConfig) -> None:
    """Raises UsageError where this training cannot be shared by the processes."""
    ranks.check_batch(train.batch_size)
    ranks.check_batch(train.motion_batch_size, "motion_batch_size")
    if ranks.size > 1 and model.latent == "sphere":
        raise UsageError("--latent sphere spreads the latents of a whole batch: train it in one process")


def open_labels(args: Args, rollouts: Rollouts) -> Labels | None:
    """The labels of the store, if they are asked for or, with auto, if there are some."""
    if args.labels == "ignore" or (args.labels == "auto" and not (rollouts.path / FOLDER).exists()):
        return None
    return Labels.open(rollouts)


def resolve(
    args: Args, agent, obs_shape, labels: Labels | None = None
) -> tuple[WorldModelConfig, TrainConfig]:
    """The preset overridden by the flags, for this agent and frame shape.

    Raises UsageError for values that are out of range or contradict each other.
    """
    check_scales(args.scales)
    if args.loss_scale_gen_adv:
        raise UsageError(
            f"--loss_scale_gen_adv is {args.loss_scale_gen_adv}: this model has no adversarial term; give "
            "0 or leave it out"
        )
    given = {name: value for name, value in vars(args).items() if value is not None}
    shape = {"num_actions": agent.num_actions, "obs_shape": obs_shape, "hidden_size": agent.core.state_size}
    shape |= {"bounded_hidden": agent.config.core == "gru"} | {
        k: v for k, v in given.items() if k in ("num_initializing_steps", "latent")
    }
    if labels:
        shape |= {"tile_pixels": labels.unit, "knows_phase": True}
    shape |= sizes_for_frames(obs_shape, shape.get("tile_pixels", WorldModelConfig.tile_pixels))
    names = {field.name for field in fields(TrainConfig)}
    model, train = load_preset(
        args.interpreting_params_name, shape, {k: v for k, v in given.items() if k in names}
    )
    with within_memory("the world model"):
        WorldModel(model)
    check_memory(
        4 * train.batch_size * window_length(model, train) * math.prod(model.obs_shape), "a batch of windows"
    )
    return model, train


def check_length(length: int, rollouts: Rollouts) -> None:
    """Raises UsageError where every episode is shorter than a window of `length` frames."""
    longest = rollouts.episodes["length"].max()
    if length > longest:
        raise UsageError(
            f"windows of {counted(length, 'frame')}, and the longest episode of {rollouts.path} has "
            f"{longest}; lower --num_sim_steps or --num_initializing_steps"
        )


def with_total(args: Args, train: TrainConfig, source: WindowSource) -> TrainConfig:
    """Scales the stages to --num_batches or --epochs in all. Raises UsageError when both are given."""
    if args.num_batches is not None and args.epochs is not None:
        raise UsageError("--epochs and --num_batches both say how long to train; give one of them")
    total = args.num_batches
    if args.epochs is not None:
        frames = len(source.training) * args.epochs  # one window begins at (nearly) every step
        total = max(frames // (train.batch_size * train.num_sim_steps), 1)
    return train if total is None else train.with_total(total)


def check_compatible(found: WorldModelConfig, wanted: WorldModelConfig, path: Path) -> None:
    """Raises UsageError when the initial weights are of a model of another game or agent."""
    differing = [
        name
        for name in ("num_actions", "obs_shape", "hidden_size", "bounded_hidden", "tile_pixels")
        if vars(found)[name] != vars(wanted)[name]
    ]
    if differing:
        raise UsageError(
            f"{path} was trained for another game or agent ({', '.join(differing)}); give one trained for "
            "this agent, or leave --world_model_file out"
        )


if __name__ == "__main__":
    run_main(main, ARGS)
