"""Training windows from a rollout store: which levels are held out, keyed draws, and a thread that reads ahead."""

import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np
import torch

from common.noise import uniform_noise
from common.runs import UsageError
from rollouts.segment import Segment

VALIDATION_STREAM = 2**31
"""Takes the place of the batch number in the key of validation draws."""


def held_out(levels: np.ndarray, share: float) -> np.ndarray:
    """Which of `levels` [n] are for validation: a hash of the level seed, so every run and store agrees. [n] bool.

    A share above 0 holds out at least one level, and always leaves one to train on.
    """
    unique = np.unique(levels)
    score = uniform_noise(0, unique, 0, 0, 1)[:, 0]
    count = int(np.sum(score < share))
    if share > 0:
        count = min(max(count, 1), len(unique) - 1)
    return np.isin(levels, unique[np.argsort(score)[:count]])


class WindowSource:
    """Batches of windows of a store, training and held-out levels apart.

    windows: what `Rollouts.windows` gives. levels: level seed of every episode of the store. Raises UsageError when no window is left.
    """

    def __init__(self, windows, levels: np.ndarray, share: float, seed: int):
        if not len(windows):
            raise UsageError("no episode of this store is long enough for one window; record longer ones or lower --num_initializing_steps")
        out = held_out(levels, share)[windows.table[:, 0]]
        self.windows, self.seed = windows, seed
        self.training, self.validation = np.flatnonzero(~out), np.flatnonzero(out)

    def train_batch(self, step: int, size: int) -> Segment:
        """The batch of training step `step`: it depends on the seed and the step alone."""
        return self._draw(self.training, step, size)

    def validation_batch(self, i: int, size: int) -> Segment:
        """The i-th validation batch, the same throughout a run."""
        return self._draw(self.validation, VALIDATION_STREAM + i, size)

    def _draw(self, among: np.ndarray, key: int, size: int) -> Segment:
        return self.windows.batch(np.random.default_rng([self.seed, key]).choice(among, size))


def read_ahead(make: Callable[[int], Segment], first: int, last: int, depth: int = 2) -> Iterator[Segment]:
    """make(first), ..., make(last - 1) in order, made by one background thread up to `depth` ahead. Errors of `make` are raised here."""
    made, stopped = queue.Queue(depth), threading.Event()

    def offer(item) -> None:
        while not stopped.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        for step in range(first, last):
            if stopped.is_set():
                return
            try:
                offer(make(step))
            except Exception as error:
                offer(error)
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(first, last):
            item = made.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def seeded_generator(device: torch.device, *key: int) -> torch.Generator:
    """A torch generator keyed by integers."""
    words = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0]) & 0x7FFF_FFFF_FFFF_FFFF)
