"""Records real rollouts into a store. The same command resumes; several jobs fill a store by --job."""

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from agents.defaults import EPSILON, TEMPERATURE, TOP_K
from common.cli import parse, run_main
from common.shared_flags import ALONE, SEED_MODEL_FILE, Device, Job, JobFlag, LogLevel, PrecisionName
from interpret.interventions.flags import EditFlags


@dataclass
class Args:
    exp_name: str = "test"
    """Name of the recording, which goes to <out_dir>/data/<exp_name>/."""
    env_name: str | None = None
    """Game; default: the agent's own (coinrun without an agent), as for the five options below."""
    distribution_mode: str | None = None
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool | None = None
    """Draw the game's background images."""
    paint_vel_info: bool | None = None
    """Paint the player's velocity into the frame, in games that can."""
    blink: bool | None = None
    """Blank 4-12 frames now and then (CoinRun-blink)."""
    random_coin: bool | None = None
    """Put the coin at a random place in the right fifth of each level (CoinRun)."""
    start_level: int = 0
    """First level of the range that episodes are drawn from."""
    num_levels: int = 0
    """Number of levels in that range; 0 means all from start_level on."""
    agent_file: Annotated[Path | None, SEED_MODEL_FILE] = None
    """Checkpoint of the agent; optional only for the behaviour `random`."""
    num_episodes: int = 1000
    """Number of episodes."""
    episodes_per_shard: int = 256
    """Episodes per shard, which is the most that a killed run loses and what is held in memory."""
    job: JobFlag = ALONE
    behaviour: str = "agent"
    """agent, seed-noise, temperature, top-k, greedy, epsilon-greedy, random or mixture."""
    temperature: float = TEMPERATURE
    """Divides the logits, for the behaviour `temperature`."""
    top_k: int = TOP_K
    """Number of most likely actions to keep, for the behaviour `top-k`."""
    epsilon: float = EPSILON
    """Probability of a uniformly random action, for the behaviour `epsilon-greedy`."""
    mixture_files: tuple[Path, ...] = ()
    """Agents of the behaviour `mixture`, which play the shards in turn (name one twice for a double share).
    """
    mixture_behaviours: tuple[str, ...] = ()
    """How each of mixture_files plays, one behaviour for each; default: all as `agent`. Every episode of the
    store says whose it is and how it was played.
    """
    num_envs: int = 64
    """Environments stepped together."""
    seed: int = 0
    """Seed of level draws and action noise."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    num_threads: int = 2
    """Threads of the game simulator; results do not depend on it."""
    log_level: LogLevel = logging.INFO
    out_dir: Annotated[Path, tyro.conf.arg(aliases=["--logdir"])] = Path(".")
    """Parent directory of data/."""
    edit: tyro.conf.OmitArgPrefixes[EditFlags] = field(default_factory=EditFlags)
    """Edits of the agent's hidden state; a recording of the same levels and seed without them has the same
    action noise and is its control arm.
    """


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.actor_critic import ActorCritic, check_fits, load_agent
from agents.behaviours import check_behaviour, make_behaviour
from common.policy import Policy, unwrapped
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id
from common.words import counted
from envs.make import OPTIONS, game_of, make_env
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space
from envs.vecenv import ActionSpace
from interpret.interventions.from_flags import load_interventions, manifest_entry
from interpret.interventions.intervened import Intervened
from interpret.interventions.interventions import NO_INTERVENTIONS, Interventions
from rollouts.growth import extent
from rollouts.record import Actor, Plan, record, take_turns
from rollouts.store import create_store, recorded_precision


def main(args: Args) -> None:
    check(args)
    device = choose_device(args.device)
    plan = Plan(args.num_episodes, args.episodes_per_shard, args.start_level, args.num_levels, args.seed)
    store = args.out_dir / "data" / args.exp_name
    room = extent(store, "plan", "num_episodes", args.num_episodes, args.episodes_per_shard)
    plan = replace(plan, num_episodes=room.total, grown_from=room.grown_from)
    shards = Job(*args.job).share(range(plan.num_shards))
    agents = [load_agent(path, device) for path in files_of(args)]
    env_config = common_game(args, [meta.get("env") or {} for _, meta in agents])
    actions = action_space(env_config.env_name)
    interventions = interventions_of(args, [agent for agent, _ in agents])
    actors = build_actors(args, [agent for agent, _ in agents], actions, interventions)
    precision = choose_precision(args.precision, device).keep(recorded_precision(store), store)
    set_precision(precision, *(agent for agent, _ in agents))
    create_store(
        store,
        {
            "env": vars(env_config),
            "num_actions": len(actions.names),
            "action_names": actions.names,
            "noop": actions.noop,
            "obs_shape": ProcgenVecEnv.obs_shape,
            **hidden_layout(actors),
            "behaviour": described_behaviour(args),
            "policies": [actor.policy_id for actor in actors],
            "plan": plan.values(),
            "num_envs": args.num_envs,
            "precision": precision,
            **manifest_entry(interventions),
        },
    )
    if room.there is not None:
        logging.info(
            "%s has %s already; nothing to do for %d",
            store,
            counted(room.there, "episode"),
            args.num_episodes,
        )
        return
    if not shards:
        logging.info(
            "%s has fewer shards than there are jobs; nothing to do for --job %d %d", store, *args.job
        )
        return
    fresh_env = partial(make_env, args.num_envs, env_config, args.seed, args.num_threads)
    summary = record(store, plan, shards, fresh_env, take_turns(actors), device)
    if summary.episodes:
        logging.info(
            "%s, %s; writing took %.0f%% of the time",
            counted(summary.episodes, "episode"),
            counted(summary.steps, "step"),
            100 * summary.write_share,
        )
    else:
        logging.info("%s is done as far as asked; another --exp_name makes another", store)
    whose = "" if args.job[1] == 1 else f" (job {args.job[0]} of {args.job[1]})"
    logging.info("%s: %d of %d shards are done%s", store, len(shards), plan.num_shards, whose)


def described_behaviour(args: Args) -> dict:
    """The behaviour as the manifest names it; older stores lack epsilon and `each`."""
    options = {"name": args.behaviour, "temperature": args.temperature, "top_k": args.top_k}
    if "epsilon-greedy" in behaviours_of(args):
        options["epsilon"] = args.epsilon
    return options | ({"each": list(args.mixture_behaviours)} if args.mixture_behaviours else {})


def check(args: Args) -> None:
    """Raises UsageError for flags without effect or with impossible values."""
    if args.num_envs < 1:
        raise UsageError(f"num_envs is {args.num_envs}; at least one environment is needed")
    played = behaviours_of(args)
    check_behaviour(args.behaviour, args.temperature, args.top_k, ("mixture",), args.epsilon, played)
    for flag in ("mixture_files", "mixture_behaviours"):
        if getattr(args, flag) and args.behaviour != "mixture":
            raise UsageError(
                f"--{flag} has no effect on the behaviour {args.behaviour!r}; leave it out, or"
                " choose --behaviour mixture"
            )
    if args.behaviour == "mixture" and (not args.mixture_files or args.agent_file):
        raise UsageError(
            "the behaviour 'mixture' takes its agents from --mixture_files, at least one, and not"
            " from --agent_file"
        )
    if len(played) != max(1, len(args.mixture_files)):
        raise UsageError(
            f"--mixture_behaviours names {counted(len(played), 'behaviour')} for"
            f" {counted(len(args.mixture_files), 'agent')} of --mixture_files: give one for each"
        )
    for name in args.mixture_behaviours:
        check_behaviour(name)


def behaviours_of(args: Args) -> tuple[str, ...]:
    """How each agent plays."""
    if args.behaviour != "mixture":
        return (args.behaviour,)
    return args.mixture_behaviours or ("agent",) * len(args.mixture_files)


def files_of(args: Args) -> tuple[Path, ...]:
    """Checkpoints of the agents that play."""
    return args.mixture_files or ((args.agent_file,) if args.agent_file else ())


def common_game(args: Args, own: list[dict]) -> ProcgenConfig:
    """The game that all agents play, on the plan's levels. Raises UsageError if their own games differ."""
    games = {game_of(args, env, num_levels=0, start_level=0) for env in filter(None, own)} or {
        game_of(args, {}, num_levels=0, start_level=0)
    }
    if len(games) > 1:
        differing = [
            name for name in vars(ProcgenConfig()) if len({getattr(game, name) for game in games}) > 1
        ]
        remedy = f"give --{differing[0]}" if differing[0] in OPTIONS else "record them apart"
        raise UsageError(
            f"the agents of a mixture were trained on games that differ in {', '.join(differing)}: {remedy}"
        )
    return games.pop()


def interventions_of(args: Args, agents: list[ActorCritic]) -> Interventions:
    """The edits of the one agent that plays; none by default. Raises UsageError for edits of a mixture."""
    only = agents[0] if args.agent_file and agents else None
    return load_interventions(args.edit, only, file_id(args.agent_file) if only else "none")


def build_actors(
    args: Args,
    agents: list[ActorCritic],
    actions: ActionSpace,
    interventions: Interventions = NO_INTERVENTIONS,
) -> list[Actor]:
    """The actors: one agent with its edits and behaviour, or several for a mixture. Raises UsageError if one
    cannot play.
    """
    for agent in agents:
        check_fits(agent, len(actions.names), ProcgenVecEnv.obs_shape, "the game")
    if args.behaviour == "mixture":
        played = zip(agents, behaviours_of(args), args.mixture_files)
        return [
            Actor(behave(agent, name, args, actions), name, file_id(path)) for agent, name, path in played
        ]
    agent = agents[0] if agents else None
    edited = Intervened(agent, interventions) if interventions else agent
    policy = behave(edited, args.behaviour, args, actions)
    agent_id = file_id(args.agent_file) if args.agent_file else "none"
    return [Actor(policy, args.behaviour, interventions.policy_id(agent_id))]


def behave(policy: Policy | None, name: str, args: Args, actions: ActionSpace) -> Policy:
    """The policy with a behaviour; flags that belong to other behaviours of a mixture are left out."""
    options = {
        "temperature": args.temperature if name == "temperature" else TEMPERATURE,
        "top_k": args.top_k if name == "top-k" else TOP_K,
        "epsilon": args.epsilon if name == "epsilon-greedy" else EPSILON,
    }
    return make_behaviour(policy, name, actions=actions, **options)


def hidden_layout(actors: list[Actor]) -> dict:
    """Width of the stored hidden state and the slices of its parts. Raises UsageError if agents of a mixture
    differ.
    """
    widths = {actor.policy.hidden(actor.policy.initial_state(1)).shape[1] for actor in actors}
    if len(widths) > 1:
        raise UsageError(
            "the agents of a mixture must have hidden states of one width; these have"
            f" {', '.join(map(str, sorted(widths)))}"
        )
    core = getattr(unwrapped(actors[0].policy), "core", None)
    parts = {name: [part.start, part.stop] for name, part in core.parts.items()} if core else {}
    return {"hidden_size": widths.pop(), "core_parts": parts}


if __name__ == "__main__":
    run_main(main, ARGS)
