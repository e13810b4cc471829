"""Scores an agent on a fixed list of levels, every episode to its end: return, outcomes, difficulty, causes of death."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from agents.actor_critic import load_agent
from agents.behaviours import make_behaviour
from agents.death_causes import ActionLog, causes
from agents.evaluate import OUTCOMES, evaluate, jobs_over
from agents.scores import score, table
from common.checkpoints import write_json
from common.cli import run_script
from common.runs import UsageError, choose_device, file_id, manifest, plain
from envs.coinrun import difficulty, first_states, layout_hash
from envs.make import make_env
from envs.procgen import ProcgenConfig, action_space


@dataclass
class Args:
    model_file: Path | None = None
    """Agent to score; left out only with --behaviour random."""
    behaviour: str = "agent"
    """How it acts: agent (samples its policy), temperature, greedy, top-k, random, seed-noise."""
    temperature: float = 1.0
    """Divides the logits (behaviour temperature)."""
    top_k: int = 3
    """How many of the likeliest actions remain (behaviour top-k)."""
    start_level: int = 250
    """Seed of the first level; 250 and above are unseen by an agent trained on the levels 0-199."""
    num_levels: int = 1000
    """How many levels, from start_level on."""
    num_episodes: int = 1000
    """Episodes, one per level in order; levels repeat with other action noise when they run out."""
    exclude_layouts_of: tuple[int, int] | None = None
    """START NUM: leave out levels with the layout of one of these levels (CoinRun), usually the training levels: 0 200."""
    causes: bool = False
    """Find out what killed the player by deleting objects (CoinRun)."""
    env_name: str | None = None
    """Game; left out, the agent's own (coinrun without an agent). So too the four options below."""
    distribution_mode: str | None = None
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool | None = None
    """Draw the game's background images."""
    paint_vel_info: bool | None = None
    """Paint the player's velocity into the picture (where the game can)."""
    blink: bool | None = None
    """Blank 4-12 frames now and then, so that playing well needs memory."""
    num_envs: int = 64
    """Environments stepped together; scores differ by no more than rounding with it."""
    seed: int = 0
    """Seed of the action noise."""
    output: Path | None = None
    """JSON file for the scores and every episode; left out, they are only printed."""
    device: str = "auto"
    """auto, gpu or cpu."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


def env_config(args: Args, own: dict) -> ProcgenConfig:
    """The agent's own game and options with those asked for in their place, over all levels."""
    asked = {name: getattr(args, name) for name in ("env_name", "distribution_mode", "use_backgrounds", "paint_vel_info", "blink")}
    changed = {name: value for name, value in asked.items() if value is not None}
    return replace(ProcgenConfig(), **{**own, **changed, "num_levels": 0, "start_level": 0, "use_sequential_levels": False})


def check_asked(args: Args, config: ProcgenConfig) -> None:
    """Raises UsageError for what cannot be done, before any work."""
    for name in ("num_levels", "num_episodes", "num_envs"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1, not {getattr(args, name)}: there is nothing to evaluate")
    if args.start_level < 0:
        raise UsageError(f"--start_level must not be negative, not {args.start_level}")
    if config.env_name != "coinrun" and (args.causes or args.exclude_layouts_of):
        raise UsageError(f"--causes and --exclude_layouts_of know only coinrun, not {config.env_name}")
    if args.model_file is None and args.behaviour != "random":
        raise UsageError("no agent given: use --model_file, or --behaviour random")


def held_out(env, levels: Sequence[int], excluded: tuple[int, int] | None) -> list[int]:
    """The levels whose layout is none of the excluded range's. Raises UsageError when none is left."""
    if excluded is None:
        return list(levels)
    start, num = excluded
    known = {layout_hash(state) for state in first_states(env, range(start, start + num))}
    kept = [level for level, state in zip(levels, first_states(env, levels)) if layout_hash(state) not in known]
    if not kept:
        raise UsageError(f"every level's layout is among those of {num} levels from {start}: take more levels or another range")
    dropped = len(levels) - len(kept)
    logging.info("dropped %d of %d levels: their layouts are among those of %d levels from %d", dropped, len(levels), num, start)
    return kept


def main(args: Args) -> None:
    agent, own, device = None, {}, choose_device(args.device, args.gpu_device)
    if args.model_file:
        agent, meta = load_agent(args.model_file, device)
        own = meta.get("env", {})
    config = env_config(args, own)
    check_asked(args, config)
    policy = make_behaviour(agent, args.behaviour, args.temperature, args.top_k, action_space(config.env_name))
    env = make_env(min(args.num_envs, args.num_episodes), config, args.seed, args.num_threads)
    if policy.num_actions != env.num_actions:
        found = f"the agent has {policy.num_actions} actions and {config.env_name} {env.num_actions}"
        raise UsageError(f"{found}: take the game it was trained on")
    asked = range(args.start_level, args.start_level + args.num_levels)
    levels = held_out(env, asked, args.exclude_layouts_of)
    jobs = jobs_over(levels, args.num_episodes)
    log = ActionLog(len(jobs))
    episodes = evaluate(policy, env, jobs, args.seed, device, progress=True, watch=log.watch if args.causes else None)
    hard = difficulty(episodes.level, config.distribution_mode) if config.env_name == "coinrun" else None
    died = np.flatnonzero(episodes.outcome == OUTCOMES.index("died"))
    scores = score(episodes, hard, causes(env, jobs, log.actions, died) if args.causes else None)
    played = f"{len(np.unique(episodes.level))} levels from {args.start_level}, behaviour {args.behaviour}"
    print(f"{config.env_name} {config.distribution_mode}, {played}; 95% intervals by level\n{table(scores)}")
    if args.output:
        inputs = {"model_file": file_id(args.model_file)} if args.model_file else {}
        about = {"asked": plain(args), "env": plain(config), "manifest": manifest(inputs), "levels_dropped": len(asked) - len(levels)}
        write_json(args.output, about | scores | {"per_episode": {name: column.tolist() for name, column in vars(episodes).items()}})


if __name__ == "__main__":
    run_script(main, tyro.cli(Args, description=__doc__))
