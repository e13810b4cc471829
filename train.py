"""Trains a recurrent PPO agent on a Procgen game. The same command again resumes an unfinished run.

On several GPUs or CPU processes: torchrun --nproc-per-node 4 train.py ... (n_envs of the preset is the total
over processes).
"""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName


@dataclass
class Args:
    exp_name: str = "test"
    """Name of the experiment; results go to <out_dir>/procgen/<env_name>/<exp_name>/."""
    env_name: str = "coinrun"
    """One of Procgen's sixteen games."""
    start_level: int = 0
    """Seed of the first training level."""
    num_levels: int = 0
    """Number of training levels; 0 means all."""
    distribution_mode: str = "easy"
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool = False
    """Draw the game's background images."""
    paint_vel_info: bool = False
    """Paint the player's velocity into the frame, in games that can."""
    blink: bool = False
    """Blank 4-12 frames now and then, so that playing well needs memory."""
    random_coin: bool = False
    """Put the coin at a random place in the right fifth of each level (CoinRun), so that the agent cannot
    learn to run to the end instead.
    """
    param_name: str = "easy-200"
    """Preset of hyperparams/procgen/config.yml."""
    num_timesteps: int = 25_000_000
    """Steps to train for, over all environments: rounded up to whole iterations of n_envs * n_steps (the
    preset's), as are those below.
    """
    num_checkpoints: int = 1
    """Checkpoints, evenly spread over training, the last at its end; the untrained agent is kept as model_0.
    """
    agent_file: Annotated[Path | None, SEED_MODEL_FILE] = None
    """Start from the weights of this checkpoint."""
    seed: int = 0
    """Seed of everything random: weights, level draws, action noise, minibatches."""
    eval_every: int = 250_000
    """Steps between evaluations on unseen levels."""
    eval_episodes: int = 128
    """Episodes per evaluation, one per unseen level."""
    save_every: int = 100_000
    """Steps between saves of the state that a killed run resumes from."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: LogLevel = logging.INFO
    out_dir: Path = Path("logs")
    """Directory for results."""
    new: bool = False
    """Start another run even if this command has one."""
    track: bool = False
    """Also log to Weights & Biases (needs `pip install wandb`)."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.actor_critic import ActorCritic, load_agent
from agents.evaluate import first_unseen_level
from agents.presets import load_preset
from agents.shared_rollout import own_environments
from agents.tracking import check_tracker, open_tracker
from agents.trainer import Schedule, Trainer
from common.checkpoints import load_module
from common.distributed import DistContext, finish_run, joined, shared_run
from common.precision import choose_precision
from common.runs import choose_device, file_id, open_run
from envs.make import make_env
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space


def main(args: Args) -> None:
    with joined(choose_device(args.device), args.log_level) as ranks:
        train_in(ranks, args)


def train_in(ranks: DistContext, args: Args) -> None:
    """Trains in this process of the group."""
    device = ranks.device
    drawn = {
        name: getattr(args, name)
        for name in ("distribution_mode", "use_backgrounds", "paint_vel_info", "blink", "random_coin")
    }
    train_config = ProcgenConfig(args.env_name, args.num_levels, args.start_level, **drawn)
    actions = action_space(args.env_name)
    network, ppo = load_preset(args.param_name, len(actions.names), ProcgenVecEnv.obs_shape)
    ranks.check_batch(ppo.n_envs // ppo.mini_batch_per_epoch, "a minibatch of environments:")
    if args.track:
        check_tracker()
    init_from = load_agent(args.agent_file)[0] if args.agent_file else None
    # fails here, before a run is begun, if the checkpoint is of another architecture
    if init_from is not None:
        load_module(ActorCritic(network), init_from.state_dict(), str(args.agent_file))
    precision = choose_precision(network.precision if args.precision == "auto" else args.precision, device)
    inputs = {"agent_file": file_id(args.agent_file)} if args.agent_file else {}
    config = {"args": args, "env": train_config, "network": network, "ppo": ppo}
    unseen = first_unseen_level(args.start_level, args.num_levels)
    schedule = Schedule(
        args.num_timesteps, args.num_checkpoints, args.eval_every, args.eval_episodes, unseen, args.save_every
    )
    ProcgenConfig(args.env_name, args.eval_episodes, unseen, **drawn)  # refuses levels beyond the last one
    env_of = partial(make_env, config=train_config, seed=args.seed, num_threads=args.num_threads)
    env = own_environments(env_of, ppo.n_envs, ranks)
    eval_env = make_env(
        min(args.eval_episodes, 64), ProcgenConfig(args.env_name, **drawn), args.seed, args.num_threads
    )
    parent = args.out_dir / "procgen" / args.env_name / args.exp_name
    find = partial(open_run, parent, f"seed_{args.seed}", config, args.new, inputs, precision)
    run = shared_run(ranks, find)
    if run.done:
        return
    network = replace(network, precision=run.precision)  # the checkpoint says what it was trained in
    meta = {
        "env": vars(train_config),
        "param_name": args.param_name,
        "seed": args.seed,
        "action_names": actions.names,
    }
    tracker = open_tracker("worldlens", run.dir, config) if args.track and ranks.first else None
    trainer = Trainer(
        env, eval_env, network, ppo, schedule, run.dir, args.seed, device, meta, tracker, init_from, ranks
    )
    finish_run(ranks, run, trainer.train())


if __name__ == "__main__":
    run_main(main, ARGS)
