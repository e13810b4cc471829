"""Watches an agent play: one video per episode, from the first frame to the end. Needs no display."""

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from agents.actor_critic import load_agent
from agents.behaviours import make_behaviour
from agents.evaluate import fixed_jobs
from analysis.overlay import Overlay
from analysis.watch import Episode, watch
from analysis.window import Window
from common.cli import run_script
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id, open_run
from common.video import upscale, write_video
from envs.make import make_env
from envs.procgen import ProcgenConfig, action_space


@dataclass
class Args:
    model_file: Path
    """Checkpoint of the agent to watch."""
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
    behaviour: str = "agent"
    """How it acts: agent (samples its policy), temperature, greedy, top-k, random, seed-noise."""
    temperature: float = 1.0
    """Divides the logits (behaviour temperature)."""
    top_k: int = 3
    """How many of the likeliest actions remain (behaviour top-k)."""
    seed: int = 0
    """Seed of the action noise: the same seed plays the same episodes."""
    vid_dir: Path | None = None
    """Where videos go, in a directory named after what was asked; left out, <logdir>/procgen/<env_name>/<exp_name>/."""
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
    num_threads: int = 1
    """Threads of the game simulator; results do not depend on it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""
    logdir: Path = Path("logs")
    """Where results go when there is no --vid_dir."""
    new: bool = False
    """Make the videos again even though this command has made them."""


def env_config(args: Args, own: dict) -> ProcgenConfig:
    """The agent's own game and options, with those asked for in their place."""
    names = ("env_name", "start_level", "num_levels", "distribution_mode", "use_backgrounds", "paint_vel_info", "blink")
    asked = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return replace(ProcgenConfig(), **{**own, **asked})


def claim(args: Args, config: ProcgenConfig) -> Run:
    """The directory for these videos; where they go and whether they are shown does not change which they are."""
    parent = args.vid_dir or args.logdir / "procgen" / config.env_name / args.exp_name
    asked = replace(args, model_file=None, vid_dir=None, window=False, exp_name="render")
    return open_run(parent, f"seed_{args.seed}", {"args": asked, "env": config}, args.new, {"model_file": file_id(args.model_file)})


def main(args: Args) -> None:
    if args.num_eps < 1:
        raise UsageError(f"--num_eps must be at least 1, not {args.num_eps}: there is nothing to render")
    device = choose_device(args.device, args.gpu_device)
    agent, meta = load_agent(args.model_file, device)
    config = env_config(args, meta.get("env", {}))
    actions = action_space(config.env_name)
    if agent.num_actions != len(actions.names):
        raise UsageError(f"the agent has {agent.num_actions} actions and {config.env_name} {len(actions.names)}: take its own game")
    policy = make_behaviour(agent, args.behaviour, args.temperature, args.top_k, actions)
    title = f"{config.env_name} {config.distribution_mode}" + (f" · {args.behaviour}" if args.behaviour != "agent" else "")

    def frames(episode: Episode):
        if args.overlay:
            return Overlay(episode, actions, title, args.scale).frames()
        return (upscale(frame, args.scale) for frame in episode.obs)

    window = Window(args.fps) if args.window else None
    run = claim(args, config)
    if run.done and not args.window:
        logging.info("%s is done; --new makes the videos again", run.dir)
        return
    env = make_env(1, config, args.seed, args.num_threads)
    jobs = fixed_jobs(config.start_level, config.num_levels or args.num_eps, args.num_eps)
    episodes = []
    with window or nullcontext():
        for episode in progress_bar(watch(env, policy, jobs, args.seed, device), total=len(jobs), unit="episode", desc="render"):
            name = f"level_{episode.job.level:06d}_repeat_{episode.job.repeat}.mp4"
            write_video(run.dir / name, window.shown(frames(episode)) if window else frames(episode), args.fps)
            episodes.append({"video": name} | episode.record())
    run.finish({"episodes": episodes})
    solved = sum(episode["outcome"] == "solved" for episode in episodes)
    logging.info("%d videos (%d solved) in %s", len(episodes), solved, run.dir)


if __name__ == "__main__":
    run_script(main, tyro.cli(Args, description=__doc__))
