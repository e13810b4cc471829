"""Trains a Decision Transformer or behavioural clone on recorded rollouts. The same command again resumes.

    python train_dt.py --data_dir DATA --agent_file AGENT --param_name tiny
    python train_dt.py --data_dir DATA --state_embedding patches --model_type clone_transformer

Writes <out_dir>/<exp_name>/<run>/: best.safetensors (lowest loss on held-out layouts), progress.csv, and
model_<batches>.safetensors at each save; play them with evaluate_dt.py. Flags left unset are the preset's.

On several GPUs or CPU processes: torchrun --nproc-per-node 4 train_dt.py ... (batch_size is the total over
processes).
"""

import logging
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import tyro

from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName
from decision.config import (
    Activation,
    DTConfig,
    LayerNormKind,
    ModelType,
    Optimizer,
    Scheduler,
    StateEmbedding,
    TimeEmbedding,
    TrainConfig,
    load_preset,
)


def named(*aliases: str):
    """Further names of a flag, from the projects that this one grew out of."""
    return tyro.conf.arg(aliases=[f"--{alias}" for alias in aliases])


@dataclass
class Args:
    data_dir: Annotated[Path, named("trajectory_path", "data_path")] = Path("data")
    """Store of recorded rollouts."""
    agent_file: Annotated[Path | None, SEED_MODEL_FILE] = None
    """PPO agent whose encoder gives the features of state_embedding agent."""
    exp_name: str = "test"
    """Name of the experiment; results go to <out_dir>/<exp_name>/."""
    param_name: str = "small"
    """Preset of hyperparams/decision.yml: tiny, small, coinrun or paper. Flags left out below are the
    preset's.
    """
    model_type: ModelType | None = None
    """decision_transformer, or clone_transformer for behavioural cloning."""
    state_embedding: StateEmbedding | None = None
    """agent (frozen features of the PPO agent, encoded once), impala (trained along) or patches."""
    d_model: Annotated[int | None, named("embed_dim")] = None
    """Width of the residual stream."""
    n_layers: Annotated[int | None, named("num_layers")] = None
    """Blocks of attention and MLP."""
    n_heads: Annotated[int | None, named("num_heads")] = None
    """Attention heads; they share d_model evenly."""
    d_mlp: int | None = None
    """Width of the MLPs."""
    context_length: int | None = None
    """Steps that a token attends to, its own included."""
    n_ctx: int | None = None
    """Instead of context_length: the context in tokens, the last action left out."""
    max_timestep: int | None = None
    """Times above it share its embedding."""
    layer_norm: LayerNormKind | None = None
    """LN (with weights), LNPre (centres and scales only) or none."""
    gated_mlp: bool | None = None
    """Multiply the MLP's activations by a second linear map of its input."""
    activation_fn: Activation | None = None
    """Of the MLPs."""
    time_embedding: TimeEmbedding | None = None
    """A table of times, or linear in the time."""
    dropout: float | None = None
    """Of embeddings and of what attention and MLPs add to the residual stream."""
    rtg_scale: float | None = None
    """Returns-to-go are divided by it."""
    gamma: float | None = None
    """Discount of the returns-to-go; the presets do not discount."""
    num_batches: Annotated[int | None, named("max_steps")] = None
    """Batches to train for."""
    batch_size: int | None = None
    """Windows per batch."""
    window_steps: int | None = None
    """Steps per window."""
    optimizer: Optimizer | None = None
    """AdamW, Adam or SGD."""
    lr: Annotated[float | None, named("learning_rate")] = None
    """Highest learning rate."""
    lr_end: float | None = None
    """Learning rate at the end of a decay."""
    scheduler: Scheduler | None = None
    """How the learning rate changes over the run."""
    warmup_steps: Annotated[int | None, named("warm_up_steps", "warmup")] = None
    """Batches over which the learning rate rises."""
    num_cycles: int | None = None
    """Cycles of cosine_with_restarts."""
    weight_decay: float | None = None
    """Of matrices; biases, embeddings and layer normalisation have none."""
    gradient_clip: float | None = None
    """Largest norm of the gradient."""
    train_split: float | None = None
    """Share of the layouts trained on; the others are for validation."""
    pct_traj: float | None = None
    """Share of the training steps that the best episodes by return, which are kept, hold."""
    length_weighted: bool | None = None
    """Draw steps uniformly, so that long episodes count more; else episodes."""
    prob_go_from_end: float | None = None
    """Probability that a window ends with the last step of its episode."""
    log_interval: Annotated[int | None, named("eval_every", "test_frequency")] = None
    """Batches between rows of progress.csv, with validation."""
    save_interval: Annotated[int | None, named("save_every")] = None
    """Batches between checkpoints."""
    validation_batches: int | None = None
    """Batches of held-out windows behind each row of progress.csv."""
    eval_interval: Annotated[int | None, named("eval_frequency")] = None
    """Batches between rollouts in the game, a multiple of log_interval; the presets have none."""
    eval_episodes: int | None = None
    """Episodes of these rollouts per target return, on the levels from 200 on."""
    target_returns: Annotated[tuple[float, ...], named("initial_rtg")] = ()
    """Returns that these rollouts ask for; default: the highest of the training episodes."""
    seed: int = 0
    """Seed of everything random: weights, windows, dropout."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO
    out_dir: Path = Path("results/decision_transformers")
    """Where results go."""
    new: bool = False
    """Start another run even though this command has one."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import ActorCritic, check_fits, load_agent
from agents.evaluate import VALIDATION_LEVELS, fixed_jobs
from common.checkpoints import load_module
from common.distributed import DistContext, finish_run, joined, shared_run
from common.integrity import check_memory, within_memory
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id, open_run
from decision.calibration import PeriodicRollouts, warn_of_targets_outside
from decision.features import feature_statistics, store_features
from decision.model import DecisionTransformer
from decision.trainer import Trainer
from decision.windows import DTWindows, SamplingConfig, WindowSampler
from envs.make import game_of_recording, make_env
from rollouts.split import episode_layouts, layout_scores
from rollouts.store import Rollouts

FIRST_LEVEL = 200


def main(args: Args) -> None:
    with joined(choose_device(args.device), args.log_level) as ranks:
        train_in(ranks, args)


def train_in(ranks: DistContext, args: Args) -> None:
    """Trains in this process of the group."""
    rollouts = Rollouts.open(args.data_dir)
    agent, agent_meta = load_agent(args.agent_file, ranks.device) if args.agent_file else (None, {})
    config, train = resolve(args, rollouts, agent)
    ranks.check_batch(train.batch_size)
    inputs = {"data_dir": rollouts.id} | ({"agent_file": file_id(args.agent_file)} if agent else {})
    precision = choose_precision(args.precision, ranks.device)
    found = {"args": args, "model": config, "train": train}
    name = f"{args.param_name}_seed_{args.seed}"
    parent = args.out_dir / args.exp_name
    run = shared_run(ranks, lambda: open_run(parent, name, found, args.new, inputs, precision))
    if run.done:
        return
    config = replace(config, precision=run.precision)  # the checkpoint says what it was trained in
    torch.manual_seed(args.seed)
    model = DecisionTransformer(config).to(ranks.device)
    features = None
    if agent is not None:
        set_precision(run.precision, agent)
        load_module(model.embed.state.encoder, agent.encoder.state_dict(), str(args.agent_file))
        features = shared_features(args, ranks, rollouts, model, inputs["agent_file"], run.precision)
    windows = DTWindows(rollouts, train.window_steps, config.gamma, features)
    sampler = make_sampler(windows, train, args.seed)
    if features is not None:
        steps = np.isin(rollouts.step_table()[:, 0], sampler.training)
        model.embed.state.set_statistics(*feature_statistics(features, np.flatnonzero(steps)))
    meta = {
        "env": rollouts.manifest.get("env"),
        "agent": {"id": inputs["agent_file"], "network": agent_meta["network"]} if agent else None,
        "action_names": rollouts.manifest["action_names"],
        "data": rollouts.id,
        "returns": return_range(rollouts.episodes["return"][sampler.training]),
        "train": asdict(train),
        "seed": args.seed,
    }
    played = periodic_rollouts(args, train, meta, ranks) if train.eval_interval else None
    trainer = Trainer(model, train, windows, sampler, run.dir, args.seed, ranks.device, meta, ranks, played)
    finish_run(ranks, run, trainer.train())


def resolve(args: Args, rollouts: Rollouts, agent: ActorCritic | None) -> tuple[DTConfig, TrainConfig]:
    """The preset overridden by the flags, for this store and agent.

    Raises UsageError for values that are out of range, contradict each other or do not fit the store.
    """
    given = {name: value for name, value in vars(args).items() if value is not None}
    known = [{field.name for field in fields(kind)} for kind in (DTConfig, TrainConfig)]
    model, train = ({k: v for k, v in given.items() if k in names} for names in known)
    obs_shape = tuple(rollouts.step_fields["obs"].shape)
    num_actions = rollouts.manifest["num_actions"]
    model |= {"num_actions": num_actions, "obs_shape": obs_shape}
    model.pop("precision")
    if args.n_ctx is not None:
        model["context_length"] = steps_of(args)
    if agent is not None:
        check_fits(agent, num_actions, obs_shape, "the recorded game")
        model |= {
            name: getattr(agent.config, name)
            for name in ("architecture", "feature_size", "normalize_features")
        }
    config, training = load_preset(args.param_name, model, train)
    if args.target_returns and not (config.conditioned and training.eval_interval):
        raise UsageError(
            "--target_returns has an effect on a Decision Transformer with --eval_interval; leave it out"
        )
    if (config.state_embedding == "agent") != (agent is not None):
        raise UsageError(
            "state_embedding agent needs --agent_file"
            if agent is None
            else f"--agent_file has no effect on state_embedding {config.state_embedding}; leave it out"
        )
    with within_memory("the Decision Transformer"):
        DecisionTransformer(config)
    frame = int(np.prod(obs_shape)) if agent is None else 2 * config.feature_size
    check_memory(training.batch_size * training.window_steps * frame, "a batch of windows")
    return config, training


def steps_of(args: Args) -> int:
    """Steps of a context of --n_ctx tokens. Raises UsageError if it is none of whole steps."""
    if args.context_length is not None:
        raise UsageError("--n_ctx and --context_length both say how long the context is; give one of them")
    per_step = 2 if args.model_type == "clone_transformer" else 3
    if args.n_ctx % per_step != per_step - 1:
        raise UsageError(
            f"--n_ctx is {args.n_ctx}; a context of whole steps without the last action has"
            f" {per_step} * steps - 1 tokens"
        )
    return 1 + args.n_ctx // per_step


def shared_features(
    args: Args,
    ranks: DistContext,
    rollouts: Rollouts,
    model: DecisionTransformer,
    agent_id: str,
    precision: str,
) -> np.ndarray:
    """The agent's features of all frames; the first process encodes them, in <out_dir>/features/."""
    directory = args.out_dir / "features" / f"{agent_id}_{precision}"
    encoder = model.embed.state.encoder
    if ranks.first:
        features = store_features(rollouts, encoder, directory, ranks.device)
    ranks.broadcast("encoded")
    return features if ranks.first else store_features(rollouts, encoder, directory, ranks.device)


def make_sampler(windows: DTWindows, train: TrainConfig, seed: int) -> WindowSampler:
    """Draws the windows of training and validation, whose layouts differ."""
    held_out = layout_scores(episode_layouts(windows.rollouts)) < 1 - train.train_split
    config = SamplingConfig(train.pct_traj, train.length_weighted, train.prob_go_from_end)
    sampler = WindowSampler(windows, held_out, config, seed)
    cut = int((~windows.known).sum())
    if cut:
        logging.info("left out %d episodes that a simulation cut short: their returns are not known", cut)
    return sampler


def periodic_rollouts(args: Args, train: TrainConfig, meta: dict, ranks: DistContext) -> PeriodicRollouts:
    """Rollouts on levels kept for choices, VALIDATION_LEVELS from FIRST_LEVEL on."""
    game = game_of_recording(meta["env"], str(args.data_dir))
    jobs = fixed_jobs(FIRST_LEVEL, VALIDATION_LEVELS, train.eval_episodes)
    returns = meta["returns"]
    targets = args.target_returns or (returns["max"],)
    warn_of_targets_outside(targets, returns["min"], returns["max"])
    return PeriodicRollouts(make_env(min(64, len(jobs)), game), jobs, targets, args.seed, ranks.device)


def return_range(returns: np.ndarray) -> dict[str, float]:
    """Smallest, mean and largest return of the training episodes."""
    return {"min": float(returns.min()), "mean": float(returns.mean()), "max": float(returns.max())}


if __name__ == "__main__":
    run_main(main, ARGS)
