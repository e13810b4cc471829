"""Renders episodes of an agent, in the game or in a world model: one video per episode. Needs no display."""

import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from agents.defaults import EPSILON, TEMPERATURE, TOP_K
from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Annotated[Path | None, SEED_MODEL_FILE] = None
    """Checkpoint of the agent."""
    param_name: str | None = None
    """Preset of hyperparams/procgen/config.yml. Without --agent_file an untrained agent of this preset plays;
    a checkpoint must match the preset's network.
    """
    exp_name: str = "render"
    """Name of the experiment, part of the default --vid_dir."""
    num_eps: int = 10
    """Episodes, one video each; levels in order, repeated with other action noise when they run out."""
    env_name: str | None = None
    """Game; default: the agent's own, also for the seven options below."""
    start_level: int | None = None
    """Seed of the first level."""
    num_levels: int | None = None
    """Number of levels to cycle through; 0 gives each episode a level of its own."""
    distribution_mode: str | None = None
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool | None = None
    """Draw the game's background images."""
    paint_vel_info: bool | None = None
    """Paint the player's velocity into the frame, if the game supports it."""
    blink: bool | None = None
    """Blank 4-12 frames at random times."""
    random_coin: bool | None = None
    """Put the coin at a random place in the right fifth of each level (CoinRun)."""
    world_model_file: Path | None = None
    """Play in this world model instead of the game; levels are then indices of start states."""
    data_dir: Path | None = None
    """In a world model: store of real rollouts whose windows are the start states; default: the store that
    the model was trained on, if it is in data/.
    """
    rand_init: bool = False
    """In a world model: start from random latents, whose frames are often blurred; the videos say so."""
    num_sim_steps: int | None = None
    """In a world model: longest episode, in steps; default: 64."""
    allow_other_agent: bool = False
    """In a world model: allow an agent that the model was not trained with."""
    behaviour: str = "agent"
    """Action selection: agent (samples the policy), temperature, greedy, epsilon-greedy, top-k, random,
    seed-noise.
    """
    temperature: float = TEMPERATURE
    """Divisor of the logits, for the behaviour temperature."""
    top_k: int = TOP_K
    """Number of most likely actions to sample from, for the behaviour top-k."""
    epsilon: float = EPSILON
    """Probability of a uniformly random action, for the behaviour `epsilon-greedy`."""
    seed: int = 0
    """Seed of the action noise; the same seed plays the same episodes."""
    vid_dir: Path | None = None
    """Directory that receives the run directory; default: <out_dir>/procgen/<env_name>/<exp_name>."""
    fps: Annotated[float, tyro.conf.arg(aliases=["--tps"])] = 15.0
    """Game steps per second, in the videos and in the window."""
    scale: int = 8
    """Video pixels per game pixel, along each side."""
    overlay: bool = True
    """Draw action, action probabilities, value, level and return next to each frame."""
    window: bool = False
    """Also show each episode in a window; needs a display."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    num_threads: int = 1
    """Threads of the game; results do not depend on it."""
    log_level: LogLevel = logging.INFO
    out_dir: Path = Path("logs")
    """Directory of results without --vid_dir."""
    new: bool = False
    """Render again although this command is finished."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import ActorCritic, check_fits, load_agent
from agents.behaviours import make_behaviour
from agents.evaluate import fixed_jobs
from agents.presets import load_preset
from analysis.rendering.episode_clips import Episode, play_episodes
from analysis.rendering.live_window import LiveWindow
from analysis.rendering.overlay import Overlay, check_scale
from analysis.rendering.render_source import (
    RenderSource,
    WorldModelOptions,
    game_source,
    world_model_source,
)
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id, open_run
from common.video import upscale, write_video
from envs.make import OPTIONS, game_of
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space

WORLD_MODEL_FLAGS = ("data_dir", "rand_init", "num_sim_steps", "allow_other_agent")
MAX_SIM_STEPS = 64


def main(args: Args) -> None:
    check(args)
    window = LiveWindow(args.fps) if args.window else None
    device = choose_device(args.device)
    agent, meta = load_policy(args, device)
    source = choose_source(args, meta.get("env") or {}, device)
    env = source.open()
    check_fits(agent, env.num_actions, env.obs_shape, source.group.name)
    if args.overlay:
        check_scale(env.obs_shape[0], args.scale)
    policy = make_behaviour(agent, args.behaviour, args.temperature, args.top_k, source.actions, args.epsilon)
    run = open_render_run(args, source, device)
    set_precision(run.precision, agent, *source.networks)
    if run.done and not window:
        return
    played = play_episodes(env, policy, source.specs, args.seed, device, source.truncated)
    with window or nullcontext():
        bar = progress_bar(played, total=len(source.specs), unit="episode", desc="render")
        episodes = [write_episode(args, source, episode, run, window) for episode in bar]
    run.finish({"episodes": episodes})
    solved = sum(episode["outcome"] == "solved" for episode in episodes)
    logging.info("%d videos (%d solved) in %s", len(episodes), solved, run.dir)


def check(args: Args) -> None:
    """Raises UsageError for invalid flags, before any work."""
    for name in ("num_eps", "scale"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}: give 1 or more")
    if not 0 < args.fps < math.inf:
        raise UsageError(f"--fps is {args.fps}: give a number of frames per second above 0")


def load_policy(args: Args, device: torch.device) -> tuple[ActorCritic, dict]:
    """The agent and its metadata; an untrained one without --agent_file.

    Raises:
        UsageError: no agent is given, or its network is not that of the preset.
    """
    if not args.agent_file and not args.param_name:
        raise UsageError("no agent given: give --agent_file, or --param_name for an untrained agent")
    if not args.agent_file:
        return untrained_agent(args).to(device).eval(), {}
    agent, meta = load_agent(args.agent_file, device)
    if args.param_name:
        check_preset(args, agent)
    return agent, meta


def untrained_agent(args: Args) -> ActorCritic:
    """An agent of the preset with weights initialised from the seed."""
    num_actions = len(action_space(args.env_name or ProcgenConfig.env_name).names)
    network = load_preset(args.param_name, num_actions, ProcgenVecEnv.obs_shape)[0]
    torch.manual_seed(args.seed)
    return ActorCritic(network)


def check_preset(args: Args, agent: ActorCritic) -> None:
    """Raises UsageError unless the agent has the preset's network."""
    network = load_preset(args.param_name, agent.num_actions, agent.config.obs_shape)[0]
    for field, value in vars(network).items():
        own = getattr(agent.config, field)
        if field != "precision" and value != own:
            raise UsageError(
                f"{args.agent_file} is not of the preset {args.param_name!r}: {field} is {own} in the "
                f"checkpoint and {value} in the preset; leave --param_name out, or give the checkpoint's own"
            )


def choose_source(args: Args, own: dict, device: torch.device) -> RenderSource:
    """The game or the world model to play in; own: game options in the agent's metadata.

    Raises:
        UsageError: flags of the game are given for a world model, or the other way round.
    """
    if args.world_model_file is None:
        given = [name for name in WORLD_MODEL_FLAGS if getattr(args, name)]
        if given:
            raise UsageError(f"--{given[0]} is for world models: give --world_model_file, or leave it out")
        return game_source(game_config(args, own), args.num_eps, args.seed, args.num_threads)
    if args.agent_file is None:
        raise UsageError("a world model simulates its agent: give that agent as --agent_file")
    given = [name for name in OPTIONS if getattr(args, name) is not None]
    if given:
        raise UsageError(
            f"--{given[0]} is an option of the game, and a world model has its own: leave --{given[0]} or "
            "--world_model_file out"
        )
    steps = MAX_SIM_STEPS if args.num_sim_steps is None else args.num_sim_steps
    options = WorldModelOptions(
        args.world_model_file,
        args.agent_file,
        args.data_dir,
        args.rand_init,
        args.allow_other_agent,
        steps,
    )
    specs = fixed_jobs(args.start_level or 0, args.num_levels or args.num_eps, args.num_eps)
    return world_model_source(options, specs, args.seed, device)


def game_config(args: Args, own: dict) -> ProcgenConfig:
    """The agent's own game, options and levels, replaced by the flags that are given."""
    levels = {name: getattr(args, name) for name in ("start_level", "num_levels")}
    return game_of(args, own, **{name: value for name, value in levels.items() if value is not None})


def open_render_run(args: Args, source: RenderSource, device: torch.device) -> Run:
    """The run directory of these videos; paths and the window do not enter its key."""
    parent = args.vid_dir or args.out_dir / source.group / args.exp_name
    paths = dict.fromkeys(("agent_file", "world_model_file", "data_dir", "vid_dir"))
    settings = replace(args, **paths, window=False, exp_name="render")
    inputs = ({"agent_file": file_id(args.agent_file)} if args.agent_file else {}) | source.inputs
    precision = choose_precision(args.precision, device)
    config = {"args": settings, "env": source.options}
    return open_run(parent, f"seed_{args.seed}", config, args.new, inputs, precision=precision)


def write_episode(
    args: Args, source: RenderSource, episode: Episode, run: Run, window: LiveWindow | None
) -> dict:
    """Writes the video of an episode, and shows it in the window if there is one. Returns its summary."""
    place = source.place.lower().replace(" ", "_")
    name = f"{place}_{episode.spec.level:06d}_repeat_{episode.spec.repeat}.mp4"
    frames = video_frames(args, source, episode)
    write_video(run.dir / name, window.show(frames) if window else frames, args.fps)
    return {"video": name} | episode.summary()


def video_frames(args: Args, source: RenderSource, episode: Episode) -> Iterator[np.ndarray]:
    """Enlarged frames [H, W, 3], with the overlay if asked for."""
    if not args.overlay:
        return (upscale(frame, args.scale) for frame in episode.obs)
    title = source.title + (f" · {args.behaviour}" if args.behaviour != "agent" else "")
    return Overlay(episode, source.actions, title, args.scale, source.place).frames()


if __name__ == "__main__":
    run_main(main, ARGS)
