"""log.csv and TensorBoard: one row per iteration, cut back to the checkpoint when a run resumes."""

import csv
import io
import os
from collections import deque
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from common.checkpoints import write_text

WINDOW = 100
_STATS = [(f"{kind}_{what}", what, function) for what in ("episode_rewards", "episode_len") for kind, function in (("max", max), ("mean", np.mean), ("min", min))]
COLUMNS = (
    ["timesteps", "wall_time", "num_episodes", "num_episodes_val"]
    + [name for name, _, _ in _STATS]
    + ["mean_episode_value", "mean_policy_loss", "mean_value_loss", "mean_entropy_loss"]
    + [f"val_{name}" for name, _, _ in _STATS]
    + ["learning_rate", "approx_kl", "clip_fraction", "explained_variance", "reward_scale", "steps_per_second"]
)
CLOCK_COLUMNS = ("wall_time", "steps_per_second")


def summary(rewards, lengths, prefix: str = "") -> dict[str, float]:
    """Max, mean and min of raw episode rewards and lengths; nothing where there are no episodes."""
    values = {"episode_rewards": rewards, "episode_len": lengths}
    return {prefix + name: float(function(values[what])) for name, what, function in _STATS if len(values[what])}


class EpisodeStatistics:
    """Raw returns and lengths of the last WINDOW training episodes, gathered from vectorised steps."""

    def __init__(self, num: int):
        self.total, self.length = np.zeros(num), np.zeros(num, np.int64)
        self.rewards, self.lengths = deque(maxlen=WINDOW), deque(maxlen=WINDOW)
        self.episodes = 0

    def update(self, reward: np.ndarray, ended: np.ndarray) -> None:
        self.total += reward
        self.length += 1
        self.rewards.extend(self.total[ended].tolist())
        self.lengths.extend(self.length[ended].tolist())
        self.episodes += int(ended.sum())
        self.total[ended], self.length[ended] = 0, 0

    def state(self) -> dict:
        return {k: (list(v) if isinstance(v, deque) else v.tolist() if isinstance(v, np.ndarray) else v) for k, v in vars(self).items()}

    def load_state(self, state: dict) -> None:
        self.total, self.length = np.array(state["total"], float), np.array(state["length"], np.int64)
        self.rewards, self.lengths = deque(state["rewards"], WINDOW), deque(state["lengths"], WINDOW)
        self.episodes = state["episodes"]


class TrainingLog:
    """Appends rows to log.csv and scalars to TensorBoard (and to W&B when `track` names a project)."""

    def __init__(self, directory: Path, timesteps: int, tracker=None):
        self.path, self.tracker = directory / "log.csv", tracker
        rows = read_log(self.path) if self.path.exists() else []
        kept = [row for row in rows if int(row["timesteps"]) <= timesteps]  # rows after the checkpoint will be made again
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self.path, text.getvalue())
        self.wall_time = float(kept[-1]["wall_time"]) if kept else 0.0
        self._board = SummaryWriter(directory, purge_step=timesteps)

    def write(self, row: dict) -> None:
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
            file.flush()
            os.fsync(file.fileno())
        for name, value in row.items():
            if name != "timesteps":
                self._board.add_scalar(name, value, row["timesteps"])
        if self.tracker is not None:
            self.tracker.log(row, step=row["timesteps"])

    def close(self) -> None:
        self._board.close()


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log.csv; a last line that a kill cut short is dropped."""
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return list(csv.DictReader(whole))
