"""States of the saliency benchmark: recorded steps with several objects in view, and their real effects."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from common.policy import Policy
from common.progress import progress_bar
from envs.objects import KINDS
from generative.simulator import Simulator
from interpret.attribution.frame_functions import reconstructions
from interpret.attribution.leaderboard import Benchmark
from interpret.forks.fork_points import ForkPoints, ForkPointSampler, fork_points_at
from interpret.forks.object_deletion import (
    Scene,
    continued_returns,
    frame_effects,
    object_table,
    scene_of,
)

STREAM = 2
"""Of the sampler's random numbers: other steps than the questions of the real check."""
BATCH = 64
"""Points that the simulator is given at a time."""


class Play(NamedTuple):
    """How the agent plays on from a state: `steps` steps, `draws` times, with the recording's noise seed.

    gamma: discount per step. reward_scale: rewards per unit of the agent's value.
    """

    steps: int
    draws: int
    seed: int
    gamma: float
    reward_scale: float


def search_scenes(
    sampler: ForkPointSampler, env, count: int, least: int, seed: int
) -> tuple[ForkPoints, list[Scene]]:
    """Up to `count` fork points with `least` or more objects in the picture, and their deletions."""
    rng = np.random.default_rng([seed, 23])

    def find(snapshot) -> Scene | None:
        scene = scene_of(snapshot, env, rng)
        return scene if len(scene.deletions) >= least else None

    pairs, scenes = sampler.search(find, count, f"picture with {least} objects", STREAM)
    return fork_points_at(sampler.rollouts, *pairs.T, sampler.frames, sampler.layouts), scenes


def make_benchmark(
    sampler: ForkPointSampler,
    points: ForkPoints,
    scenes: list[Scene],
    env,
    agent: Policy,
    play: Play,
    about: dict,
) -> Benchmark:
    """The benchmark of these states; the effects of objects are measured in the real game. about: more of
    its description.
    """
    action = np.array([sampler.rollouts.episode(e)["action"][s] for e, s in zip(points.episode, points.step)])
    table = object_table(scenes)
    about = about | {"kinds": list(KINDS), "action_names": list(env.action_names)}
    return Benchmark(
        about | {"effect_classes": list(map(int, env.effect_classes)), "reward_scale": play.reward_scale},
        points.frames[-1],
        points.hidden.numpy(),
        action.astype(np.int64),
        np.array([int(name, 16) for name in points.layout], np.uint64).astype(np.int64),
        points.level.astype(np.int64),
        points.episode.astype(np.int64),
        points.step.astype(np.int64),
        np.array([scene.player for scene in scenes], np.float32),
        *table,
        real_effects(points, scenes, action, env, agent, play),
    )


def real_effects(
    points: ForkPoints, scenes: list[Scene], action: np.ndarray, env, agent: Policy, play: Play
) -> dict[str, np.ndarray]:
    """Effects [m] of all objects, of leaderboard.EFFECTS; value and return in the game's rewards."""
    deletions = [one for scene in scenes for one in scene.deletions]
    state = object_table(scenes).state
    deleted = np.stack([one.frame for one in deletions])
    classes = env.effect_classes
    effects = frame_effects(agent, points.hidden, action, points.frames[-1], deleted, state, classes)
    effects["value"] = effects["value"] * play.reward_scale
    without = replace(points.take(state), snapshots=[one.snapshot for one in deletions])
    with progress_bar(total=(len(points) + len(without)) * play.draws, unit="run", desc="forks") as bar:
        intact, after = (continued_returns(env, agent, some, *play, bar=bar) for some in (points, without))
    effects["return"] = (intact[state] - after).mean(1)
    return {name: values.astype(np.float32) for name, values in effects.items()}


def simulated_frames(simulator: Simulator, points: ForkPoints, seed: int) -> np.ndarray:
    """The simulator's own first frames [n, H, W, C] uint8 at the fork points."""
    parts = []
    for at in range(0, len(points), BATCH):
        some = points.take(np.arange(at, min(at + BATCH, len(points))))
        frames = torch.from_numpy(some.frames).float() / 255
        parts.append(reconstructions(simulator, frames, some.keys(seed)).numpy())
    return np.concatenate(parts)
