"""Training windows of a rollout store: keyed draws."""

import copy

import numpy as np
import torch

from common.runs import UsageError
from rollouts.growth import RECORD_MORE
from rollouts.segment import Segment
from rollouts.split import split_by_layout
from rollouts.windows import Windows

VALIDATION_STREAM = 2**31
"""Takes the place of the batch number in the key of validation draws."""


def ends_in_death(windows: Windows) -> np.ndarray:
    """Mask [n] of the windows that contain a termination without a reward, which is usually a death."""
    rollouts, (episode, start) = windows.rollouts, windows.table.T
    table = rollouts.episodes
    last_step = table["offset"] + table["length"] - 1
    died = table["end"] == "terminated"
    for shard in np.unique(table["shard"]):
        in_shard = np.flatnonzero(died & (table["shard"] == shard))
        died[in_shard] = rollouts.shard(shard).rows("reward", last_step[in_shard]) <= 0
    return died[episode] & (start + windows.length >= table["length"][episode])


class WindowSource:
    """Batches of windows of a store; training and validation layouts differ, and test layouts are not used.

    Args:
        windows: the store's windows, from `Rollouts.windows`.
        layouts: layout of each episode of the store [E], from `rollouts.split.episode_layouts`.
        seed: key of all draws.
        death_oversampling: fraction of training windows drawn among those with a death, which are rare.
            extra["weight"] [B] then holds importance weights that undo it.

    Raises:
        UsageError: no window is left to train on.
    """

    def __init__(self, windows: Windows, layouts: np.ndarray, seed: int, death_oversampling: float = 0.0):
        if not len(windows):
            raise UsageError(
                "no episode of this store is long enough for one window; record longer ones or lower "
                "--num_initializing_steps"
            )
        part = split_by_layout(layouts)[windows.table[:, 0]]
        self.windows = windows
        self.seed = seed
        self.training, self.validation = (np.flatnonzero(part == name) for name in ("train", "validation"))
        if not len(self.training):
            raise UsageError(f"every layout of this store is held out for validation or test: {RECORD_MORE}")
        has_death = ends_in_death(windows) if death_oversampling else np.zeros(len(windows), bool)
        self.deaths = self.training[has_death[self.training]]
        self.death_fraction = death_oversampling if len(self.deaths) else 0.0
        oversampling = self.death_fraction * len(self.training) / max(len(self.deaths), 1)
        self.weight = 1 / (1 - self.death_fraction + has_death * oversampling)

    def shortened(self, length: int) -> "WindowSource":
        """The same draws of windows of which only the first `length` steps are read."""
        short = copy.copy(self)
        short.windows = Windows(self.windows.rollouts, length, self.windows.table, self.windows.labels)
        return short

    def train_batch(self, step: int, size: int, mine: slice = slice(None)) -> Segment:
        """The batch of training step `step`, or this process's windows of it; it depends on seed and step
        alone.
        """
        drawn, weight = self.draw(step, size, mine)
        segment = self.windows.batch(drawn)
        if self.death_fraction:
            segment.extra["weight"] = weight
        return segment

    def draw(self, step: int, size: int, mine: slice = slice(None)) -> tuple[np.ndarray, torch.Tensor]:
        """The windows of training step `step` and their importance weights, [B] each."""
        rng = self._rng(step)
        drawn = rng.choice(self.training, size)
        if self.death_fraction:
            drawn = np.where(rng.random(size) < self.death_fraction, rng.choice(self.deaths, size), drawn)
        drawn = drawn[mine]
        return drawn, torch.from_numpy(self.weight[drawn].astype(np.float32))

    def validation_batch(self, i: int, size: int, mine: slice = slice(None)) -> Segment:
        """The i-th validation batch, the same throughout a run, or this process's windows of it."""
        return self.windows.batch(self.draw_validation(i, size, mine))

    def draw_validation(self, i: int, size: int, mine: slice = slice(None)) -> np.ndarray:
        """The windows of the i-th validation batch."""
        return self._rng(VALIDATION_STREAM + i).choice(self.validation, size)[mine]

    def _rng(self, key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, key])


def seeded_generator(device: torch.device, *key: int) -> torch.Generator:
    """A torch generator keyed by integers."""
    words = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0]) & 0x7FFF_FFFF_FFFF_FFFF)
