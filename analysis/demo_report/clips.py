"""The clips of the demo's report: agents on the same level, and simulations beside the recorded episode
that they began from."""

from itertools import islice
from pathlib import Path

import numpy as np

from agents.actor_critic import load_agent
from analysis.rendering.tiles import Tile, tiled
from common.video import write_video
from envs.make import make_env
from envs.procgen import ProcgenConfig
from rollouts.play import EpisodeSpec, play
from rollouts.store import Rollouts

FPS = 12
SCALE = 3
LONGEST = 160
"""Steps of a clip; an untrained agent may stay for a thousand."""


def write_agents(agents: dict[str, Path], env_name: str, level: int, path: Path) -> Path:
    """The agents {label: file} side by side on one level, with the same action noise."""
    tiles = [Tile(_played(file, env_name, level), label) for label, file in agents.items()]
    write_video(path, tiled(tiles, len(tiles), f"level {level}", SCALE), FPS)
    return path


def _played(file: Path, env_name: str, level: int) -> np.ndarray:
    env = make_env(1, ProcgenConfig(env_name))
    frames = [
        played.obs[0]
        for played in islice(play(env, load_agent(file)[0], [EpisodeSpec(level, 0)], 0), LONGEST)
    ]
    env.close()
    return np.stack(frames)


def write_worlds(real: Rollouts, simulated: dict[str, Rollouts], i: int, path: Path) -> Path:
    """The i-th simulated episode of every store beside the recorded one that they began from, from the same
    step on."""
    episode, step = source(next(iter(simulated.values())), i)
    longest = max(store.episodes["length"][i] for store in simulated.values())
    tiles = [Tile(real.episode(episode)["obs"][step : step + longest], "game")]
    tiles += [
        Tile(store.episode(i)["obs"], label)
        for label, store in simulated.items()
        if source(store, i) == (episode, step)
    ]
    write_video(
        path,
        tiled(tiles, len(tiles), f"level {real.episodes['level_seed'][episode]}, step {step}", SCALE),
        FPS,
    )
    return path


def source(simulated: Rollouts, i: int) -> tuple[int, int]:
    """Episode and step, in the real store, that a simulated episode began from."""
    return int(simulated.episodes["source_episode"][i]), int(simulated.episodes["source_step"][i])


def write_random(store: Rollouts, count: int, path: Path) -> Path:
    """The first episodes of a store of random starts, side by side."""
    tiles = [Tile(store.episode(i)["obs"], f"sample {i}") for i in range(min(count, len(store)))]
    write_video(path, tiled(tiles, len(tiles), "random latents", SCALE), FPS)
    return path
