"""The training log: its columns, and statistics of recent episodes."""

from collections import deque

import numpy as np

WINDOW = 100
_KINDS = {"max": max, "mean": np.mean, "min": min}
_STATS = [
    (f"{kind}_{what}", what, function)
    for what in ("episode_rewards", "episode_len")
    for kind, function in _KINDS.items()
]
COLUMNS = (
    ["timesteps", "wall_time", "num_episodes", "num_episodes_val"]
    + [name for name, _, _ in _STATS]
    + ["mean_episode_value", "mean_policy_loss", "mean_value_loss", "mean_entropy_loss"]
    + [f"val_{name}" for name, _, _ in _STATS]
    + [
        "learning_rate",
        "approx_kl",
        "clip_fraction",
        "explained_variance",
        "reward_scale",
        "steps_per_second",
    ]
)
CLOCK_COLUMNS = ("wall_time", "steps_per_second")


def summary(rewards, lengths, prefix: str = "") -> dict[str, float]:
    """Max, mean and min of raw episode rewards and lengths; empty without episodes."""
    values = {"episode_rewards": rewards, "episode_len": lengths}
    return {
        prefix + name: float(function(values[what])) for name, what, function in _STATS if len(values[what])
    }


class EpisodeStatistics:
    """Raw returns and lengths of the last WINDOW training episodes."""

    def __init__(self, num: int):
        self.total = np.zeros(num)
        self.length = np.zeros(num, np.int64)
        self.rewards = deque(maxlen=WINDOW)
        self.lengths = deque(maxlen=WINDOW)
        self.episodes = 0

    def update(self, reward: np.ndarray, ended: np.ndarray) -> None:
        self.total += reward
        self.length += 1
        self.rewards.extend(self.total[ended].tolist())
        self.lengths.extend(self.length[ended].tolist())
        self.episodes += int(ended.sum())
        self.total[ended], self.length[ended] = 0, 0

    def state(self) -> dict:
        return {
            k: (list(v) if isinstance(v, deque) else v.tolist() if isinstance(v, np.ndarray) else v)
            for k, v in vars(self).items()
        }

    def load_state(self, state: dict) -> None:
        """Restores the result of `state`. Raises ValueError if it is of another number of environments."""
        total = np.array(state["total"], float)
        length = np.array(state["length"], np.int64)
        if not total.shape == length.shape == self.total.shape:
            raise ValueError(f"statistics of {total.shape} environments; expected {self.total.shape}")
        self.total = total
        self.length = length
        self.rewards = deque(state["rewards"], WINDOW)
        self.lengths = deque(state["lengths"], WINDOW)
        self.episodes = state["episodes"]
