"""Replays stored episodes in the real game; level seed and actions reproduce the frames bit for bit."""

from collections.abc import Sequence

import numpy as np

from common.errors import UsageError
from common.progress import progress_bar
from rollouts.store import Rollouts

SAME = -1
"""Result of `replay` for an episode without a difference."""


def replay(rollouts: Rollouts, episodes: Sequence[int], env, progress: bool = False) -> np.ndarray:
    """Replays stored episodes, as many at a time as `env` has slots, and compares every step.

    Args:
        rollouts: store of real episodes.
        episodes: indices [B] of the episodes to replay.
        env: VecEnv with `open_levels`, made from the manifest's `env`.
        progress: whether to show a progress bar.

    Returns:
        int64 [B]: the first step whose frame, reward or end differs from the stored one, or SAME.
    """
    episodes = np.asarray(episodes)
    order = np.argsort(rollouts.episodes["length"][episodes], kind="stable")
    differs = np.full(len(episodes), SAME)
    with progress_bar(total=len(episodes), unit="episode", desc="replay", disable=not progress) as bar:
        for begin in range(0, len(order), env.num):
            batch = order[begin : begin + env.num]
            differs[batch] = _replay_batch(rollouts, episodes[batch], env)
            bar.update(len(batch))
    return differs


def _replay_batch(rollouts: Rollouts, episodes: np.ndarray, env) -> np.ndarray:
    """First differing step of each episode, or SAME; one slot per episode, surplus slots take the no-op."""
    slots = np.arange(len(episodes))
    length = rollouts.episodes["length"][episodes]
    stored = [rollouts.episode(i) for i in episodes]
    steps = {name: _stack(stored, name) for name in ("obs", "action", "reward", "terminated", "truncated")}
    differs = np.full(len(episodes), SAME)
    env.open_levels(range(env.num), np.resize(rollouts.episodes["level_seed"][episodes], env.num))
    obs = env.observe()[1]
    for t in range(length.max()):
        frame_differs = (obs[slots] != steps["obs"][t]).any(axis=(1, 2, 3))
        action = np.full(env.num, env.noop)
        action[slots] = np.where(t < length, steps["action"][t], env.noop)
        env.act(action)
        reward, obs, _ = env.observe()
        outcome = {"reward": reward, **env.info()}
        wrong = [outcome[name][slots] != steps[name][t] for name in ("reward", "terminated", "truncated")]
        found = (frame_differs | np.any(wrong, axis=0)) & (t < length) & (differs == SAME)
        differs[found] = t
    return differs


def check_real(rollouts: Rollouts) -> None:
    """Raises UsageError for a simulated store, whose episodes cannot be replayed in the game."""
    if rollouts.simulated:
        raise UsageError(
            f"{rollouts.path} holds simulated episodes, which have no states in the game;"
            " give a store that record.py wrote"
        )


def replay_mismatch(rollouts: Rollouts, episode: int, t: int) -> UsageError:
    """The error for an episode whose stored frame t is not the one that the game shows."""
    level = rollouts.episodes["level_seed"][episode]
    return UsageError(
        f"episode {episode} of {rollouts.path} (level {level}) does not replay: its frame at step"
        f" {t} differs from"
        f" the game's; for details: python -m rollouts.inspect_store {rollouts.path} --check --replay -1"
    )


def frames_and_actions(
    rollouts: Rollouts, episode: int, begin: int, end: int
) -> tuple[np.ndarray, np.ndarray]:
    """Stored obs [T, H, W, C] and action [T] of an episode's steps begin to end - 1."""
    rows = rollouts.episodes["offset"][episode] + np.arange(begin, end)
    shard = rollouts.shard(rollouts.episodes["shard"][episode])
    return shard.rows("obs", rows), shard.rows("action", rows)


def _stack(stored: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    """One field of several episodes as [T, B, ...], padded with zeros to the longest episode."""
    longest = max(len(steps[name]) for steps in stored)
    out = np.zeros((longest, len(stored), *stored[0][name].shape[1:]), stored[0][name].dtype)
    for i, steps in enumerate(stored):
        out[: len(steps[name]), i] = steps[name]
    return out
