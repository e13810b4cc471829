"""How far back does an agent use its memory? Compares the agent with itself after its state is recomputed
from its last k frames only.

Stored episodes: how far policy and value move. Fixed levels: how many fewer an agent with that memory
solves, with the same noise. Counterfactual histories: real play that ends in a stored frame, bit for bit,
with another velocity, which no single frame shows. Controls: the state of another episode at the same time,
and agents without memory, in which nothing may change. Writes numbers to results/memory_precomp and resumes
an unfinished run; draw them with analysis.memory_plotting.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from analysis.io.shared_args import CONTEXT_FRAMES
from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the store; one without memory is a control, in which nothing may change."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts with concepts (python -m analysis.concepts_precompute)."""
    num_episodes: int = 1500
    """Stored episodes that are analysed, at most; one of each level, levels drawn at random."""
    start_level: int = 200_000
    """First of the levels that are played, once each; discovery uses levels from 100,000 on."""
    num_levels: int = 600
    """Number of levels that each policy plays."""
    play_frames: tuple[int, ...] = CONTEXT_FRAMES
    """Context lengths, of 0 1 2 4 8 16 32 frames, that the levels are played with; each takes as long as the
    unchanged agent.
    """
    num_fork_points: int = 600
    """Frames that are given another history, at most; one of each level."""
    history_steps: int = 4
    """Steps before such a frame at which the histories diverge."""
    num_envs: int = 64
    """Environments stepped together; changes results by rounding only."""
    seed: int = 0
    """Seed of the noise and of every random choice: levels, other episodes, fork points, velocities."""
    out_dir: Path = Path("results")
    """Directory that holds concepts_precomp and receives memory_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    num_threads: int = 2
    """Threads of the game; does not change results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from agents.evaluate import evaluate, fixed_jobs
from agents.last_frames import TruncatedHistoryPolicy
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from analysis.memory.counterfactual_pairs import choose_steps, counterfactual_changes
from analysis.memory.summary import STEP, VERSION, policy_variants, summarize
from analysis.memory.truncated_history import black_run_length, donor_episodes, memory_horizon
from analysis.probing.store_concepts import load_concepts
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from common.words import counted
from envs.make import make_env
from envs.procgen import NUM_LEVELS, described_game
from generative.compatibility import load_recorder
from rollouts.growth import RECORD_MORE
from rollouts.store import Rollouts

MIN_LEVELS = 10
"""Levels of episodes and of fork points that an interval by level needs."""
NUM_OTHER_EPISODES = 64
"""Episodes whose states replace the agent's own while it plays."""
SETTINGS = (
    "num_episodes",
    "start_level",
    "num_levels",
    "play_frames",
    "num_fork_points",
    "history_steps",
    "seed",
)
"""Flags that the numbers depend on."""
VARIANT_NAMES = {"all": "the unchanged agent", "other": "another episode's memory"}


def settings(args: Args) -> dict:
    """The SETTINGS by name."""
    return {name: getattr(args, name) for name in SETTINGS}


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    minimum = {"num_episodes": MIN_LEVELS, "num_fork_points": MIN_LEVELS}
    check_least(args, num_levels=2, history_steps=1, num_envs=1, **minimum)
    if not set(args.play_frames) <= set(CONTEXT_FRAMES):
        allowed, given = (" ".join(map(str, frames)) for frames in (CONTEXT_FRAMES, args.play_frames))
        raise UsageError(f"--play_frames takes some of {allowed}, not {given}")
    if not 0 <= args.start_level <= NUM_LEVELS - args.num_levels:
        levels = f"{counted(args.num_levels, 'level')} from {args.start_level} on"
        raise UsageError(
            f"{levels} do not lie within 0 .. {NUM_LEVELS - 1}; change --start_level or --num_levels"
        )


def limits(args: Args, rollouts: Rollouts) -> dict[str, Limit]:
    """The sizes that the store has: one episode of each level, long enough for the fork points."""
    first = np.unique(rollouts.episodes["level_seed"], return_index=True)[1]
    long = int((rollouts.episodes["length"][first] > args.history_steps).sum())
    steps = counted(args.history_steps, "step")
    because = f"{counted(long, 'level')} with an episode of more than {steps}"
    return {
        "num_episodes": Limit(len(first), counted(len(first), "level"), MIN_LEVELS),
        "num_fork_points": Limit(long, because, MIN_LEVELS),
    }


def one_of_each_level(rollouts: Rollouts, most: int, seed: int) -> np.ndarray:
    """The first episode of each of up to `most` levels, drawn at random.

    Raises:
        UsageError: for fewer than MIN_LEVELS levels.
    """
    first = np.unique(rollouts.episodes["level_seed"], return_index=True)[1]
    first = np.sort(np.random.default_rng([seed, 1]).permutation(first)[:most])
    if len(first) < MIN_LEVELS:
        levels = f"{rollouts.path} has episodes of {counted(len(first), 'level')}"
        raise UsageError(f"{levels}; {MIN_LEVELS} or more are needed: {RECORD_MORE}")
    return first


def measure_steps(
    agent: ActorCritic, rollouts: Rollouts, episodes: np.ndarray, effect_classes, seed: int
) -> dict[str, np.ndarray]:
    """The memory horizon at all n steps of some episodes.

    Args:
        agent: the agent that recorded the store.
        rollouts: the store.
        episodes: [E].
        effect_classes: [A].
        seed: of the other episodes.

    Returns:
        MEASURES [n, K, 2], `level` [n], step `t` [n], `row` in the whole store [n], and black run length
        `black` [n].
    """
    parts = []
    length = rollouts.episodes["length"][episodes]
    with progress_bar(total=int(length.sum()), unit="step", unit_scale=True, desc="last frames") as bar:
        for episode, other in zip(episodes, episodes[donor_episodes(length, seed)]):
            parts.append(_measure_episode(agent, rollouts, episode, other, effect_classes))
            bar.update(len(parts[-1]["t"]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measure_episode(
    agent: ActorCritic, rollouts: Rollouts, episode: int, other: int, effect_classes
) -> dict[str, np.ndarray]:
    """The memory horizon at the T steps of one episode. other: the episode whose states are the control."""
    device = agent.initial_state(1).device
    obs = rollouts.episode(episode)["obs"]
    other_states = pad_states(rollouts.episode(other)["hidden"], len(obs) + 1).to(device)
    with torch.inference_mode():
        features = agent.encoder(torch.from_numpy(obs).to(device))
        changes = memory_horizon(agent, features, other_states, effect_classes)
    t = np.arange(len(obs))
    return {
        "level": np.full(len(obs), rollouts.episodes["level_seed"][episode]),
        "t": t,
        "row": rollouts.first_step[episode] + t,
        "black": black_run_length(obs),
    } | {name: x.astype(np.float32) for name, x in changes._asdict().items()}


def pad_states(states: np.ndarray, length: int) -> torch.Tensor:
    """States [T, S] cut or padded to `length`, the last one repeated."""
    return torch.from_numpy(states[np.minimum(np.arange(length), len(states) - 1)])


def other_episode_states(rollouts: Rollouts, episodes: np.ndarray, seed: int) -> torch.Tensor:
    """States [R, T, S] before each step of up to NUM_OTHER_EPISODES of the episodes, T of the longest."""
    selected = np.random.default_rng(seed).permutation(episodes)[:NUM_OTHER_EPISODES]
    longest = int(rollouts.episodes["length"][selected].max()) + 1
    return torch.stack([pad_states(rollouts.episode(i)["hidden"], longest) for i in selected])


def policy_variant(agent: ActorCritic, name: str, other_states: torch.Tensor):
    """The policy of a variant.

    Args:
        agent: the agent.
        name: `all`, the unchanged agent; a context length; or `other`, the current frame after the state of
            another episode.
        other_states: states of other episodes, [R, T, S].
    """
    if name == "all":
        return agent
    if name == "other":
        return TruncatedHistoryPolicy(agent, 1, other_states)
    return TruncatedHistoryPolicy(agent, int(name))


def play_levels(env, policy, args: Args, device) -> dict[str, np.ndarray]:
    """Results of the policy on the levels: arrays [num_levels]."""
    episodes = fixed_jobs(args.start_level, args.num_levels, args.num_levels)
    return vars(evaluate(policy, env, episodes, args.seed, device, progress=True))


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    agent, meta = load_recorder(rollouts, args.agent_file, device)
    concepts = load_concepts(rollouts, args.out_dir)
    episodes = one_of_each_level(rollouts, args.num_episodes, args.seed)
    args = fit_sizes(args, limits(args, rollouts))
    choose_steps(rollouts, args.num_fork_points, args.history_steps, args.seed)  # refuses early
    inputs = {"agent_file": file_id(args.agent_file), "data_dir": rollouts.id}
    precision = choose_precision(args.precision, device)
    run = open_step(args.out_dir, STEP, VERSION, settings(args), inputs, args.new, precision)
    set_precision(run.precision, agent)
    if not run.done:
        about = {
            "inputs": inputs,
            "asked": settings(args),
            "frames": list(CONTEXT_FRAMES),
            "core": agent.config.core,
            "env": rollouts.manifest["env"],
        }
        parts = compute_parts(args, run, rollouts, episodes, agent, concepts)
        finish_step(run, about | summarize(parts, concepts, meta.get("reward_scale", 1.0)))
    point_latest(run)
    for line in read_numbers(run.dir)["lines"]:
        logging.info("%s", line)
    logging.info("numbers: %s", run.dir)


def compute_parts(
    args: Args,
    run: Run,
    rollouts: Rollouts,
    episodes: np.ndarray,
    agent: ActorCritic,
    concepts: dict[str, np.ndarray],
) -> dict[str, dict[str, np.ndarray]]:
    """Every part of the run by name; parts that the run already has are read.

    Args:
        args: the flags.
        run: where parts are kept.
        rollouts: the store.
        episodes: [E], the episodes analysed.
        agent: the agent that recorded the store.
        concepts: concept columns of the whole store.
    """
    game = described_game(rollouts.manifest["env"], rollouts.path / "manifest.json")
    env = make_env(args.num_envs, game, num_threads=args.num_threads)
    device = agent.policy_head.weight.device
    other_states = other_episode_states(rollouts, episodes, args.seed).to(device)
    forks = args.num_fork_points, args.history_steps, args.seed
    compute = {
        "steps": lambda: measure_steps(agent, rollouts, episodes, env.effect_classes, args.seed),
        "counterfactual_history": lambda: counterfactual_changes(agent, rollouts, concepts, env, *forks),
    }
    parts = {name: cached_part(run, name, function) for name, function in compute.items()}
    for name in policy_variants(args.play_frames):
        logging.info("levels, %s", VARIANT_NAMES.get(name, f"{name} last frames"))
        policy = policy_variant(agent, name, other_states)
        parts[f"levels_{name}"] = cached_part(
            run, f"levels_{name}", lambda: play_levels(env, policy, args, device)
        )
    env.close()
    return parts


if __name__ == "__main__":
    run_main(main, ARGS)
