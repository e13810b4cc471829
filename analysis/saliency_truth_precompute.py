"""The saliency benchmark: does a map of what the agent depends on agree with the real game?

At recorded states with several objects in view, each object is deleted in the real game, and the agent sees
the frame without it, or plays on from there. Maps of every method are scored by the correlation, over the
objects of a state, of a map's mass on an object with the real effect. Controls: distance from the player,
edges, maps of other states, empty places, fresh weights layer by layer, an untrained agent. Real frames and
the simulator's own are scored apart. Writes numbers to <out_dir>/saliency_truth_precomp and resumes an
unfinished run; draw them with python -m analysis.saliency_truth_plotting.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import LogLevel
from interpret.attribution.method_config import MethodConfig


@dataclass(kw_only=True)
class Args(MethodConfig):
    world_model_file: Path
    """World model of the simulator."""
    agent_file: Path
    """The agent it was trained with, which also recorded the store."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    part: Literal["test", "train", "all"] = "test"
    """Split that states are from: test (layouts that the world model was not trained on), train, or all.
    Layouts that the agent was trained on are always left out.
    """
    num_states: int = 256
    """States, each of another layout."""
    min_objects: int = 3
    """Objects that a state's picture shows, at least."""
    fork_steps: int = 8
    """Steps that the agent plays on, with and without an object; its value after them counts too."""
    fork_draws: int = 4
    """Noise draws of each such run, the same with and without the object."""
    randomised_states: int = 48
    """States whose maps are compared with those of agents with fresh weights, layer by layer."""
    batch_size: int = 8
    """States whose maps are computed at a time."""
    out_dir: Path = Path("results")
    """Directory that receives saliency_truth_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.actor_critic import load_agent
from agents.ppo import PPOConfig
from analysis.game_check.saliency_scores import (
    agent_maps,
    box_fill_effects,
    completeness_gaps,
    control_scores,
    gap_summary,
    later_maps,
    leaderboard,
    randomised_similarity,
    ranks_by_kind,
    similarity_rows,
    states_of,
)
from analysis.game_check.saliency_states import Play, make_benchmark, search_scenes, simulated_frames
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.io.steps import cached_json, finish_step, open_step
from common.integrity import check_memory
from common.runs import Run, UsageError, file_id
from common.words import counted
from envs.concepts import check_game
from generative.compatibility import check_recorder, check_split, check_store, env_name_of, frame_shape
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from interpret.attribution.frame_gradients import randomised_agent
from interpret.attribution.gradient_estimator import to_float32
from interpret.attribution.leaderboard import Benchmark
from interpret.forks.fork_points import PARTS, REPEAT_STRIDE, ForkPointSampler, recording_seed
from rollouts.split import training_layouts
from rollouts.states import replay_env
from rollouts.store import Rollouts

STEP = "saliency_truth"
VERSION = 1
FILES = "--world_model_file MODEL --agent_file AGENT --data_dir STORE"
COMMAND = f"python -m analysis.saliency_truth_precompute {FILES}"
NOT_SETTINGS = ("world_model_file", "agent_file", "data_dir", "batch_size", "out_dir", "new", "log_level")
SLOTS = 64
"""Environments that render deletions and play on side by side."""
BYTES_PER_MASK = 2**20
"""What the agent keeps of one changed frame, about."""


def main(args: Args) -> None:
    check_flags(args)
    simulator, meta = load_simulator(args.world_model_file, args.agent_file)
    to_float32(simulator)
    check_split(meta, args.world_model_file)
    agent_meta = load_agent(args.agent_file)[1]
    rollouts = open_store(args, simulator, agent_meta)
    sampler = make_sampler(args, simulator, rollouts, agent_meta)
    args = fit_flags(args, sampler)
    inputs = {
        "world_model_file": file_id(args.world_model_file),
        "agent_file": file_id(args.agent_file),
        "data_dir": rollouts.id,
    }
    settings = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new)
    if run.done:
        logging.info("%s is done; --new computes it again", run.dir)
        return
    gamma, scale = agent_meta.get("gamma", PPOConfig.gamma), agent_meta.get("reward_scale", 1.0)
    play = Play(args.fork_steps, args.fork_draws, recording_seed(rollouts), gamma, scale)
    benchmark, pictures = states_part(args, run, simulator, sampler, play, inputs)
    numbers = scores(args, run, simulator, benchmark, pictures, play)
    finish_step(run, {"inputs": inputs, "asked": settings, "play": play._asdict()} | numbers)
    logging.info("%s: %s; draw it with: python -m analysis.saliency_truth_plotting", benchmark, run.dir)


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    sizes = dict.fromkeys(
        ("fork_steps", "fork_draws", "smooth_draws", "ig_steps", "patch", "stride", "batch_size"), 1
    )
    check_least(args, num_states=2, min_objects=2, randomised_states=2, **sizes)
    for name in ("smooth_std", "mask_std", "blur_std"):
        if getattr(args, name) <= 0:
            raise UsageError(f"--{name} is {getattr(args, name)}: give a number above 0")
    if args.stride > args.patch:
        gaps = f"--stride {args.stride} leaves gaps between squares of --patch {args.patch}"
        raise UsageError(f"{gaps} pixels: give a stride of {args.patch} or less")


def open_store(args: Args, simulator: Simulator, agent_meta: dict) -> Rollouts:
    """The store. Raises UsageError unless it is CoinRun recorded by this agent."""
    rollouts = Rollouts.open(args.data_dir)
    check_store(rollouts, simulator.agent, agent_meta, args.agent_file)
    check_recorder(rollouts, file_id(args.agent_file))
    check_game(env_name_of(rollouts.manifest))
    return rollouts


def make_sampler(args: Args, simulator: Simulator, rollouts: Rollouts, agent_meta: dict) -> ForkPointSampler:
    """Of steps on layouts of the part, one per layout, none of a layout that the agent was trained on."""
    known = training_layouts(agent_meta["env"]) if agent_meta.get("env") else np.zeros(0, str)
    frames = simulator.model.config.num_initializing_steps
    return ForkPointSampler(rollouts, frames, PARTS[args.part], args.seed, 1, known)


def fit_flags(args: Args, sampler: ForkPointSampler) -> Args:
    """The flags with sizes lowered to what the store has. Raises UsageError for too little memory."""
    layouts = counted(len(sampler), "layout")
    args = fit_sizes(args, {"num_states": Limit(len(sampler), f"{layouts} for {args.part}", 2)})
    height, width, _ = frame_shape(sampler.rollouts)
    if args.patch > min(height, width):
        raise UsageError(f"--patch is {args.patch}, and frames are {height} x {width}: give a smaller one")
    masks = (-(-height // args.stride) + 1) * (-(-width // args.stride) + 1)
    most = max(masks, args.ig_steps, args.smooth_draws)
    what = f"{most:,} changed frames of {args.batch_size} states (--batch_size, --stride)"
    check_memory(BYTES_PER_MASK * args.batch_size * most, what)
    return args


def states_part(
    args: Args, run: Run, simulator: Simulator, sampler: ForkPointSampler, play: Play, inputs: dict
) -> tuple[Benchmark, dict[str, np.ndarray]]:
    """The benchmark, and pictures: frames [K, n, H, W, C] up to each state, `repeat` [n] of its noise, the
    simulator's frame [n, H, W, C], and the frame without each object [m, H, W, C].
    """
    path = run.dir / "benchmark"

    def compute() -> dict[str, np.ndarray]:
        env = replay_env(sampler.rollouts, SLOTS)
        points, scenes = search_scenes(sampler, env, args.num_states, args.min_objects, args.seed)
        about = {"inputs": inputs, "part": args.part, "play": play._asdict()}
        benchmark = make_benchmark(sampler, points, scenes, env, simulator.agent, play, about)
        env.close()
        benchmark.save(path)
        return {
            "frames": points.frames,
            "repeat": points.repeat,
            "simulated": simulated_frames(simulator, points, play.seed),
            "deleted": np.stack([one.frame for scene in scenes for one in scene.deletions]),
        }

    pictures = cached_part(run, "pictures", compute)
    return Benchmark.open(path), pictures


def scores(
    args: Args,
    run: Run,
    simulator: Simulator,
    benchmark: Benchmark,
    pictures: dict[str, np.ndarray],
    play: Play,
) -> dict:
    """Leaderboards of real frames, the simulator's frames and an untrained agent, and the controls."""
    agent = simulator.agent
    real, simulated = states_of(benchmark), states_of(benchmark, pictures["simulated"])
    some = real._replace(frames=real.frames[: args.randomised_states])
    batch = args.batch_size
    fresh = randomised_agent(agent, args.seed)
    keys = noise_keys(benchmark, pictures["repeat"], play)
    maps = {
        "real": lambda: (
            agent_maps(agent, real, args, batch, "maps, real frames")
            | later_maps(simulator, pictures["frames"], real.hidden, keys, play.steps, args, batch)
        ),
        "simulated": lambda: agent_maps(agent, simulated, args, batch, "maps, simulated frames"),
        "untrained": lambda: agent_maps(fresh, real, args, batch, "maps, untrained agent"),
    }
    found = {name: cached_part(run, f"maps_{name}", compute) for name, compute in maps.items()}
    fills = cached_part(run, "box_fill", lambda: box_fill_effects(agent, benchmark))
    gaps = cached_part(run, "completeness", lambda: completeness_gaps(agent, real, args, batch))

    def similarity() -> dict:
        original = {name: x[: args.randomised_states] for name, x in found["real"].items()}
        layers, similar = randomised_similarity(agent, some, original, args, batch)
        return similarity_rows(layers, similar, benchmark.layout[: len(some.frames)])

    return {
        "states": len(benchmark),
        "objects": len(benchmark.state),
        "layouts": len(np.unique(benchmark.layout)),
        "levels": [int(benchmark.level.min()), int(benchmark.level.max())],
        "scores": {
            world: leaderboard(benchmark, maps_of, found["untrained"] if world == "real" else {})
            for world, maps_of in found.items()
        },
        "controls": control_scores(benchmark, fills),
        "kinds": {
            "value": ranks_by_kind(benchmark, found["real"], "value", "value"),
            "action": ranks_by_kind(benchmark, found["real"], "action", "action"),
        },
        "randomisation": cached_json(run, "randomisation", similarity),
        "completeness": gap_summary(gaps),
    }


def noise_keys(benchmark: Benchmark, repeat: np.ndarray, play: Play) -> list[NoiseKeys]:
    """The agent's noise in the simulator, for each draw that of the real forks."""
    return [
        NoiseKeys(play.seed, benchmark.level, repeat + REPEAT_STRIDE * draw, benchmark.step)
        for draw in range(play.draws)
    ]


if __name__ == "__main__":
    run_main(main, ARGS)
