"""Windows of recorded episodes for the Decision Transformer (Chen et al. 2021): states, actions,
returns-to-go and times of the steps up to t.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from common.runs import UsageError
from decision.returns import best_episodes, returns_to_go
from rollouts.store import Rollouts

VALIDATION_STREAM = 2**31
"""Takes the place of the batch number in the key of validation draws."""


@dataclass
class DTBatch:
    """B windows of T steps. Where `mask` is False there is no step: state, return-to-go and time are zero,
    and the action is the padding token.
    """

    state: torch.Tensor  # [B, T, H, W, C] uint8 frames, or [B, T, F] features
    action: torch.Tensor  # [B, T] int64; A, one more than the last action, is the padding token
    return_to_go: torch.Tensor  # [B, T] float32, in units of reward
    timestep: torch.Tensor  # [B, T] int64, step within the episode
    mask: torch.Tensor  # [B, T] bool

    def to(self, device) -> "DTBatch":
        return DTBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


class DTWindows:
    """One window for every step of a store: the `length` steps that end with it, padded on the left.

    Args:
        rollouts: the store.
        length: T, steps of a window.
        gamma: discount of the returns-to-go, which are summed once over whole episodes.
        features: [steps, F], which then stand in place of the frames; None for frames.

    Attributes:
        return_to_go: [steps] float32.
        known: [E] bool, whether the episode's return is known: not of simulated episodes cut at a horizon.
    """

    def __init__(
        self, rollouts: Rollouts, length: int, gamma: float = 1.0, features: np.ndarray | None = None
    ):
        self.windows = rollouts.windows(length, anchor="end", pad="left")
        self.rollouts = rollouts
        self.length = length
        self.features = features
        self.action = rollouts.steps("action")
        lengths = rollouts.episodes["length"]
        self.return_to_go = returns_to_go(rollouts.steps("reward"), lengths, gamma).astype(np.float32)
        self.known = rollouts.episodes["end"] != "cut"

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, last: np.ndarray) -> DTBatch:
        """The windows that end with the steps `last` [B], numbered as in `Rollouts.steps`."""
        last = np.asarray(last)
        time = self.windows.table[last, 1][:, None] + np.arange(self.length)
        inside = time >= 0
        row = np.where(inside, last[:, None] + np.arange(1 - self.length, 1), 0)
        if self.features is None:
            state = self.windows.frames(last).swapaxes(0, 1)
        else:
            state = np.where(inside[..., None], self.features[row], 0)
        padding = self.rollouts.manifest["num_actions"]
        columns = (
            np.ascontiguousarray(state),
            np.where(inside, self.action[row], padding).astype(np.int64),
            np.where(inside, self.return_to_go[row], np.float32(0)),
            np.where(inside, time, 0),
            inside,
        )
        return DTBatch(*map(torch.from_numpy, columns))


@dataclass(frozen=True)
class SamplingConfig:
    """Which windows training sees."""

    pct_traj: float = 1.0
    """Share of the training steps that the best episodes by return, which are kept, hold."""
    length_weighted: bool = True
    """Whether every step is equally likely to end a window, so that long episodes count more; else every
    episode.
    """
    prob_go_from_end: float = 0.0
    """Probability that a window ends with the last step of its episode."""

    def __post_init__(self):
        if not 0 < self.pct_traj <= 1:
            raise ValueError(f"pct_traj is {self.pct_traj}; it must lie in (0, 1]")
        if not 0 <= self.prob_go_from_end <= 1:
            raise ValueError(f"prob_go_from_end is {self.prob_go_from_end}; it must lie in [0, 1]")


class WindowSampler:
    """Draws windows, keyed by seed and number of the batch.

    Args:
        windows: all windows of a store.
        held_out: [E] bool, episodes for validation.
        config: which windows training sees.
        seed: key of all draws.

    Raises:
        UsageError: no episode is left to train on.
    """

    def __init__(self, windows: DTWindows, held_out: np.ndarray, config: SamplingConfig, seed: int):
        self.config = config
        self.seed = seed
        episodes = windows.rollouts.episodes
        self._first = windows.rollouts.first_step
        self._length = episodes["length"]
        training = np.flatnonzero(windows.known & ~held_out)
        if not len(training):
            raise UsageError(
                "no episode with a known return is left to train on: record more levels or raise"
                " --train_split"
            )
        returns = episodes["return"][training]
        self.training = training[best_episodes(returns, self._length[training], config.pct_traj)]
        self.validation = np.flatnonzero(windows.known & held_out)
        self._cumulative = {
            "training": np.cumsum(self._length[self.training]),
            "validation": np.cumsum(self._length[self.validation]),
        }

    def draw(self, batch: int, size: int) -> np.ndarray:
        """Last steps [B] of the windows of a training batch."""
        rng = np.random.default_rng([self.seed, batch])
        if self.config.length_weighted:
            episode, time = self._uniform_steps(rng, "training", size)
        else:
            episode = rng.choice(self.training, size)
            time = rng.integers(0, self._length[episode])
        from_end = rng.random(size) < self.config.prob_go_from_end
        return self._first[episode] + np.where(from_end, self._length[episode] - 1, time)

    def draw_validation(self, i: int, size: int) -> np.ndarray:
        """Last steps [B] of the i-th validation batch, the same throughout a run."""
        rng = np.random.default_rng([self.seed, VALIDATION_STREAM + i])
        episode, time = self._uniform_steps(rng, "validation", size)
        return self._first[episode] + time

    def _uniform_steps(self, rng, part: str, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Episodes and times of uniformly drawn steps, with replacement."""
        cumulative = self._cumulative[part]
        step = rng.integers(0, cumulative[-1], size)
        which = np.searchsorted(cumulative, step, side="right")
        episode = getattr(self, part)[which]
        return episode, step - cumulative[which] + self._length[episode]
