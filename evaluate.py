"""Scores an agent on a fixed list of levels: return, outcomes, difficulty, causes of death."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from agents.defaults import EPSILON, TEMPERATURE, TOP_K
from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Annotated[Path | None, SEED_MODEL_FILE] = None
    """Checkpoint of the agent; optional only with --behaviour random."""
    behaviour: str = "agent"
    """agent (samples its policy), temperature, greedy, epsilon-greedy, top-k, random or seed-noise."""
    temperature: float = TEMPERATURE
    """Divides the logits, for the behaviour `temperature`."""
    top_k: int = TOP_K
    """Number of most likely actions to keep, for the behaviour `top-k`."""
    epsilon: float = EPSILON
    """Probability of a uniformly random action, for the behaviour `epsilon-greedy`."""
    start_level: int = 250
    """First level; 250 and above are unseen by an agent trained on levels 0-199."""
    num_levels: int = 1000
    """Number of levels."""
    num_episodes: int = 1000
    """Number of episodes, one per level in order; levels repeat with other action noise."""
    exclude_layouts_of: tuple[int, int] | None = None
    """START NUM: skip levels with the layout of one of these, and play further ones (CoinRun; training
    levels: 0 200).
    """
    causes: bool = False
    """Determine causes of death by deleting hazards (CoinRun)."""
    env_name: str | None = None
    """Game; default: the agent's own (coinrun without an agent), as for the five options below."""
    distribution_mode: str | None = None
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool | None = None
    """Draw the game's background images."""
    paint_vel_info: bool | None = None
    """Paint the player's velocity into the frame, in games that can."""
    blink: bool | None = None
    """Blank 4-12 frames now and then, so that playing well needs memory."""
    random_coin: bool | None = None
    """Put the coin at a random place in the right fifth of each level (CoinRun)."""
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
from agents.death_causes import ActionLog, causes
from agents.evaluate import OUTCOMES, evaluate, jobs_over
from agents.level_lists import unseen_layouts
from agents.scores import score, table
from common.checkpoints import check_writable, write_json
from common.precision import Precision, choose_precision, set_precision
from common.runs import UsageError, agrees, choose_device, file_id, manifest, plain
from common.words import counted
from envs.coinrun import difficulty
from envs.make import game_of, make_env
from envs.procgen import NUM_LEVELS, ProcgenConfig, ProcgenVecEnv, action_space


def check_flags(args: Args, config: ProcgenConfig) -> None:
    """Raises UsageError for impossible requests, before any work."""
    for name in ("num_levels", "num_episodes", "num_envs"):
        if getattr(args, name) < 1:
            raise UsageError(
                f"--{name} must be at least 1, not {getattr(args, name)}: there is nothing to evaluate"
            )
    if not 0 <= args.start_level <= NUM_LEVELS - args.num_levels:
        levels = f"{counted(args.num_levels, 'level')} from {args.start_level} on"
        raise UsageError(
            f"{levels} do not lie within 0 .. {NUM_LEVELS - 1}; change --start_level or --num_levels"
        )
    if args.exclude_layouts_of and (args.exclude_layouts_of[0] < 0 or args.exclude_layouts_of[1] < 1):
        raise UsageError(
            "--exclude_layouts_of takes a first level and how many, such as 0 200, not"
            f" {args.exclude_layouts_of}"
        )
    if config.env_name != "coinrun" and (args.causes or args.exclude_layouts_of):
        raise UsageError(f"--causes and --exclude_layouts_of know only coinrun, not {config.env_name}")
    check_behaviour(args.behaviour, args.temperature, args.top_k, epsilon=args.epsilon)
    if args.agent_file is None and args.behaviour != "random":
        raise UsageError("no agent given: use --agent_file, or --behaviour random")
    if args.out_file:
        check_writable(args.out_file)


def main(args: Args) -> None:
    agent = None
    own = {}
    device = choose_device(args.device)
    precision = choose_precision(args.precision, device)
    if args.agent_file:
        agent, meta = load_agent(args.agent_file, device)
        set_precision(precision.name, agent)
        own = meta.get("env") or {}
    config = game_of(args, own, num_levels=0, start_level=0)
    check_flags(args, config)
    actions = action_space(config.env_name)
    if agent is not None:
        check_fits(agent, len(actions.names), ProcgenVecEnv.obs_shape, config.env_name)
    about = {"asked": plain(args), "env": plain(config)}
    inputs = {"agent_file": file_id(args.agent_file)} if args.agent_file else {}
    report = scored_already(args.out_file, about, inputs, precision)
    if report:
        logging.info("%s is done; delete it, or name another --out_file, to score again", args.out_file)
        print(as_text(report))
        return
    policy = make_behaviour(agent, args.behaviour, args.temperature, args.top_k, actions, args.epsilon)
    env = make_env(min(args.num_envs, args.num_episodes), config, args.seed, args.num_threads)
    levels = unseen_layouts(env, args.start_level, args.num_levels, args.exclude_layouts_of)
    jobs = jobs_over(levels, args.num_episodes)
    log = ActionLog(len(jobs))
    episodes = evaluate(
        policy, env, jobs, args.seed, device, progress=True, watch=log.watch if args.causes else None
    )
    level_difficulty = (
        difficulty(episodes.level, config.distribution_mode) if config.env_name == "coinrun" else None
    )
    died = np.flatnonzero(episodes.outcome == OUTCOMES.index("died"))
    scores = score(episodes, level_difficulty, causes(env, jobs, log.actions, died) if args.causes else None)
    about |= {
        "manifest": manifest(inputs, precision.name if agent else None),
        "levels_dropped": levels[-1] + 1 - args.start_level - len(levels),
    }
    report = (
        about | scores | {"per_episode": {name: column.tolist() for name, column in vars(episodes).items()}}
    )
    print(as_text(report))
    if args.out_file:
        write_json(args.out_file, report)


def scored_already(
    out_file: Path | None, about: dict, inputs: dict[str, str], precision: Precision
) -> dict | None:
    """Content of the output file if it answers the same request in a fitting precision; else None."""
    try:
        report = json.loads(out_file.read_text()) if out_file else {}
        same = (
            all(agrees(report[part], about[part]) for part in about)
            and report["manifest"]["inputs"] == inputs
        )
        same = same and precision.fits(report["manifest"].get("precision"))
        return report if same and report["per_episode"]["level"] and report["groups"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def as_text(report: dict) -> str:
    """Scores as text."""
    env = report["env"]
    levels = np.unique(report["per_episode"]["level"])
    episodes = (
        f"{counted(len(levels), 'level')} from {levels[0]} to {levels[-1]}, behaviour"
        f" {report['asked']['behaviour']}"
    )
    return (
        f"{env['env_name']} {env['distribution_mode']}, {episodes}; 95% intervals by level\n{table(report)}"
    )


if __name__ == "__main__":
    run_main(main, ARGS)
