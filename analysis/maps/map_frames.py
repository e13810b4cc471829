"""Frames that maps show beside their points: some members of every cluster, and whole episodes that are
followed.
"""

import numpy as np

from rollouts.store import Rollouts
from rollouts.windows import Windows


def frames_at(rollouts: Rollouts, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The frames [n, H, W, C] uint8 that these steps saw: episode [n], step [n]."""
    windows = Windows(rollouts, 1, np.stack([episode, step], 1))
    return windows.batch(np.arange(len(episode))).obs[0].numpy()


def cluster_members(
    labels: np.ndarray, episode: np.ndarray, count: int, most: int, seed: int = 0
) -> np.ndarray:
    """[count, most]: rows of up to `most` random members of each cluster, -1 where it has no more; of
    different episodes as far as it has them.

    labels [n]: cluster of each state; episode [n].
    """
    rng = np.random.default_rng([seed, 12])
    found = np.full((count, most), -1)
    for cluster in range(count):
        rows = rng.permutation(np.flatnonzero(labels == cluster))
        one_each = np.sort(
            np.unique(episode[rows], return_index=True)[1]
        )  # the first of every episode in this order
        rows = np.concatenate([rows[one_each], np.delete(rows, one_each)])[:most]
        found[cluster, : len(rows)] = rows
    return found


def episode_frames(rollouts: Rollouts, episodes: np.ndarray) -> np.ndarray:
    """All frames [n, H, W, C] of these episodes, one after the other."""
    return np.concatenate([rollouts.episode(i)["obs"] for i in episodes])
