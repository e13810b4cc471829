"""Steps the real game through stored episodes, so that its state can be read at every stored frame."""

from collections.abc import Iterator, Sequence

import numpy as np

from rollouts.replay import check_real, frames_and_actions, replay_mismatch
from rollouts.store import Rollouts

BLOCK = 64
"""Steps of each episode whose frames are in memory at a time."""


def walk(rollouts: Rollouts, episodes: Sequence[int], env) -> Iterator[tuple[int, np.ndarray]]:
    """Replays `episodes` side by side, one slot of `env` each, and yields before every action.

    Args:
        rollouts: store of real episodes.
        episodes: indices [B] of the episodes to replay.
        env: VecEnv with `open_levels` and at least B slots, made from the manifest's `env` (`replay_env` in
            rollouts/states.py). Between two yields it may be read but not stepped.

    Yields:
        The step t, and the slots [n] of running episodes, for which `env` shows obs[t].

    Raises:
        UsageError: the store is simulated, or a frame differs from the stored one.
    """
    check_real(rollouts)
    episodes = np.asarray(episodes)
    length = rollouts.episodes["length"][episodes]
    env.open_levels(range(env.num), np.resize(rollouts.episodes["level_seed"][episodes], env.num))
    for begin in range(0, length.max(), BLOCK):
        stored = {
            slot: frames_and_actions(rollouts, episodes[slot], begin, min(begin + BLOCK, length[slot]))
            for slot in np.flatnonzero(length > begin)
        }
        for t in range(begin, min(begin + BLOCK, length.max())):
            running = np.flatnonzero(length > t)
            frames = np.stack([stored[slot][0][t - begin] for slot in running])
            differs = (env.observe()[1][running] != frames).any((1, 2, 3))
            if differs.any():
                raise replay_mismatch(rollouts, episodes[running[differs.argmax()]], t)
            yield t, running
            action = np.full(env.num, env.noop)
            action[running] = [stored[slot][1][t - begin] for slot in running]
            env.act(action)
