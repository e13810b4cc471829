"""Returns-to-go of recorded episodes, and the choice of the best episodes."""

import numpy as np


def returns_to_go(reward: np.ndarray, length: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Discounted sum of the rewards from each step to the end of its episode; the reward of the step itself
    counts.

    Args:
        reward: [steps], episode after episode.
        length: [E], steps of each episode.
        gamma: discount.

    Returns:
        float64 [steps]: rtg[t] = reward[t] + gamma * rtg[t + 1], with rtg = reward in an episode's last step.
    """
    rtg = np.array(reward, np.float64)
    end = np.cumsum(length)
    longest_first = np.argsort(-np.asarray(length), kind="stable")
    last = end[longest_first] - 1
    ascending = np.asarray(length)[longest_first][::-1]
    for back in range(1, max(length, default=0)):
        longer = len(length) - np.searchsorted(ascending, back, side="right")
        row = last[:longer] - back
        rtg[row] += gamma * rtg[row + 1]
    return rtg


def best_episodes(returns: np.ndarray, length: np.ndarray, share: float) -> np.ndarray:
    """The best episodes by return, as few as hold that share of all steps.

    Args:
        returns: [E].
        length: [E], steps of each episode.
        share: in (0, 1]; 1 keeps every episode.

    Returns:
        Ascending indices of the episodes kept; of equal returns the earlier episode comes first.
    """
    order = np.argsort(-np.asarray(returns), kind="stable")
    steps = np.cumsum(np.asarray(length)[order])
    kept = 1 + np.searchsorted(steps, share * steps[-1])
    return np.sort(order[:kept])
