"""The windows that the report card scores: drawn uniformly over episode time from held-out layouts and from training layouts."""

from collections.abc import Sequence

import numpy as np

from analysis.scenes import Scenes, replay_scenes
from common.runs import UsageError
from generative.data import layouts_of, split
from rollouts.growth import RECORD_MORE
from rollouts.segment import Segment
from rollouts.store import Rollouts
from rollouts.windows import Windows

PARTS = ("test", "validation", "train")


class Part:
    """Windows of one part of the layouts. table [n, 2]: episode and start; clusters [n]: a number for each window's layout."""

    def __init__(self, name: str, rollouts: Rollouts, length: int, table: np.ndarray, layouts: np.ndarray):
        self.name, self.rollouts, self.table = name, rollouts, table
        self._of_part = split(layouts) == name
        self.windows = Windows(rollouts, length, table)
        self.clusters = np.unique(layouts[table[:, 0]], return_inverse=True)[1]

    def batches(self, size: int) -> list[np.ndarray]:
        """The windows' numbers in batches of `size`; the last may be larger by one, so that no window is alone."""
        numbers, count = np.arange(len(self.table)), len(self.table)
        edges = [at for at in range(size, count, size) if count - at > 1]
        return np.split(numbers, edges)

    def read(self, windows: np.ndarray, env) -> tuple[Segment, Scenes, np.ndarray]:
        """Segment [L, b], the scenes of its frames (after an end, the last frame's again) and each window's partner of another layout."""
        segment = self.windows.batch(windows)
        steps = np.arange(self.windows.length)[:, None] + self.table[windows, 1]
        return segment, self._scenes(windows, steps, env), partners(self.clusters[windows])

    def sample(self, times: Sequence[int], batch_size: int, env) -> tuple[np.ndarray, np.ndarray, Scenes]:
        """The frames [F, H, W, C] that exist at some steps of every window, their hidden states after [F, D], and their scenes."""
        times, frames, hidden, scenes = np.asarray(list(times)), [], [], []
        for windows in self.batches(batch_size):
            segment = self.windows.batch(windows)
            there = segment.mask.numpy()[times]
            frames.append(segment.obs.numpy()[times][there])
            hidden.append(segment.hidden_after().numpy()[times][there])
            steps = times[:, None] + self.table[windows, 1]
            scenes.append(np.stack([np.broadcast_to(self.table[windows, 0], there.shape)[there], steps[there]]))
        return np.concatenate(frames), np.concatenate(hidden), replay_scenes(self.rollouts, *np.concatenate(scenes, axis=1), env)

    def levels(self) -> np.ndarray:
        """The level seeds of all episodes of this part, those without a window included."""
        return self.rollouts.episodes["level_seed"][self._of_part]

    def describe(self) -> dict:
        """Where the windows come from, for the report."""
        seeds = self.rollouts.episodes["level_seed"][self.table[:, 0]]
        return {"part": self.name, "episodes": len(np.unique(self.table[:, 0])), "first_level": int(seeds.min()), "last_level": int(seeds.max())}

    def _scenes(self, windows: np.ndarray, steps: np.ndarray, env) -> Scenes:
        episodes = np.broadcast_to(self.table[windows, 0], steps.shape)
        last = self.rollouts.episodes["length"][episodes] - 1
        return replay_scenes(self.rollouts, episodes.ravel(), np.minimum(steps, last).ravel(), env)


def choose_parts(
    rollouts: Rollouts, names: Sequence[str], length: int, min_steps: int, counts: Sequence[int], seed: int, start_level: int = 0, num_levels: int = 0
) -> list[Part]:
    """Windows of the named parts of `generative.data.split`: counts[i] of the i-th, or as many as there are.

    start_level, num_levels: the levels that windows are from; 0 takes all from start_level on. Raises UsageError for an unknown name or a part of which the store has no two layouts.
    """
    for name in names:
        if name not in PARTS:
            raise UsageError(f"unknown part {name!r}; choose one of: {', '.join(PARTS)}")
    layouts = layouts_of(rollouts)
    belongs, every = split(layouts), rollouts.windows(length, anchor="start", pad="right", min_steps=min_steps).table
    level = rollouts.episodes["level_seed"][every[:, 0]]
    every = every[(level >= start_level) & (level < (start_level + num_levels if num_levels else np.inf))]
    chosen = []
    for name, count in zip(names, counts):
        table = every[belongs[every[:, 0]] == name]
        if len(np.unique(layouts[table[:, 0]])) < 2:
            raise UsageError(f"{rollouts.path} has fewer than two layouts for {name} among the levels asked for: {RECORD_MORE}")
        drawn = np.random.default_rng(seed).permutation(len(table))[:count]
        chosen.append(Part(name, rollouts, length, table[drawn], layouts))
    return chosen


def partners(clusters: np.ndarray) -> np.ndarray:
    """For each of clusters [b] the next entry, around the end, that differs; the next of all where none does."""
    count = len(clusters)
    ahead = (np.arange(count)[:, None] + np.arange(1, count)) % count
    return ahead[np.arange(count), (clusters[ahead] != clusters[:, None]).argmax(1)]
