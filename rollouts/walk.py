"""Walking through stored episodes in the real game: at every step the environment stands where the stored
frame was on show.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from common.runs import UsageError
from rollouts.store import Rollouts

BLOCK = 64
"""Steps of each episode whose frames are held at a time."""


def walk(rollouts: Rollouts, episodes: Sequence[int], env) -> Iterator[tuple[int, np.ndarray]]:
    """Plays `episodes` side by side, one slot of `env` each, and yields at every step t, before the action:
    t, and the slots [n] that are still in their episode, whose frame on show is obs[t].

    env: a VecEnv with open_levels, made from the manifest's `env` (rollouts.states.replay_env), with at least
    as many slots. Between two yields it may be read, not moved. Raises UsageError for a simulated store and
    for an episode whose frames do not come back.
    """
    episodes = np.asarray(episodes)
    if rollouts.simulated:
        raise UsageError(
            f"{rollouts.path} holds simulated episodes, which have no states in the game; give a store that record.py made"
        )
    length = rollouts.episodes["length"][episodes]
    env.open_levels(range(env.num), np.resize(rollouts.episodes["level_seed"][episodes], env.num))
    for begin in range(0, length.max(), BLOCK):
        stored = {slot: _stored(rollouts, episodes[slot], begin) for slot in np.flatnonzero(length > begin)}
        for t in range(begin, min(begin + BLOCK, length.max())):
            live = np.flatnonzero(length > t)
            frames = np.stack([stored[slot][0][t - begin] for slot in live])
            differs = (env.observe()[1][live] != frames).any((1, 2, 3))
            if differs.any():
                raise UsageError(_differs(rollouts, episodes[live[differs.argmax()]], t))
            yield t, live
            action = np.full(env.num, env.noop)
            action[live] = [stored[slot][1][t - begin] for slot in live]
            env.act(action)


def _stored(rollouts: Rollouts, episode: int, begin: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and actions of an episode's steps begin .. begin + BLOCK - 1, as far as it goes."""
    about = {name: rollouts.episodes[name][episode] for name in ("shard", "offset", "length")}
    rows = about["offset"] + np.arange(begin, min(begin + BLOCK, about["length"]))
    shard = rollouts.shard(about["shard"])
    return shard.rows("obs", rows), shard.rows("action", rows)


def _differs(rollouts: Rollouts, episode: int, t: int) -> str:
    level = rollouts.episodes["level_seed"][episode]
    return (
        f"episode {episode} of {rollouts.path} (level {level}) does not replay: its frame at step {t} is not the game's; "
        f"find out more with: python -m rollouts.inspect_store {rollouts.path} --check --replay -1"
    )
