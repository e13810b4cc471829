"""Training windows from a rollout store: which places are held out, keyed draws, and a thread that reads
ahead.
"""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np
import torch

from common.progress import progress_bar
from common.runs import UsageError
from envs.coinrun import first_states, layout_hash
from envs.procgen import ProcgenVecEnv, described_game
from rollouts.growth import RECORD_MORE
from rollouts.segment import Segment
from rollouts.store import Rollouts
from rollouts.windows import Windows

VALIDATION_STREAM = 2**31
"""Takes the place of the batch number in the key of validation draws."""
HELD_OUT = {"validation": 0.05, "test": 0.05}
"""Share of the layouts in each part that no model is trained on."""
_SLOTS = 64


def episode_layouts(rollouts: Rollouts) -> np.ndarray:
    """What tells the places of a store's episodes apart: [E] str. CoinRun's layout hash; elsewhere the level
    seed.

    Levels of different seeds repeat each other (a third of the easy ones come in about 110 layouts), so only
    a split by layout keeps held-out places unseen. Opens every level once: a millisecond each.
    """
    levels, index = np.unique(rollouts.episodes["level_seed"], return_inverse=True)
    game = rollouts.manifest.get("env", {})
    if game.get("env_name") != "coinrun":
        return levels.astype(str)[index]
    env = ProcgenVecEnv(min(_SLOTS, len(levels)), described_game(game, "the store"))
    states = progress_bar(first_states(env, levels.tolist()), total=len(levels), unit="level", desc="layouts")
    hashes = np.array([layout_hash(state) for state in states])
    env.close()
    return hashes[index]


def split_by_layout(layouts: np.ndarray) -> np.ndarray:
    """The part that each of `layouts` [n] belongs to: [n] of 'train', 'validation' and 'test', 90 : 5 : 5.

    A hash of the layout's name decides, so that every run, store and report agrees on it.
    """
    unique, index = np.unique(np.asarray(layouts).astype(str), return_inverse=True)
    score = np.array([int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32 for name in unique])
    edges = np.cumsum(list(HELD_OUT.values()))
    return np.array([*HELD_OUT, "train"])[np.searchsorted(edges, score, side="right")][index]


def ends_in_death(windows: Windows) -> np.ndarray:
    """Which windows [n] hold the end of an episode that terminates without a reward, as most do in which the
    player dies.
    """
    rollouts, (episode, start) = windows.rollouts, windows.table.T
    table = rollouts.episodes
    last = table["offset"] + table["length"] - 1
    died = table["end"] == "terminated"
    for shard in np.unique(table["shard"]):
        here = np.flatnonzero(died & (table["shard"] == shard))
        died[here] = rollouts.shard(shard).rows("reward", last[here]) <= 0
    return died[episode] & (start + windows.length >= table["length"][episode])


class WindowSource:
    """Batches of windows of a store; training and validation windows lie in different layouts, test windows
    are never drawn.

    windows: what `Rollouts.windows` gives. layouts [E]: of the store's episodes (`episode_layouts`).
    death_oversampling: the share of training windows that are drawn among those that are `fatal`, which are
    rare, and what they teach rarer; extra["weight"] [B] then says how much less often each window would have
    been drawn without. Raises UsageError when no window is left to train on.
    """

    def __init__(self, windows: Windows, layouts: np.ndarray, seed: int, death_oversampling: float = 0.0):
        if not len(windows):
            raise UsageError(
                "no episode of this store is long enough for one window; record longer ones or lower --num_initializing_steps"
            )
        part = split_by_layout(layouts)[windows.table[:, 0]]
        self.windows = windows
        self.seed = seed
        self.training, self.validation = (np.flatnonzero(part == name) for name in ("train", "validation"))
        if not len(self.training):
            raise UsageError(f"every layout of this store is held out for validation or test: {RECORD_MORE}")
        deadly = ends_in_death(windows) if death_oversampling else np.zeros(len(windows), bool)
        self.fatal = self.training[deadly[self.training]]
        self.share = death_oversampling if len(self.fatal) else 0.0
        self.weight = 1 / (
            1 - self.share + deadly * self.share * len(self.training) / max(len(self.fatal), 1)
        )

    def train_batch(self, step: int, size: int, mine: slice = slice(None)) -> Segment:
        """The batch of training step `step`, or the windows of it that are `mine`: it depends on the seed and
        the step alone.
        """
        rng = self._rng(step)
        drawn = rng.choice(self.training, size)
        if not self.share:
            return self.windows.batch(drawn[mine])
        drawn = np.where(rng.random(size) < self.share, rng.choice(self.fatal, size), drawn)[mine]
        segment = self.windows.batch(drawn)
        segment.extra["weight"] = torch.from_numpy(self.weight[drawn].astype(np.float32))
        return segment

    def validation_batch(self, i: int, size: int, mine: slice = slice(None)) -> Segment:
        """The i-th validation batch, the same throughout a run, or the windows of it that are `mine`."""
        return self.windows.batch(self._rng(VALIDATION_STREAM + i).choice(self.validation, size)[mine])

    def _rng(self, key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, key])


def prefetch(make: Callable[[int], Segment], first: int, last: int, depth: int = 2) -> Iterator[Segment]:
    """make(first), ..., make(last - 1) in order, made by one background thread up to `depth` ahead. Errors of
    `make` are raised here.
    """
    made = queue.Queue(depth)
    stopped = threading.Event()

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
