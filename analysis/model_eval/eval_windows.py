"""The windows that a world model is scored on: drawn uniformly over episode time, from held-out and from
training layouts.
"""

from collections.abc import Sequence

import numpy as np

from analysis.model_eval.frame_objects import Scenes, replay_scenes
from common.runs import UsageError
from rollouts.growth import RECORD_MORE
from rollouts.labels import Labels
from rollouts.segment import Segment
from rollouts.split import SPLIT_VERSION, episode_layouts, split_by_layout
from rollouts.store import Rollouts
from rollouts.windows import Windows

SPLITS = ("test", "validation", "train")


class EvalWindows:
    """Recorded windows of one split of the layouts."""

    def __init__(self, name: str, rollouts: Rollouts, length: int, table: np.ndarray, layouts: np.ndarray):
        """
        Args:
            name: of the split.
            rollouts: the store.
            length: L, frames of a window.
            table: [n, 2], episode and first step of each window.
            layouts: [E], the layout of each episode.
        """
        self.name = name
        self.rollouts = rollouts
        self.table = table
        self.windows = Windows(rollouts, length, table)
        self.layout = np.unique(layouts[table[:, 0]], return_inverse=True)[1]
        """[n]: number of each window's layout."""
        self._in_split = split_by_layout(layouts) == name

    def add_labels(self, labels: Labels) -> None:
        """From now on, windows that are read have the store's labels in `extra`."""
        self.windows = Windows(self.rollouts, self.windows.length, self.table, labels)

    def batches(self, size: int) -> list[np.ndarray]:
        """Window numbers in batches of `size`; the last has one more if otherwise a window were alone."""
        numbers = np.arange(len(self.table))
        count = len(self.table)
        edges = [edge for edge in range(size, count, size) if count - edge > 1]
        return np.split(numbers, edges)

    def read(self, windows: np.ndarray, env) -> tuple[Segment, Scenes, np.ndarray]:
        """Segment [L, b], the scenes of its frames, and a partner of another layout for each window.

        After the end of an episode the scene is that of its last frame.
        """
        segment = self.windows.batch(windows)
        steps = np.arange(self.windows.length)[:, None] + self.table[windows, 1]
        return segment, self._scenes(windows, steps, env), partners_of_other_layouts(self.layout[windows])

    def sample(self, times: Sequence[int], batch_size: int, env) -> tuple[np.ndarray, np.ndarray, Scenes]:
        """The frames that exist at some steps of every window.

        Args:
            times: steps within a window.
            batch_size: windows read at a time.
            env: CoinRun, to replay their states in.

        Returns:
            Frames [F, H, W, C], hidden states after them [F, D], and their scenes.
        """
        times = np.asarray(list(times))
        frames, hidden, places = [], [], []
        for windows in self.batches(batch_size):
            segment = self.windows.batch(windows)
            exists = segment.mask.numpy()[times]
            frames.append(segment.obs.numpy()[times][exists])
            hidden.append(segment.hidden_after().numpy()[times][exists])
            episodes = np.broadcast_to(self.table[windows, 0], exists.shape)
            steps = times[:, None] + self.table[windows, 1]
            places.append(np.stack([episodes[exists], steps[exists]]))
        scenes = replay_scenes(self.rollouts, *np.concatenate(places, axis=1), env)
        return np.concatenate(frames), np.concatenate(hidden), scenes

    def levels(self) -> np.ndarray:
        """Level seeds of all episodes in the split, those without a window included."""
        return self.rollouts.episodes["level_seed"][self._in_split]

    def describe(self) -> dict:
        """Where the windows come from, as JSON."""
        seeds = self.rollouts.episodes["level_seed"][self.table[:, 0]]
        return {
            "part": self.name,
            "split": SPLIT_VERSION,
            "episodes": len(np.unique(self.table[:, 0])),
            "first_level": int(seeds.min()),
            "last_level": int(seeds.max()),
        }

    def _scenes(self, windows: np.ndarray, steps: np.ndarray, env) -> Scenes:
        episodes = np.broadcast_to(self.table[windows, 0], steps.shape)
        last = self.rollouts.episodes["length"][episodes] - 1
        return replay_scenes(self.rollouts, episodes.ravel(), np.minimum(steps, last).ravel(), env)


def draw_windows(
    rollouts: Rollouts,
    splits: Sequence[str],
    length: int,
    min_steps: int,
    counts: Sequence[int],
    seed: int,
    start_level: int = 0,
    num_levels: int = 0,
) -> list[EvalWindows]:
    """Random windows of some splits, uniform over episode time.

    Args:
        rollouts: the store.
        splits: names of `rollouts.split.split_by_layout`.
        length: frames of a window; shorter episodes are padded.
        min_steps: frames that a window has at least.
        counts: windows of each split, or as many as there are.
        seed: of the draw.
        start_level: first level that windows are from.
        num_levels: how many levels they are from; 0 for all from start_level on.

    Raises:
        UsageError: for an unknown split, or one with fewer than two layouts in the store.
    """
    for name in splits:
        if name not in SPLITS:
            raise UsageError(f"unknown part {name!r}; choose one of: {', '.join(SPLITS)}")
    layouts = episode_layouts(rollouts)
    split_of_episode = split_by_layout(layouts)
    windows = rollouts.windows(length, anchor="start", pad="right", min_steps=min_steps).table
    level = rollouts.episodes["level_seed"][windows[:, 0]]
    end_level = start_level + num_levels if num_levels else np.inf
    windows = windows[(level >= start_level) & (level < end_level)]
    drawn = []
    for name, count in zip(splits, counts):
        table = windows[split_of_episode[windows[:, 0]] == name]
        if len(np.unique(layouts[table[:, 0]])) < 2:
            found = f"{rollouts.path} has fewer than two layouts for {name} among the levels asked for"
            raise UsageError(f"{found}: {RECORD_MORE}")
        order = np.random.default_rng(seed).permutation(len(table))[:count]
        drawn.append(EvalWindows(name, rollouts, length, table[order], layouts))
    return drawn


def partners_of_other_layouts(layout: np.ndarray) -> np.ndarray:
    """For each window the next one, cyclically, of another layout; the next of all if layouts are the same.

    layout: [b], of each window.
    """
    count = len(layout)
    ahead = (np.arange(count)[:, None] + np.arange(1, count)) % count
    return ahead[np.arange(count), (layout[ahead] != layout[:, None]).argmax(1)]
