"""Evaluates a Decision Transformer: return achieved for each return asked for, on a fixed list of levels.

    python evaluate_dt.py --dt_file DT --clone_file CLONE --agent_file AGENT --out_file scores.json
    python evaluate_dt.py --dt_file DT --target_returns 0 5 10 --data_dir DATA

With --clone_file and --agent_file, the behavioural clone and the PPO agent play the same episodes. Prints
mean returns with 95% intervals by level, differences from the agent, and for three targets or more the rank
correlation of asked and achieved returns; --data_dir adds what the model reads (inputs ablated).
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.defaults import EPSILON, TEMPERATURE, TOP_K
from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    dt_file: Annotated[Path, tyro.conf.arg(aliases=["--model_path", "--checkpoint"])]
    """Checkpoint of train_dt.py."""
    clone_file: Path | None = None
    """Checkpoint of a behavioural clone to compare with."""
    agent_file: Path | None = None
    """PPO agent to compare with."""
    data_dir: Path | None = None
    """Store of recorded rollouts on which returns, states and actions are ablated; left out: no ablation.
    --levels new and trained need the one that the model was trained on.
    """
    target_returns: Annotated[tuple[float, ...], tyro.conf.arg(aliases=["--initial_rtg"])] = ()
    """Returns to ask for; default: 9 from the lowest to the highest of the training episodes."""
    behaviour: str = "agent"
    """agent (samples the policy), greedy, epsilon-greedy, temperature or top-k."""
    temperature: float = TEMPERATURE
    """Divides the logits, for the behaviour `temperature`."""
    top_k: int = TOP_K
    """Number of most likely actions to keep, for the behaviour `top-k`."""
    epsilon: float = EPSILON
    """Probability of a uniformly random action, for the behaviour `epsilon-greedy`."""
    levels: Literal["range", "new", "trained"] = "range"
    """range: --num_levels from --start_level on. new: the same without those whose layout (tile grid) occurs
    in --data_dir. trained: levels of --data_dir with layouts that the Decision Transformer was trained on.
    """
    start_level: int = 250
    """First level, except with --levels trained; 250 and above are unseen by an agent trained on 0-199."""
    num_levels: int = 200
    num_episodes: int = 200
    """Episodes per target, one per level in order; levels repeat with other action noise."""
    exclude_layouts_of: tuple[int, int] | None = None
    """START NUM: skip levels with the layout of one of these, and play further ones (CoinRun)."""
    num_envs: int = 64
    """Environments stepped together; affects scores by rounding only."""
    seed: int = 0
    """Seed of the action noise."""
    out_file: Path | None = None
    """JSON file for scores and episodes; default: print only."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.actor_critic import check_fits, load_agent
from agents.behaviours import check_behaviour, make_behaviour
from agents.evaluate import evaluate, jobs_over
from agents.level_lists import levels_without, unseen_layouts
from common.checkpoints import check_writable, write_json
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id, manifest, plain
from decision.ablation import ablation_scores
from decision.calibration import episodes_per_target, warn_of_targets_outside
from decision.model import DecisionTransformer
from decision.model_file import load_dt
from decision.policy import DTPolicy
from decision.scores import calibration, summarize, table
from envs.make import game_of_recording, make_env
from envs.procgen import NUM_LEVELS, ProcgenConfig
from rollouts.split import episode_layouts, layout_scores, level_layouts
from rollouts.store import Rollouts

DEFAULT_TARGETS = 9


def main(args: Args) -> None:
    device = choose_device(args.device)
    precision = choose_precision(args.precision, device)
    check_flags(args)
    rollouts = Rollouts.open(args.data_dir) if args.data_dir else None
    model, meta = load_dt(args.dt_file, device)
    policies = baselines(args, model, device)
    set_precision(precision.name, model, *(policy for policy in policies.values()))
    config = game_of_recording(meta.get("env"), str(args.dt_file))
    targets = choose_targets(args, model, meta)
    wrap = lambda policy: make_behaviour(  # noqa: E731
        policy, args.behaviour, args.temperature, args.top_k, epsilon=args.epsilon
    )
    env = make_env(min(args.num_envs, args.num_episodes), config, args.seed, args.num_threads)
    levels = choose_levels(args, env, config, rollouts, meta)
    jobs = jobs_over(levels, args.num_episodes)
    rows = {
        name: (None, evaluate(wrap(as_policy(policy)), env, jobs, args.seed, device, progress=True))
        for name, policy in policies.items()
    }
    played = episodes_per_target(model, targets, env, jobs, args.seed, wrap, device, progress=True)
    name = "DT" if model.config.conditioned else "clone"
    for target, episodes in zip(targets, played):
        rows[f"{name}, asked {target:g}" if model.config.conditioned else name] = (target, episodes)
    inputs = {
        flag: file_id(path)
        for flag in ("dt_file", "clone_file", "agent_file")
        if (path := getattr(args, flag)) is not None
    } | ({} if rollouts is None else {"data_dir": rollouts.id})
    report = {"asked": plain(args), "env": plain(config), "manifest": manifest(inputs, precision.name)}
    report |= summarize(rows) | calibration(targets, played)
    if rollouts is not None:
        report["ablation"] = ablation_scores(model, rollouts, args.seed, device)
    print(table(report))
    if args.out_file:
        write_json(args.out_file, report)


def check_flags(args: Args) -> None:
    """Raises UsageError for impossible requests, before any work."""
    for name in ("num_levels", "num_episodes", "num_envs"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1, not {getattr(args, name)}")
    if not 0 <= args.start_level <= NUM_LEVELS - args.num_levels:
        raise UsageError(f"the levels do not lie within 0 .. {NUM_LEVELS - 1}; change --start_level")
    check_behaviour(args.behaviour, args.temperature, args.top_k, epsilon=args.epsilon)
    if args.levels != "range" and args.data_dir is None:
        raise UsageError(f"--levels {args.levels} needs --data_dir, the store that the model was trained on")
    if args.levels == "trained" and args.exclude_layouts_of:
        raise UsageError("--exclude_layouts_of has no effect on --levels trained; leave it out")
    if args.out_file:
        check_writable(args.out_file)


def baselines(args: Args, model: DecisionTransformer, device) -> dict:
    """The agent and the clone to compare with, by name; those that are given."""
    found = {}
    if args.agent_file:
        agent, _ = load_agent(args.agent_file, device)
        check_fits(agent, model.config.num_actions, model.config.obs_shape, "the recorded game")
        found["agent"] = agent
    if args.clone_file:
        clone, _ = load_dt(args.clone_file, device)
        if clone.config.conditioned:
            raise UsageError(f"{args.clone_file} is a Decision Transformer: give it as --dt_file")
        if clone.config.num_actions != model.config.num_actions:
            raise UsageError(f"{args.clone_file} has other actions than {args.dt_file}: take another clone")
        found["clone"] = clone
    return found


def choose_levels(args: Args, env, config: ProcgenConfig, rollouts: Rollouts | None, meta: dict) -> list[int]:
    """The levels to play. Raises UsageError where a store lacks trained levels, or is another one."""
    if args.levels == "range":
        return unseen_layouts(env, args.start_level, args.num_levels, args.exclude_layouts_of)
    if rollouts.id != meta.get("data"):
        raise UsageError(f"--data_dir {args.data_dir} is not the store that {args.dt_file} was trained on")
    level = rollouts.episodes["level_seed"]
    layout = episode_layouts(rollouts)
    if args.levels == "new":
        excluded = args.exclude_layouts_of
        agents = set(level_layouts(np.arange(excluded[0], sum(excluded)), config)) if excluded else set()
        return levels_without(env, args.start_level, args.num_levels, agents | set(layout))
    trained = layout_scores(layout) >= 1 - meta["train"]["train_split"]
    levels = list(dict.fromkeys(level[trained].tolist()))[: args.num_levels]
    if len(levels) < args.num_levels:
        raise UsageError(
            f"--num_levels is {args.num_levels}, and {args.data_dir} has {len(levels)} levels with layouts"
            " that the model was trained on"
        )
    return levels


def as_policy(network):
    return DTPolicy(network) if isinstance(network, DecisionTransformer) else network


def choose_targets(args: Args, model: DecisionTransformer, meta: dict) -> list[float]:
    """The returns to ask for, ascending; warns of those outside the training data. One for a clone, which
    ignores it.
    """
    if not model.config.conditioned:
        if args.target_returns:
            raise UsageError("--target_returns has no effect on a behavioural clone; leave it out")
        return [0.0]
    low, high = meta["returns"]["min"], meta["returns"]["max"]
    targets = sorted(set(args.target_returns or np.linspace(low, high, DEFAULT_TARGETS).tolist()))
    warn_of_targets_outside(targets, low, high)
    return targets


if __name__ == "__main__":
    run_main(main, ARGS)
