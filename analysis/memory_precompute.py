"""Does the agent use its memory, and how far back? Its state is computed anew from its last k frames, and the agent compared with itself.

On stored episodes: how far the policy and the value move, on the ground and in the air. On a fixed list of levels: how many fewer are
solved by an agent that remembers no more, with the same noise. And one frame with two pasts: real play that ends in the stored frame, bit
for bit, with another velocity, which is not on the screen. Controls: the state of another episode at the same time; agents without
memory, in which nothing may change. Numbers go to results/memory_precomp (the same command again goes on where it was); draw them with
analysis.memory_plotting.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.args import CONTEXT_FRAMES
from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path
    """The agent, which recorded the store. It may have no memory: then it is a control, in which nothing may change."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts, whose concepts are there (python -m analysis.concepts_precompute)."""
    num_episodes: int = 1500
    """Stored episodes that are looked at, at most; one of each level, levels drawn at random."""
    start_level: int = 200_000
    """First of the levels that are played, each once; from 100,000 on they are for discovery."""
    num_levels: int = 600
    """How many levels are played, by the whole agent and by each that remembers less."""
    play_frames: tuple[int, ...] = CONTEXT_FRAMES
    """How many last frames the agents remember that play the levels (of 0 1 2 4 8 16 32); each takes as long as the whole agent."""
    num_moments: int = 600
    """Moments at which a frame is given another past, at most; one of each level."""
    past: int = 4
    """Steps before such a moment at which the pasts part."""
    num_envs: int = 64
    """Environments stepped together; results differ by no more than rounding with it."""
    seed: int = 0
    """Seed of the agent's noise while it plays, of the choice of levels, of the other episodes, of moments and velocities."""
    out_dir: Path = Path("results")
    """Where concepts_precomp is, and memory_precomp is written."""
    new: bool = False
    """Make it again even where it is done."""
    device: str = "auto"
    """auto, gpu or cpu."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    num_threads: int = 2
    """Threads of the game; results do not depend on it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import ActorCritic, load_agent
from agents.evaluate import evaluate, fixed_jobs
from agents.last_frames import LastFrames
from analysis.artefacts import part
from analysis.concepts import load_concepts
from analysis.limits import Limit, check_least, fit_sizes
from analysis.memory import FRAMES, black_run, donors, horizon
from analysis.memory_pasts import chosen_moments, interchange
from analysis.memory_summary import STEP, VERSION, arms, summarise
from analysis.steps import finish_step, open_step, point_latest, read_numbers
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from common.words import counted
from envs.make import make_env
from envs.procgen import NUM_LEVELS, described_game
from generative.compatibility import check_store, recorded_by
from rollouts.growth import RECORD_MORE
from rollouts.store import Rollouts

LEAST = 10
"""Episodes and moments: with fewer levels an interval by level says nothing."""
OTHERS = 64
"""Episodes whose states stand in for the agent's own while it plays."""


def settings(args: Args) -> dict:
    """What the numbers depend on, besides the inputs."""
    names = "num_episodes", "start_level", "num_levels", "play_frames", "num_moments", "past", "seed"
    return {name: getattr(args, name) for name in names}


def check_asked(args: Args) -> None:
    """Raises UsageError for numbers that make no sense."""
    check_least(args, num_episodes=LEAST, num_levels=2, num_moments=LEAST, past=1, num_envs=1)
    if not set(args.play_frames) <= set(FRAMES):
        raise UsageError(f"--play_frames takes some of {' '.join(map(str, FRAMES))}, not {' '.join(map(str, args.play_frames))}")
    if not 0 <= args.start_level <= NUM_LEVELS - args.num_levels:
        asked = f"{counted(args.num_levels, 'level')} from {args.start_level} on"
        raise UsageError(f"{asked} do not lie within 0 .. {NUM_LEVELS - 1}; mend --start_level or --num_levels")


def limits(args: Args, rollouts: Rollouts) -> dict[str, Limit]:
    """The sizes that the store carries: one episode of each level, long enough for the moments."""
    first = np.unique(rollouts.episodes["level_seed"], return_index=True)[1]
    long = int((rollouts.episodes["length"][first] > args.past).sum())
    moments = Limit(long, f"{counted(long, 'level')} with an episode of more than {counted(args.past, 'step')}", LEAST)
    return {"num_episodes": Limit(len(first), counted(len(first), "level"), LEAST), "num_moments": moments}


def one_of_each_level(rollouts: Rollouts, most: int, seed: int) -> np.ndarray:
    """The first episode of each of up to `most` levels, drawn at random. Raises UsageError for fewer than LEAST."""
    first = np.unique(rollouts.episodes["level_seed"], return_index=True)[1]
    first = np.sort(np.random.default_rng([seed, 1]).permutation(first)[:most])
    if len(first) < LEAST:
        raise UsageError(f"{rollouts.path} has episodes of {counted(len(first), 'level')}; {LEAST} or more are needed: {RECORD_MORE}")
    return first


def steps(agent: ActorCritic, rollouts: Rollouts, episodes: np.ndarray, effect_classes, seed: int) -> dict[str, np.ndarray]:
    """The horizon at every step of the episodes: arrays [n, ...]. row: the step's place in the whole store."""
    device, columns = agent.initial_state(1).device, []
    length = rollouts.episodes["length"][episodes]
    with progress_bar(total=int(length.sum()), unit="step", unit_scale=True, desc="last frames") as bar:
        for episode, other in zip(episodes, episodes[donors(length, seed)]):
            obs, row = rollouts.episode(episode)["obs"], rollouts.first_step[episode]
            states = padded(rollouts.episode(other)["hidden"], len(obs) + 1).to(device)
            with torch.inference_mode():
                found = horizon(agent, agent.encoder(torch.from_numpy(obs).to(device)), states, effect_classes)
            level = np.full(len(obs), rollouts.episodes["level_seed"][episode])
            about = {"level": level, "t": np.arange(len(obs)), "row": row + np.arange(len(obs)), "black": black_run(obs)}
            columns.append(about | {name: x.astype(np.float32) for name, x in found._asdict().items()})
            bar.update(len(obs))
    return {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}


def padded(states: np.ndarray, length: int) -> torch.Tensor:
    """States [T, S] cut to `length` or carried on with the last of them."""
    return torch.from_numpy(states[np.minimum(np.arange(length), len(states) - 1)])


def others(rollouts: Rollouts, episodes: np.ndarray, seed: int) -> torch.Tensor:
    """States [R, T, S] before each step of up to OTHERS of the episodes, T that of the longest."""
    some = np.random.default_rng(seed).permutation(episodes)[:OTHERS]
    longest = int(rollouts.episodes["length"][some].max()) + 1
    return torch.stack([padded(rollouts.episode(i)["hidden"], longest) for i in some])


def arm(agent: ActorCritic, name: str, bank: torch.Tensor):
    """The agent that plays: `all` is the whole one; a number, one with so many last frames; `other`, one with the frame on show and the
    state of another episode before it."""
    if name == "all":
        return agent
    return LastFrames(agent, 1, bank) if name == "other" else LastFrames(agent, int(name))


def played(env, policy, args: Args, device) -> dict[str, np.ndarray]:
    """How the policy does on the levels: arrays [num_levels]."""
    jobs = fixed_jobs(args.start_level, args.num_levels, args.num_levels)
    return vars(evaluate(policy, env, jobs, args.seed, device, progress=True))


def main(args: Args) -> None:
    check_asked(args)
    device, rollouts = choose_device(args.device, args.gpu_device), Rollouts.open(args.data_dir)
    agent, meta = load_agent(args.model_file, device)
    check_store(rollouts, agent, meta, args.model_file)
    if not recorded_by(rollouts, file_id(args.model_file)):
        raise UsageError(f"{args.data_dir} was recorded by another agent than {args.model_file}; record with this one")
    concepts, episodes = load_concepts(rollouts, args.out_dir), one_of_each_level(rollouts, args.num_episodes, args.seed)
    args = fit_sizes(args, limits(args, rollouts))
    inputs = {"model_file": file_id(args.model_file), "data_dir": rollouts.id}
    chosen_moments(rollouts, args.num_moments, args.past, args.seed)  # refuses here, before any work, a store without long episodes
    run = open_step(args.out_dir, STEP, VERSION, settings(args), inputs, args.new, choose_precision(args.precision, device))
    set_precision(run.precision, agent)
    if not run.done:
        about = {"inputs": inputs, "asked": settings(args), "frames": list(FRAMES), "core": agent.config.core, "env": rollouts.manifest["env"]}
        found = compute(args, run, rollouts, episodes, agent, concepts)
        finish_step(run, about | summarise(found, concepts, meta.get("reward_scale", 1.0)))
    point_latest(run)
    for line in read_numbers(run.dir)["lines"]:
        logging.info("%s", line)
    logging.info("numbers: %s", run.dir)


def compute(args: Args, run: Run, rollouts: Rollouts, episodes: np.ndarray, agent: ActorCritic, concepts) -> dict[str, dict[str, np.ndarray]]:
    """Every part of the run by name: what the run holds already is read."""
    env = make_env(args.num_envs, described_game(rollouts.manifest["env"], rollouts.path / "manifest.json"), num_threads=args.num_threads)
    found = {"steps": part(run, "steps", lambda: steps(agent, rollouts, episodes, env.effect_classes, args.seed))}
    found["pasts"] = part(run, "pasts", lambda: interchange(agent, rollouts, concepts, env, args.num_moments, args.past, args.seed))
    device = agent.policy_head.weight.device
    bank = others(rollouts, episodes, args.seed).to(device)
    for name in arms(args.play_frames):
        logging.info("levels, %s", {"all": "the whole agent", "other": "another episode's memory"}.get(name, f"{name} last frames"))
        found[f"levels_{name}"] = part(run, f"levels_{name}", lambda: played(env, arm(agent, name, bank), args, device))
    env.close()
    return found


if __name__ == "__main__":
    run_main(main, ARGS)
