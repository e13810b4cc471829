"""Records real rollouts into a store. The same command again goes on where it stopped; array jobs share a store by --shards."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import tyro

from agents.actor_critic import load_agent
from agents.behaviours import make_behaviour
from common.cli import run_script
from common.runs import UsageError, choose_device, file_id
from envs.make import make_env
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space
from rollouts.record import Actor, Plan, record, take_turns
from rollouts.store import create_store


OPTIONS = ("distribution_mode", "use_backgrounds", "paint_vel_info", "blink")


@dataclass
class Args:
    exp_name: str = "test"
    """Name of the recording; it goes to <logdir>/data/<exp_name>/."""
    env_name: str = "coinrun"
    """One of Procgen's sixteen games."""
    start_level: int = 0
    """Seed of the first level that episodes are drawn from."""
    num_levels: int = 0
    """How many levels they are drawn from; 0 means all from start_level on."""
    distribution_mode: str = "easy"
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool = False
    """Draw the game's background images."""
    paint_vel_info: bool = False
    """Paint the player's velocity into the picture (where the game can)."""
    blink: bool = False
    """Blank 4-12 frames now and then (CoinRun-blink)."""
    model_file: Path | None = None
    """Checkpoint of the agent. Only the behaviour `random` does without."""
    num_episodes: int = 1000
    """Episodes to record, each to its end."""
    episodes_per_shard: int = 256
    """Episodes of a shard: what a killed run loses at most, and what is held in memory at a time."""
    shards: tuple[int, int] | None = None
    """First and last shard to record, both included, for array jobs; default all."""
    behaviour: str = "agent"
    """agent, seed-noise, temperature, top-k, greedy, random or mixture."""
    temperature: float = 1.0
    """Divides the logits, for the behaviour `temperature`."""
    top_k: int = 3
    """How many of the likeliest actions remain, for the behaviour `top-k`."""
    mixture_files: tuple[Path, ...] = ()
    """Checkpoints of the behaviour `mixture`; the shards are played by them in turn (name one twice for a double share)."""
    num_envs: int = 64
    """Environments stepped together."""
    seed: int = 0
    """Seed of level draws and action noise."""
    device: str = "auto"
    """auto, gpu or cpu."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""
    logdir: Path = Path(".")
    """Where recordings go."""


def main(args: Args) -> None:
    check(args)
    device = choose_device(args.device, args.gpu_device)
    drawn = {name: getattr(args, name) for name in OPTIONS}
    env_config = ProcgenConfig(args.env_name, **drawn)
    actions = action_space(args.env_name)
    plan = Plan(args.num_episodes, args.episodes_per_shard, args.start_level, args.num_levels, args.seed)
    shards, actors = plan.shards(args.shards), load_actors(args, actions, device)
    store = args.logdir / "data" / args.exp_name
    create_store(store, {
        "env": vars(env_config), "num_actions": len(actions.names), "action_names": actions.names, "noop": actions.noop,
        "obs_shape": ProcgenVecEnv.obs_shape, **hidden_layout(actors),
        "behaviour": {"name": args.behaviour, "temperature": args.temperature, "top_k": args.top_k},
        "policies": [actor.policy_id for actor in actors], "plan": vars(plan), "num_envs": args.num_envs,
    })  # fmt: skip
    fresh_env = partial(make_env, args.num_envs, env_config, args.seed, args.num_threads)
    summary = record(store, plan, shards, fresh_env, take_turns(actors), device)
    if summary.episodes:
        logging.info("%d episodes, %d steps; writing took %.0f%% of the time", summary.episodes, summary.steps, 100 * summary.write_share)
    logging.info("%s: shards %d to %d of %d are done", store, shards[0], shards[-1], plan.num_shards)


def check(args: Args) -> None:
    """Raises UsageError for flags that would have no effect or cannot be met."""
    if args.num_envs < 1:
        raise UsageError(f"num_envs is {args.num_envs}; at least one environment is needed")
    for name, behaviour in (("temperature", "temperature"), ("top_k", "top-k"), ("mixture_files", "mixture")):
        if getattr(args, name) != getattr(Args, name) and args.behaviour != behaviour:
            raise UsageError(f"--{name} has no effect on the behaviour {args.behaviour!r}; leave it out, or choose --behaviour {behaviour}")
    if args.behaviour == "mixture" and (not args.mixture_files or args.model_file):
        raise UsageError("the behaviour 'mixture' takes its agents from --mixture_files, at least one, and not from --model_file")


def load_actors(args: Args, actions, device: torch.device) -> list[Actor]:
    """The agents that play, each with its behaviour; several for a mixture."""
    if args.behaviour == "mixture":
        return [Actor(load_agent(path, device)[0], "agent", file_id(path)) for path in args.mixture_files]
    agent, meta = load_agent(args.model_file, device) if args.model_file else (None, {})
    warn_of_other_options(args, meta.get("env") or {})
    policy = make_behaviour(agent, args.behaviour, args.temperature, args.top_k, actions)
    return [Actor(policy, args.behaviour, file_id(args.model_file) if args.model_file else "none")]


def warn_of_other_options(args: Args, own: dict) -> None:
    """Raises UsageError where the agent was trained on another game; says where the same game is drawn or made otherwise."""
    if own.get("env_name", args.env_name) != args.env_name:
        raise UsageError(f"{args.model_file} was trained on {own['env_name']}, not {args.env_name}; give --env_name {own['env_name']}")
    for name in OPTIONS:
        if own.get(name, getattr(args, name)) != getattr(args, name):
            logging.warning("the agent was trained with %s = %s and is recorded with %s", name, own[name], getattr(args, name))


def hidden_layout(actors: list[Actor]) -> dict:
    """Width of the stored hidden state, and where its parts lie. Raises UsageError where the agents of a mixture differ."""
    widths = {actor.policy.hidden(actor.policy.initial_state(1)).shape[1] for actor in actors}
    if len(widths) > 1:
        raise UsageError(f"the agents of a mixture must have hidden states of one width; these have {', '.join(map(str, sorted(widths)))}")
    core = getattr(getattr(actors[0].policy, "policy", actors[0].policy), "core", None)
    parts = {name: [part.start, part.stop] for name, part in core.parts.items()} if core else {}
    return {"hidden_size": widths.pop(), "core_parts": parts}


if __name__ == "__main__":
    run_script(main, tyro.cli(Args, description=__doc__))
