"""Scores an agent on a fixed list of levels, every episode to its end: return, outcomes, difficulty, causes of death."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents.defaults import TEMPERATURE, TOP_K
from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path | None = None
    """Agent to score; left out only with --behaviour random."""
    behaviour: str = "agent"
    """How it acts: agent (samples its policy), temperature, greedy, top-k, random, seed-noise."""
    temperature: float = TEMPERATURE
    """Divides the logits (behaviour temperature)."""
    top_k: int = TOP_K
    """How many of the likeliest actions remain (behaviour top-k)."""
    start_level: int = 250
    """Seed of the first level; 250 and above are unseen by an agent trained on the levels 0-199."""
    num_levels: int = 1000
    """How many levels, from start_level on."""
    num_episodes: int = 1000
    """Episodes, one per level in order; levels repeat with other action noise when they run out."""
    exclude_layouts_of: tuple[int, int] | None = None
    """START NUM: in place of levels with the layout of one of these (CoinRun; say, the training levels: 0 200), further levels are played."""
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
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here."""
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.actor_critic import check_fits, load_agent
from agents.behaviours import check_behaviour, make_behaviour
from agents.death_causes import ActionLog, causes
from agents.evaluate import OUTCOMES, evaluate, jobs_over
from agents.scores import score, table
from common.checkpoints import check_writable, write_json
from common.precision import Precision, choose_precision, set_precision
from common.runs import UsageError, agrees, choose_device, file_id, manifest, plain
from common.words import counted
from envs.coinrun import difficulty, first_states, layout_hash
from envs.make import game_of, make_env
from envs.procgen import NUM_LEVELS, ProcgenConfig, ProcgenVecEnv, action_space

LOOKED_AT = 10
"""How many times as many levels as asked are opened at most in search of those that are not excluded."""


def check_asked(args: Args, config: ProcgenConfig) -> None:
    """Raises UsageError for what cannot be done, before any work."""
    for name in ("num_levels", "num_episodes", "num_envs"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1, not {getattr(args, name)}: there is nothing to evaluate")
    if not 0 <= args.start_level <= NUM_LEVELS - args.num_levels:
        asked = f"{counted(args.num_levels, 'level')} from {args.start_level} on"
        raise UsageError(f"{asked} do not lie within 0 .. {NUM_LEVELS - 1}; mend --start_level or --num_levels")
    if args.exclude_layouts_of and (args.exclude_layouts_of[0] < 0 or args.exclude_layouts_of[1] < 1):
        raise UsageError(f"--exclude_layouts_of takes a first level and how many, such as 0 200, not {args.exclude_layouts_of}")
    if config.env_name != "coinrun" and (args.causes or args.exclude_layouts_of):
        raise UsageError(f"--causes and --exclude_layouts_of know only coinrun, not {config.env_name}")
    check_behaviour(args.behaviour, args.temperature, args.top_k)
    if args.model_file is None and args.behaviour != "random":
        raise UsageError("no agent given: use --model_file, or --behaviour random")
    if args.output:
        check_writable(args.output)


def held_out(env, start: int, num: int, excluded: tuple[int, int] | None) -> list[int]:
    """The first `num` levels from `start` on whose layout is none of the excluded range's (start, num).

    Raises UsageError when LOOKED_AT times as many levels do not hold them.
    """
    if excluded is None:
        return list(range(start, start + num))
    known = {layout_hash(state) for state in first_states(env, range(excluded[0], sum(excluded)))}
    kept, at = [], start
    while len(kept) < num and at < start + LOOKED_AT * num:
        levels = range(at, at + num - len(kept))
        kept += [level for level, state in zip(levels, first_states(env, levels)) if layout_hash(state) not in known]
        at = levels.stop
    if len(kept) < num:
        found = f"only {len(kept)} of the {counted(at - start, 'level')} from {start} on have a layout that is not excluded"
        raise UsageError(f"{found}: ask for no more --num_levels than that, or choose another --start_level")
    logging.info("passed over %d of the levels %d to %d: they have an excluded layout", at - start - num, start, at - 1)
    return kept


def main(args: Args) -> None:
    agent, own, device = None, {}, choose_device(args.device, args.gpu_device)
    precision = choose_precision(args.precision, device)
    if args.model_file:
        agent, meta = load_agent(args.model_file, device)
        set_precision(precision.name, agent)
        own = meta.get("env") or {}
    config = game_of(args, own, num_levels=0, start_level=0)
    check_asked(args, config)
    actions = action_space(config.env_name)
    if agent is not None:
        check_fits(agent, len(actions.names), ProcgenVecEnv.obs_shape, config.env_name)
    about = {"asked": plain(args), "env": plain(config)}
    inputs = {"model_file": file_id(args.model_file)} if args.model_file else {}
    made = scored_already(args.output, about, inputs, precision)
    if made:
        logging.info("%s is done; delete it, or name another --output, to score again", args.output)
        print(shown(made))
        return
    policy = make_behaviour(agent, args.behaviour, args.temperature, args.top_k, actions)
    env = make_env(min(args.num_envs, args.num_episodes), config, args.seed, args.num_threads)
    levels = held_out(env, args.start_level, args.num_levels, args.exclude_layouts_of)
    jobs = jobs_over(levels, args.num_episodes)
    log = ActionLog(len(jobs))
    episodes = evaluate(policy, env, jobs, args.seed, device, progress=True, watch=log.watch if args.causes else None)
    hard = difficulty(episodes.level, config.distribution_mode) if config.env_name == "coinrun" else None
    died = np.flatnonzero(episodes.outcome == OUTCOMES.index("died"))
    scores = score(episodes, hard, causes(env, jobs, log.actions, died) if args.causes else None)
    about |= {"manifest": manifest(inputs, precision.name if agent else None), "levels_dropped": levels[-1] + 1 - args.start_level - len(levels)}
    made = about | scores | {"per_episode": {name: column.tolist() for name, column in vars(episodes).items()}}
    print(shown(made))
    if args.output:
        write_json(args.output, made)


def scored_already(output: Path | None, about: dict, inputs: dict[str, str], precision: Precision) -> dict | None:
    """What the output file holds, where the same was asked of the same inputs in a precision that fits; None where it holds something else or nothing."""
    try:
        made = json.loads(output.read_text()) if output else {}
        same = all(agrees(made[part], about[part]) for part in about) and made["manifest"]["inputs"] == inputs
        same = same and precision.fits(made["manifest"].get("precision"))
        return made if same and made["per_episode"]["level"] and made["groups"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def shown(made: dict) -> str:
    """The scores as lines of text."""
    env, levels = made["env"], np.unique(made["per_episode"]["level"])
    played = f"{counted(len(levels), 'level')} from {levels[0]} to {levels[-1]}, behaviour {made['asked']['behaviour']}"
    return f"{env['env_name']} {env['distribution_mode']}, {played}; 95% intervals by level\n{table(made)}"


if __name__ == "__main__":
    run_main(main, ARGS)
