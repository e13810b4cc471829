"""Animates the same fork points played on in the real game (above) and in the simulator (below).

The agent acts in both, with the same action noise. The simulator is given the first frames and nothing else.
Moments are drawn at random from layouts that the world model was not trained on.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    world_model_file: Path
    """The simulator: a world model."""
    agent_file: Path
    """The agent that it was trained with, which recorded the store."""
    data_dir: Path = Path("data")
    """Store of real rollouts, from which fork points are drawn."""
    part: Literal["test", "train", "all"] = "test"
    """Layouts that fork points come from: held out from training, trained on, or both."""
    num_fork_points: int = 4
    """Columns of the picture, one fork point each."""
    steps: int = 20
    """Simulated steps."""
    fps: float = 8
    """Steps shown per second."""
    scale: int = 2
    """Side of a game pixel in the picture."""
    out_file: Path = Path("results/real_vs_simulated.gif")
    """The animated GIF to write."""
    seed: int = 0
    """Seed of the choice of fork points. The agent's noise is the recording's."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.rendering.two_rows import two_rows, write_animation
from common.runs import UsageError, file_id
from generative.compatibility import check_recorder, check_split
from generative.simulator_file import load_simulator
from generative.starts import open_agent_rollouts
from interpret.forks.fork_points import PARTS, ForkPoints, ForkPointSampler, recording_seed
from interpret.forks.worlds import RealWorld, SimulatedWorld
from rollouts.segment import Segment
from rollouts.states import replay_env


def main(args: Args) -> None:
    if args.num_fork_points < 1 or args.steps < 1:
        raise UsageError("--num_fork_points and --steps must be at least 1")
    simulator, meta = load_simulator(args.world_model_file, args.agent_file)
    check_split(meta, args.world_model_file)
    rollouts = open_agent_rollouts(args.data_dir, args.agent_file)
    check_recorder(rollouts, file_id(args.agent_file))
    depth = simulator.model.config.num_initializing_steps
    sampler = ForkPointSampler(rollouts, depth, PARTS[args.part], args.seed)
    points = sampler.sample(args.num_fork_points)
    keys = points.keys(recording_seed(rollouts))
    env = replay_env(rollouts, len(points))
    real = RealWorld(env, simulator.agent).run(points, args.steps + 1, keys)
    simulated = SimulatedWorld(simulator).run(points, args.steps + 1, keys)
    env.close()
    rows = [_row(points, real, _real_alive(real)), _row(points, simulated, _simulated_alive(simulated))]
    frames, alive = zip(*rows)
    pictures = list(two_rows(frames, alive, ("real game", "simulator"), depth, args.scale))
    write_animation(args.out_file, pictures, args.fps)
    logging.info(
        "%s: %d fork points, %d steps, %.0f KB",
        args.out_file,
        len(points),
        args.steps,
        args.out_file.stat().st_size / 1000,
    )


def _row(points: ForkPoints, run: Segment, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, B, H, W, C] and alive [T, B] of one world: the frames before the moment, then the run."""
    obs = run.obs.numpy().copy()
    for t in range(1, len(obs)):  # a run that has ended keeps its last frame
        obs[t] = np.where(alive[t][:, None, None, None], obs[t], obs[t - 1])
    before = points.frames[:-1]
    return np.concatenate([before, obs]), np.concatenate([np.ones(before.shape[:2], bool), alive])


def _real_alive(run: Segment) -> np.ndarray:
    """[T, B]: whether the episode still runs."""
    return run.mask.numpy()


def _simulated_alive(run: Segment) -> np.ndarray:
    """[T, B]: whether the simulator gives the episode a chance of at least one half to have lasted so far."""
    survival = np.cumprod(1 - run.extra["done_prob"].numpy(), axis=0)
    return np.concatenate([np.ones_like(survival[:1]), survival[:-1]]) >= 0.5


if __name__ == "__main__":
    run_main(main, ARGS)
