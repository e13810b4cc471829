"""Watches an agent play, in the game or in a world model of it: one video per episode. Needs no display."""

import logging
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.defaults import TEMPERATURE, TOP_K
from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path | None = None
    """Checkpoint of the agent to watch."""
    param_name: str | None = None
    """Preset of hyperparams/procgen/config.yml: without --model_file, an untrained agent of it plays; a checkpoint must be of its network."""
    exp_name: str = "render"
    """Name of the experiment, for the default --vid_dir."""
    num_eps: int = 10
    """Episodes to play, one video each; levels in order, again with other action noise when they run out."""
    env_name: str | None = None
    """Game; left out, the agent's own. So too the six options below."""
    start_level: int | None = None
    """Seed of the first level."""
    num_levels: int | None = None
    """How many levels to play in turn; 0 gives each episode a level of its own."""
    distribution_mode: str | None = None
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool | None = None
    """Draw the game's background images."""
    paint_vel_info: bool | None = None
    """Paint the player's velocity into the picture (where the game can)."""
    blink: bool | None = None
    """Blank 4-12 frames now and then."""
    sim_model_file: Path | None = None
    """Play in this world model in place of the game; levels are then numbers of starting places."""
    data_dir: Path | None = None
    """In a world model: the store of real rollouts whose windows are the starting places; left out, the one that the model was trained
    on, looked for in data/."""
    rand_init: bool = False
    """In a world model: begin at random latents, whose pictures are often smeared; the videos say so."""
    num_sim_steps: int | None = None
    """In a world model: the longest that an episode may be; left out, 64."""
    off_agent: bool = False
    """In a world model: let an agent act that it was not trained with."""
    behaviour: str = "agent"
    """How it acts: agent (samples its policy), temperature, greedy, top-k, random, seed-noise."""
    temperature: float = TEMPERATURE
    """Divides the logits (behaviour temperature)."""
    top_k: int = TOP_K
    """How many of the likeliest actions remain (behaviour top-k)."""
    seed: int = 0
    """Seed of the action noise: the same seed plays the same episodes."""
    vid_dir: Path | None = None
    """Where videos go, in a directory named after what was asked; left out, <out_dir>/procgen/<env_name>/<exp_name>/."""
    fps: Annotated[float, tyro.conf.arg(aliases=["--tps"])] = 15.0
    """Game steps per second of video (and in the window)."""
    scale: int = 8
    """Pixels of video, along each side, for a pixel of the game."""
    overlay: bool = True
    """Beside each frame: the action, the probabilities of all actions, the value so far, level and return."""
    window: bool = False
    """Also play each episode in a window (needs a display)."""
    device: str = "auto"
    """auto, gpu or cpu."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    num_threads: int = 1
    """Threads of the game simulator; results do not depend on it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""
    out_dir: Path = Path("logs")
    """Where results go when there is no --vid_dir."""
    new: bool = False
    """Make the videos again even though this command has made them."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import torch

from agents.actor_critic import ActorCritic, check_fits, load_agent
from agents.behaviours import make_behaviour
from agents.evaluate import fixed_jobs
from agents.presets import load_preset
from analysis.overlay import Overlay, check_scale
from analysis.stages import Stage, real_stage, simulated_stage
from analysis.watch import Episode, watch
from analysis.window import Window
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id, open_run
from common.video import upscale, write_video
from envs.make import OPTIONS, game_of
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space

SIMULATED = ("data_dir", "rand_init", "num_sim_steps", "off_agent")


def stage_of(args: Args, own: dict, device) -> Stage:
    """Where to play. Raises UsageError for options of the game in a world model, and the other way round."""
    if args.sim_model_file is None:
        given = [name for name in SIMULATED if getattr(args, name)]
        if given:
            raise UsageError(f"--{given[0]} is of a world model; give --sim_model_file, or leave it out")
        return real_stage(env_config(args, own), args.num_eps, args.seed, args.num_threads)
    if args.model_file is None:
        raise UsageError("a world model has an agent inside; give that one's --model_file")
    given = [name for name in OPTIONS if getattr(args, name) is not None]
    if given:
        raise UsageError(f"--{given[0]} is of the game, and a world model has its own; leave it or --sim_model_file out")
    jobs = fixed_jobs(args.start_level or 0, args.num_levels or args.num_eps, args.num_eps)
    steps = 64 if args.num_sim_steps is None else args.num_sim_steps
    return simulated_stage(args.sim_model_file, args.model_file, args.data_dir, args.rand_init, args.off_agent, jobs, steps, args.seed, device)


def env_config(args: Args, own: dict) -> ProcgenConfig:
    """The agent's own game, options and levels, with those asked for in their place."""
    return game_of(args, own, **{name: getattr(args, name) for name in ("start_level", "num_levels") if getattr(args, name) is not None})


def check(args: Args) -> None:
    """Raises UsageError for what cannot be done, before any work."""
    for name in ("num_eps", "scale"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1, not {getattr(args, name)}: there is nothing to render")
    if not 0 < args.fps < math.inf:
        raise UsageError(f"--fps must be a positive number of frames per second, not {args.fps}")


def agent_of(args: Args, device) -> tuple[ActorCritic, dict]:
    """The agent to watch and its description. Raises UsageError where none is asked for, or a checkpoint of another network than the preset's."""
    if not args.model_file and not args.param_name:
        raise UsageError("no agent given: use --model_file, or --param_name for an untrained one")
    agent, meta = load_agent(args.model_file, device) if args.model_file else (None, {})
    if not args.param_name:
        return agent, meta
    num_actions = agent.num_actions if agent else len(action_space(args.env_name or ProcgenConfig.env_name).names)
    network = load_preset(args.param_name, num_actions, agent.config.obs_shape if agent else ProcgenVecEnv.obs_shape)[0]
    if agent is None:
        torch.manual_seed(args.seed)
        return ActorCritic(network).to(device).eval(), meta
    other = [field for field, value in vars(network).items() if field != "precision" and value != getattr(agent.config, field)]
    if other:
        found = f"{other[0]} is {getattr(agent.config, other[0])} in the checkpoint and {getattr(network, other[0])} in the preset"
        raise UsageError(f"{args.model_file} is not of the preset {args.param_name!r}: {found}; leave --param_name out, or name its own")
    return agent, meta


def claim(args: Args, stage: Stage, device) -> Run:
    """The directory for these videos; where they go and whether they are shown does not change which they are."""
    parent = args.vid_dir or args.out_dir / stage.group / args.exp_name
    asked = replace(args, model_file=None, sim_model_file=None, data_dir=None, vid_dir=None, window=False, exp_name="render")
    inputs = ({"model_file": file_id(args.model_file)} if args.model_file else {}) | stage.inputs
    precision = choose_precision(args.precision, device)
    return open_run(parent, f"seed_{args.seed}", {"args": asked, "env": stage.options}, args.new, inputs, precision=precision)


def main(args: Args) -> None:
    check(args)
    window = Window(args.fps) if args.window else None
    device = choose_device(args.device, args.gpu_device)
    agent, meta = agent_of(args, device)
    stage = stage_of(args, meta.get("env") or {}, device)
    env = stage.open()
    check_fits(agent, env.num_actions, env.obs_shape, stage.group.name)
    if args.overlay:
        check_scale(env.obs_shape[0], args.scale)
    policy = make_behaviour(agent, args.behaviour, args.temperature, args.top_k, stage.actions)
    title = stage.title + (f" · {args.behaviour}" if args.behaviour != "agent" else "")

    def frames(episode: Episode):
        if args.overlay:
            return Overlay(episode, stage.actions, title, args.scale, stage.place).frames()
        return (upscale(frame, args.scale) for frame in episode.obs)

    run = claim(args, stage, device)
    set_precision(run.precision, agent, *stage.networks)
    if run.done and not args.window:
        return
    episodes, watched = [], watch(env, policy, stage.jobs, args.seed, device, stage.cut)
    with window or nullcontext():
        for episode in progress_bar(watched, total=len(stage.jobs), unit="episode", desc="render"):
            name = f"{stage.place.lower().replace(' ', '_')}_{episode.job.level:06d}_repeat_{episode.job.repeat}.mp4"
            write_video(run.dir / name, window.shown(frames(episode)) if window else frames(episode), args.fps)
            episodes.append({"video": name} | episode.record())
    run.finish({"episodes": episodes})
    solved = sum(episode["outcome"] == "solved" for episode in episodes)
    logging.info("%d videos (%d solved) in %s", len(episodes), solved, run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
