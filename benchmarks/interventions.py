"""Steps per second of paired forks under edits in the real game, against plain recording.

Recording plays whole episodes and keeps every step in memory; writing is left out, which favours it. Paired
forks restore saved states and play each once without and once under an edit, to the end or for a fixed number
of steps, and keep what effects are computed from. Both take turns in one process and are timed in CPU
seconds; a step is one step of the agent in one environment.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent."""
    num_envs: int = 64
    """Environments stepped together."""
    num_episodes: int = 256
    """Episodes recorded per turn."""
    num_fork_points: int = 128
    """States that are forked per turn, each in both arms."""
    steps: int = 24
    """Longest fork."""
    rounds: int = 3
    """Timed turns of each, after one to warm up."""
    seed: int = 0
    """Of levels, noise and the edited direction."""
    out_file: Path = Path("benchmarks/results/interventions.json")
    """Where the figures go."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import time
from collections.abc import Callable

import numpy as np
import torch

from agents.actor_critic import ActorCritic, load_agent
from common.checkpoints import write_json
from common.progress import progress_bar
from common.runs import file_id, manifest
from envs.make import make_env
from envs.procgen import described_game
from interpret.directions.directions import Directions
from interpret.forks.fork_points import ForkPoints
from interpret.forks.world_comparison import Runs, run_arrays
from interpret.forks.worlds import RealWorld, run_in_batches
from interpret.interventions.edit import Edit
from interpret.interventions.effects import outcomes_by_point
from interpret.interventions.intervened import Intervened
from interpret.interventions.interventions import Interventions, bind
from rollouts.play import EpisodeSpec
from rollouts.record import Actor, play_shard

LEAST_SHARE = 0.7


def random_edit(width: int, seed: int) -> Interventions:
    """A collapse of one random direction."""
    column = np.random.default_rng(seed).normal(size=(width, 1))
    read = column.T / (column**2).sum()
    directions = Directions(read, np.zeros(1), column, np.zeros(width), ["d"], {"method": "random"})
    return bind([Edit("collapse", (0,))], {"random": directions})


def fork_points(env, count: int, seed: int) -> ForkPoints:
    """`count` states a few no-ops into as many levels, with the agent's state left at zero."""
    snapshots, frames = [], []
    for at in range(0, count, env.num):
        slots = range(min(env.num, count - at))
        env.open_levels(slots, [seed + at + slot for slot in slots])
        for _ in range(4):
            env.act(np.full(env.num, env.noop))
        frames.append(env.observe()[1][: len(slots)].copy())
        snapshots += env.snapshot(slots)
    n = np.arange(count)
    return ForkPoints(snapshots, np.concatenate(frames)[None], torch.zeros(count, 1), n, 0 * n, 0 * n, n, n)


def record_steps(env, agent: ActorCritic, args: Args, turn: int) -> int:
    """Records episodes in memory; returns the number of their steps."""
    first = args.seed + turn * args.num_episodes
    jobs = [EpisodeSpec(first + i, i) for i in range(args.num_episodes)]
    return len(play_shard(env, Actor(agent, "agent", "benchmark"), jobs, args.seed)[0]["reward"])


def fork_steps(env, agent: ActorCritic, points: ForkPoints, args: Args, turn: int) -> int:
    """Plays the points in both arms; returns the number of steps."""
    total = 0
    for policy in (agent, Intervened(agent, random_edit(agent.core.state_size, args.seed))):
        world = RealWorld(env, policy)
        runs = Runs(**run_in_batches(world, points, args.steps, args.seed + turn, 1, env.num, run_arrays))
        outcomes_by_point(runs)
        total += int(runs.running.sum())
    return total


def steps_per_second(play: Callable[[int], int], turn: int) -> float:
    """Steps per CPU second of one turn."""
    began = time.process_time()
    return play(turn) / (time.process_time() - began)


def main(args: Args) -> None:
    torch.set_num_threads(1)
    agent, meta = load_agent(args.agent_file)
    env = make_env(args.num_envs, described_game(meta["env"], args.agent_file), num_threads=0)
    points = fork_points(env, args.num_fork_points, args.seed)
    points = ForkPoints(**vars(points) | {"hidden": agent.initial_state(len(points))})
    ways = {
        "recording": lambda turn: record_steps(env, agent, args, turn),
        "paired_forks": lambda turn: fork_steps(env, agent, points, args, turn),
    }
    found = {name: [] for name in ways}
    for turn in progress_bar(range(1 + args.rounds), desc="turns", unit="turn"):
        for name, play in ways.items():
            found[name].append(steps_per_second(play, turn))
    speeds = {name: float(np.median(values[1:])) for name, values in found.items()}
    share = speeds["paired_forks"] / speeds["recording"]
    numbers = {"steps_per_second": speeds, "share": share, "least_share": LEAST_SHARE}
    about = manifest({"agent_file": file_id(args.agent_file)})
    write_json(args.out_file, numbers | {"manifest": about})
    logging.info(
        "recording %.0f steps/s, paired forks %.0f: %.0f%%; at least %.0f%% are asked",
        speeds["recording"], speeds["paired_forks"], 100 * share, 100 * LEAST_SHARE,
    )  # fmt: skip


if __name__ == "__main__":
    run_main(main, ARGS)
