"""Replay: a stored level seed and the stored actions give back the stored frames, bit for bit, or the episode
is not what it says.
"""

from collections.abc import Sequence

import numpy as np

from common.progress import progress_bar
from rollouts.store import Rollouts

SAME = -1
"""What `replay` says of an episode without a difference."""


def replay(rollouts: Rollouts, episodes: Sequence[int], env, progress: bool = False) -> np.ndarray:
    """Plays stored episodes again in the real environment, as many at a time as `env` has slots.

    env: a VecEnv with open_levels, made from the manifest's `env`. Returns, for each of `episodes`, the first
    step whose frame, reward or end differs from the stored one, or SAME.
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
    """The first differing step of each episode, or SAME; one slot each, the surplus slots idle."""
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


def _stack(stored: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    """[T, B, ...], T the longest episode's; zero after an episode's end."""
    longest = max(len(steps[name]) for steps in stored)
    out = np.zeros((longest, len(stored), *stored[0][name].shape[1:]), stored[0][name].dtype)
    for i, steps in enumerate(stored):
        out[: len(steps[name]), i] = steps[name]
    return out
