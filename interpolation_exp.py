"""Interpolates between pairs of latents, and simulates every point side by side in one video per pair."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName


@dataclass
class Args:
    world_model_file: Annotated[Path, SEED_MODEL_FILE]
    """The world model."""
    agent_file: Path
    """The agent that acts in it."""
    data_dir: Path | None = None
    """Store of real rollouts whose windows are the endpoints; by default the one that the model was trained
    on, searched in data/.
    """
    rand_init: bool = False
    """Interpolate between random latents, whose frames are often blurred; names and titles say so."""
    num_pairs: int = 4
    """How many paths, one video each."""
    num_points: Annotated[int, tyro.conf.arg(aliases=["--num_interpolations"])] = 7
    """Latents on a path, both endpoints included."""
    num_sim_steps: int = 32
    """Simulated steps from each latent."""
    stochastic: bool = False
    """Sample actions, states and ends, with the same noise along a path, instead of taking the mode of each.
    """
    fps: float = 10.0
    """Steps per second of video."""
    seed: int = 0
    """Seed of endpoints and noise."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO
    out_dir: Path = Path("results/interpolation")
    """Where results go."""
    new: bool = False
    """Make the videos again even though this command has made them."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from analysis.rendering.tiles import Tile, tile_clips
from common.checkpoints import save_checkpoint
from common.precision import Precision, choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id, open_run
from common.video import write_video
from generative.interpolation import interpolate_latents
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from generative.starts import check_start_count, open_starts
from rollouts.segment import Segment


def main(args: Args) -> None:
    if args.num_pairs < 1 or args.num_points < 2 or args.num_sim_steps < 1:
        raise UsageError("a path needs --num_pairs 1, --num_points 2 and --num_sim_steps 1, or more of each")
    if not 0 < args.fps < math.inf:
        raise UsageError(f"--fps must be a positive number of frames per second, not {args.fps}")
    device = choose_device(args.device)
    simulator, meta = load_simulator(args.world_model_file, args.agent_file, device=device)
    starts, rollouts = open_starts(
        simulator, meta, args.data_dir, args.rand_init, args.agent_file, args.seed, not args.stochastic
    )
    check_start_count(starts, 2 * args.num_pairs)
    inputs = {
        "world_model_file": file_id(args.world_model_file),
        "agent_file": file_id(args.agent_file),
        "data_dir": rollouts.id if rollouts else None,
    }
    run = start_run(args, inputs, choose_precision(args.precision, device))
    set_precision(run.precision, simulator.model, simulator.agent)
    if run.done:
        return
    summary = [
        write_pair(args, simulator, starts, pair, run.dir, device)
        for pair in progress_bar(range(args.num_pairs), unit="pair")
    ]
    run.finish({"pairs": summary, "path": "great circle" if simulator.model.spherical else "straight"})
    logging.info("%d videos in %s", args.num_pairs, run.dir)


def start_run(args: Args, inputs: dict, precision: Precision) -> Run:
    """Finds or starts the run of these flags; input files count by content, not by path."""
    asked = {
        name: value
        for name, value in vars(args).items()
        if name not in ("world_model_file", "agent_file", "data_dir")
    }
    return open_run(args.out_dir, f"seed_{args.seed}", asked, args.new, inputs, precision=precision)


def write_pair(args: Args, simulator: Simulator, starts, pair: int, directory: Path, device) -> dict:
    """Simulates one path and writes its video and latents; returns how evenly frames change along it."""
    ends = np.array([2 * pair, 2 * pair + 1])
    with torch.no_grad():
        latents = interpolate_latents(
            *starts.latents(ends, NoiseKeys(args.seed, ends), device),
            args.num_points,
            simulator.model.spherical,
        )
    keys = NoiseKeys(args.seed, np.full(args.num_points, pair))
    options = dict(greedy=not args.stochastic, use_mode=not args.stochastic)
    segment = simulator.simulate(latents, args.num_sim_steps, keys, **options).to("cpu")
    name = f"{'random_' if args.rand_init else ''}pair_{pair:03d}"
    write_video(
        directory / f"{name}.mp4",
        tile_clips(tiles_of(segment), args.num_points, title_of(starts, ends), scale=2),
        args.fps,
    )
    save_checkpoint(
        directory / f"{name}.safetensors", {"latents": latents}, {"ends": starts.source(ends).tolist()}
    )
    return {
        "video": f"{name}.mp4",
        "ends": starts.source(ends).tolist(),
        "length": segment.mask.sum(0).tolist(),
        **evenness(segment),
    }


def tiles_of(segment: Segment) -> list[Tile]:
    """One tile per latent, labelled with its position along the path."""
    length = segment.mask.sum(0)
    points = segment.obs.shape[1]
    return [Tile(segment.obs[: length[p], p].numpy(), f"{p / (points - 1):.0%}") for p in range(points)]


def title_of(starts, ends: np.ndarray) -> str:
    endpoints = [
        f"episode {episode}, step {step}" if episode >= 0 else "a random latent"
        for episode, step in starts.source(ends)
    ]
    return f"Simulated · from {endpoints[0]} to {endpoints[1]}"


def evenness(segment: Segment) -> dict[str, list[float]]:
    """Values, and root mean squared differences (grey levels) of the first frames of neighbouring latents."""
    first = segment.obs[0].float()
    return {
        "neighbours": (first[1:] - first[:-1]).square().mean((1, 2, 3)).sqrt().tolist(),
        "value": segment.value[0].tolist(),
    }


if __name__ == "__main__":
    run_main(main, ARGS)
