"""Fork the real game: return to recorded steps, and play on from there."""

from collections.abc import Sequence

import numpy as np

from common.policy import Policy
from interpret.forks.fork_points import ForkPoints, fork_points_at, recording_seed
from interpret.forks.worlds import RealWorld
from rollouts.segment import Segment
from rollouts.split import episode_layouts
from rollouts.states import replay_env
from rollouts.store import Rollouts


def fork_points(
    rollouts: Rollouts, episodes: Sequence[int], steps: Sequence[int], num_frames: int = 3
) -> ForkPoints:
    """Return to recorded steps of the real game, by replaying their episodes.

    Args:
        rollouts: A store of real rollouts.
        episodes: [B] episode indices.
        steps: [B] steps of these episodes, each num_frames - 1 or more.
        num_frames: Frames kept for a simulator to start from; the shipped one needs 3.
    """
    return fork_points_at(rollouts, episodes, steps, num_frames, episode_layouts(rollouts))


def fork(
    rollouts: Rollouts,
    points: ForkPoints,
    policy: Policy,
    num_steps: int = 16,
    actions: np.ndarray | None = None,
    draw: int = 0,
) -> Segment:
    """Play on from fork points in the real game.

    Args:
        rollouts: The store the points are from; it says which game to open.
        points: B fork points.
        policy: Who acts.
        num_steps: Steps played; fewer where an episode ends.
        actions: [T, B] integers, taken in place of the policy's own.
        draw: Which action noise: 0 repeats the recording, any other number is a fresh draw. `simulate`
            with the same points and draw uses the same noise, so the two runs are paired.

    Returns:
        A Segment [num_steps, B, ...], masked after an end.
    """
    env = replay_env(rollouts, len(points))
    try:
        keys = points.keys(recording_seed(rollouts), draw)
        return RealWorld(env, policy).run(points, num_steps, keys, actions)
    finally:
        env.close()
