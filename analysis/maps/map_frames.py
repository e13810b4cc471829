"""Frames that a map shows next to its points: example members of clusters, and whole episodes."""

import numpy as np

from rollouts.store import Rollouts
from rollouts.windows import Windows


def frames_at(rollouts: Rollouts, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Observations [n, H, W, C] uint8 at these steps: episode [n], step [n]."""
    windows = Windows(rollouts, 1, np.stack([episode, step], 1))
    return windows.batch(np.arange(len(episode))).obs[0].numpy()


def cluster_members(
    labels: np.ndarray, episode: np.ndarray, count: int, most: int, seed: int = 0
) -> np.ndarray:
    """Random members of each cluster, from different episodes as far as possible.

    Args:
        labels: cluster of each state [n].
        episode: of each state [n].
        count: number of clusters C.
        most: members per cluster M.
        seed: of the choice.

    Returns:
        [C, M] indices of states, -1 where a cluster has fewer members.
    """
    rng = np.random.default_rng([seed, 12])
    members = np.full((count, most), -1)
    for cluster in range(count):
        rows = rng.permutation(np.flatnonzero(labels == cluster))
        first_of_episode = np.sort(np.unique(episode[rows], return_index=True)[1])
        rows = np.concatenate([rows[first_of_episode], np.delete(rows, first_of_episode)])[:most]
        members[cluster, : len(rows)] = rows
    return members


def episode_frames(rollouts: Rollouts, episodes: np.ndarray) -> np.ndarray:
    """All frames [n, H, W, C] of these episodes, one episode after the other."""
    return np.concatenate([rollouts.episode(i)["obs"] for i in episodes])
