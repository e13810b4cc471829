"""Records real rollouts into a store. The same command again goes on where it stopped; array jobs share a store by --shards."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.defaults import TEMPERATURE, TOP_K
from common.cli import parse, run_main


@dataclass
class Args:
    exp_name: str = "test"
    """Name of the recording; it goes to <out_dir>/data/<exp_name>/."""
    env_name: str | None = None
    """Game; left out, the agent's own (coinrun without an agent). So too the four options below."""
    distribution_mode: str | None = None
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool | None = None
    """Draw the game's background images."""
    paint_vel_info: bool | None = None
    """Paint the player's velocity into the picture (where the game can)."""
    blink: bool | None = None
    """Blank 4-12 frames now and then (CoinRun-blink)."""
    start_level: int = 0
    """Seed of the first level that episodes are drawn from."""
    num_levels: int = 0
    """How many levels they are drawn from; 0 means all from start_level on."""
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
    temperature: float = TEMPERATURE
    """Divides the logits, for the behaviour `temperature`."""
    top_k: int = TOP_K
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
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""
    out_dir: Annotated[Path, tyro.conf.arg(aliases=["--logdir"])] = Path(".")
    """Where recordings go, below data/."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.actor_critic import ActorCritic, check_fits, load_agent
from agents.behaviours import check_behaviour, make_behaviour
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id
from common.words import counted
from envs.make import OPTIONS, game_of, make_env
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space
from envs.vecenv import ActionSpace
from rollouts.growth import extent
from rollouts.record import Actor, Plan, record, take_turns
from rollouts.store import create_store, recorded_precision


def main(args: Args) -> None:
    check(args)
    device = choose_device(args.device, args.gpu_device)
    plan, store = Plan(args.num_episodes, args.episodes_per_shard, args.start_level, args.num_levels, args.seed), args.out_dir / "data" / args.exp_name
    room = extent(store, "plan", "num_episodes", args.num_episodes, args.episodes_per_shard)
    plan = replace(plan, num_episodes=room.total, grown_from=room.grown_from)
    shards = plan.shards(args.shards)
    agents = [load_agent(path, device) for path in files_of(args)]
    env_config = common_game(args, [meta.get("env") or {} for _, meta in agents])
    actions = action_space(env_config.env_name)
    actors = cast(args, [agent for agent, _ in agents], actions)
    precision = choose_precision(args.precision, device).keep(recorded_precision(store), store)
    set_precision(precision, *(agent for agent, _ in agents))
    create_store(store, {
        "env": vars(env_config), "num_actions": len(actions.names), "action_names": actions.names, "noop": actions.noop,
        "obs_shape": ProcgenVecEnv.obs_shape, **hidden_layout(actors),
        "behaviour": {"name": args.behaviour, "temperature": args.temperature, "top_k": args.top_k},
        "policies": [actor.policy_id for actor in actors], "plan": plan.values(), "num_envs": args.num_envs, "precision": precision,
    })  # fmt: skip
    if room.there is not None:
        logging.info("%s has %s already; nothing to do for %d", store, counted(room.there, "episode"), args.num_episodes)
        return
    fresh_env = partial(make_env, args.num_envs, env_config, args.seed, args.num_threads)
    summary = record(store, plan, shards, fresh_env, take_turns(actors), device)
    if summary.episodes:
        logging.info("%s, %s; writing took %.0f%% of the time", counted(summary.episodes, "episode"), counted(summary.steps, "step"), 100 * summary.write_share)
    else:
        logging.info("%s is done as far as asked; another --exp_name makes another", store)
    logging.info("%s: shards %d to %d of %d are done", store, shards[0], shards[-1], plan.num_shards)


def check(args: Args) -> None:
    """Raises UsageError for flags that would have no effect or cannot be met."""
    if args.num_envs < 1:
        raise UsageError(f"num_envs is {args.num_envs}; at least one environment is needed")
    check_behaviour(args.behaviour, args.temperature, args.top_k, besides=("mixture",))
    if args.mixture_files and args.behaviour != "mixture":
        raise UsageError(f"--mixture_files has no effect on the behaviour {args.behaviour!r}; leave it out, or choose --behaviour mixture")
    if args.behaviour == "mixture" and (not args.mixture_files or args.model_file):
        raise UsageError("the behaviour 'mixture' takes its agents from --mixture_files, at least one, and not from --model_file")


def files_of(args: Args) -> tuple[Path, ...]:
    """The checkpoints of the agents that play."""
    return args.mixture_files or ((args.model_file,) if args.model_file else ())


def common_game(args: Args, own: list[dict]) -> ProcgenConfig:
    """The one game that every agent is to play, on whatever levels the plan says. Raises UsageError where the agents' own differ."""
    games = {game_of(args, env, num_levels=0, start_level=0) for env in filter(None, own)} or {game_of(args, {}, num_levels=0, start_level=0)}
    if len(games) > 1:
        differing = [name for name in vars(ProcgenConfig()) if len({getattr(game, name) for game in games}) > 1]
        way_out = f"give --{differing[0]}" if differing[0] in OPTIONS else "record them apart"
        raise UsageError(f"the agents of a mixture were trained on games that differ in {', '.join(differing)}: {way_out}")
    return games.pop()


def cast(args: Args, agents: list[ActorCritic], actions: ActionSpace) -> list[Actor]:
    """The actors, each an agent with its behaviour; several for a mixture. Raises UsageError for an agent that cannot play."""
    for agent in agents:
        check_fits(agent, len(actions.names), ProcgenVecEnv.obs_shape, "the game")
    if args.behaviour == "mixture":
        return [Actor(agent, "agent", file_id(path)) for agent, path in zip(agents, args.mixture_files)]
    policy = make_behaviour(agents[0] if agents else None, args.behaviour, args.temperature, args.top_k, actions)
    return [Actor(policy, args.behaviour, file_id(args.model_file) if args.model_file else "none")]


def hidden_layout(actors: list[Actor]) -> dict:
    """Width of the stored hidden state, and where its parts lie. Raises UsageError where the agents of a mixture differ."""
    widths = {actor.policy.hidden(actor.policy.initial_state(1)).shape[1] for actor in actors}
    if len(widths) > 1:
        raise UsageError(f"the agents of a mixture must have hidden states of one width; these have {', '.join(map(str, sorted(widths)))}")
    core = getattr(getattr(actors[0].policy, "policy", actors[0].policy), "core", None)
    parts = {name: [part.start, part.stop] for name, part in core.parts.items()} if core else {}
    return {"hidden_size": widths.pop(), "core_parts": parts}


if __name__ == "__main__":
    run_main(main, ARGS)
