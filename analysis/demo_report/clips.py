"""Clips of the demo's report: agents on the same level, and simulations next to the recorded episode."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from agents.actor_critic import load_agent
from analysis.rendering.tiles import Tile, tile_clips
from common.video import write_video
from envs.make import make_env
from envs.procgen import ProcgenConfig
from rollouts.play import EpisodeSpec, play
from rollouts.store import Rollouts

FPS = 12
SCALE = 3
MAX_STEPS = 160
"""Steps of a clip: an untrained agent may stand still for a thousand."""


def write_agents_clip(agents: Mapping[str, Path], env_name: str, level: int, path: Path) -> Path:
    """Agents {label: file} side by side on one level, with the same action noise."""
    tiles = [Tile(_play_level(file, env_name, level), label) for label, file in agents.items()]
    return _write(tiles, f"level {level}", path)


def _play_level(file: Path, env_name: str, level: int) -> np.ndarray:
    """Frames [T, H, W, C] of one episode, at most MAX_STEPS."""
    env = make_env(1, ProcgenConfig(env_name))
    batches = play(env, load_agent(file)[0], [EpisodeSpec(level, 0)], 0)
    frames = np.stack([batch.obs[0] for batch in islice(batches, MAX_STEPS)])
    env.close()
    return frames


def write_simulation_clip(real: Rollouts, simulated: Mapping[str, Rollouts], i: int, path: Path) -> Path:
    """The i-th episode of every simulated store next to the recorded episode that it starts from.

    Args:
        real: store of the recorded episodes.
        simulated: {label: store}.
        i: index of the episode.
        path: of the clip.
    """
    episode, step = source(next(iter(simulated.values())), i)
    longest = max(store.episodes["length"][i] for store in simulated.values())
    tiles = [Tile(real.episode(episode)["obs"][step : step + longest], "game")]
    tiles += [
        Tile(store.episode(i)["obs"], label)
        for label, store in simulated.items()
        if source(store, i) == (episode, step)
    ]
    return _write(tiles, f"level {real.episodes['level_seed'][episode]}, step {step}", path)


def source(simulated: Rollouts, i: int) -> tuple[int, int]:
    """Episode and step of the real store that a simulated episode starts from."""
    return int(simulated.episodes["source_episode"][i]), int(simulated.episodes["source_step"][i])


def write_random_clip(store: Rollouts, count: int, path: Path) -> Path:
    """The first episodes of a store of random latents, side by side."""
    tiles = [Tile(store.episode(i)["obs"], f"sample {i}") for i in range(min(count, len(store)))]
    return _write(tiles, "random latents", path)


def _write(tiles: list[Tile], title: str, path: Path) -> Path:
    write_video(path, tile_clips(tiles, len(tiles), title, SCALE), FPS)
    return path
