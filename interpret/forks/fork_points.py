"""Fork points: recorded steps from which the real game can be forked and the simulator started.

A fork point is a step of a recorded episode at which the agent is about to see a frame. Its level, repeat and
step key the action noise, so that a fork can draw exactly the noise of the recording.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from common.policy import Policy
from common.runs import UsageError
from common.words import counted
from envs.edits import Hazard, delete, next_hazard
from envs.procgen import Snapshot
from envs.procgen_body import parse
from generative.noise_keys import NoiseKeys
from rollouts.growth import RECORD_MORE
from rollouts.segment import Segment
from rollouts.split import episode_layouts, split_by_layout
from rollouts.states import SLOTS, replay_env, replay_states
from rollouts.store import Rollouts
from rollouts.windows import Windows

T = TypeVar("T")
PARTS = {"test": ("test",), "train": ("train",), "all": ("test", "validation", "train")}
"""Parts of a store's layouts, by the names that scripts take."""
STEPS_PER_LAYOUT = 6
"""Steps per layout that are searched for a hazard ahead."""
SEARCH_BATCH = (96, 1024)
"""Least and most steps that are replayed at a time while searching, twice as many each time. Episodes of
about the same length are replayed together, so that large batches take less time.
"""
REPEAT_STRIDE = 1_000_003
"""Offset between the noise repeats of forks of one point; no recording repeats a level as often."""


@dataclass(frozen=True)
class ForkPoints:
    """B fork points. Columns that do not apply (when there is no store) are zeros."""

    snapshots: list
    """Environment states [B], in which frames[-1] is displayed."""
    frames: np.ndarray
    """[K, B, H, W, C] uint8: the last K frames, the current one last."""
    hidden: torch.Tensor
    """[B, D]: the agent's state before it sees the current frame."""
    level: np.ndarray
    """[B], level seeds."""
    repeat: np.ndarray
    """[B]: the episode's repeat of its level; with level and step it keys the action noise."""
    step: np.ndarray
    """[B], within the episode."""
    episode: np.ndarray
    """[B], index into the store."""
    layout: np.ndarray
    """[B] str: intervals are bootstrapped by layout."""

    def __repr__(self) -> str:
        return f"ForkPoints({len(self)} from {len(set(self.layout))} layouts, {len(self.frames)} frames each)"

    def __len__(self) -> int:
        return len(self.snapshots)

    def take(self, index) -> "ForkPoints":
        """The fork points numbered `index` [n], in that order; indices may repeat."""
        index = np.asarray(index, np.int64)
        columns = {
            name: getattr(self, name)[index]
            for name in ("hidden", "level", "repeat", "step", "episode", "layout")
        }
        return ForkPoints([self.snapshots[i] for i in index], self.frames[:, index], **columns)

    def keys(self, seed: int, draw: np.ndarray | int = 0) -> NoiseKeys:
        """Noise keys of forks of these points.

        draw: [B] or one number. With the recording's seed, draw 0 repeats the recording's own noise.
        """
        return NoiseKeys(seed, self.level, self.repeat + REPEAT_STRIDE * np.asarray(draw), self.step)


class ForkPointSampler:
    """Samples fork points from parts of a store, in random order of layouts.

    Args:
        rollouts: a store of real rollouts.
        frames: K, the number of frames that a fork point holds; the first K - 1 steps of an episode are
            excluded.
        parts: of `rollouts.split.split_by_layout`.
        seed: of the sampling.
        per_layout: the most fork points of one layout.
        excluded: layouts that are left out, such as those that the agent was trained on.

    Raises:
        UsageError: if no episode in these parts is long enough.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        frames: int,
        parts: Sequence[str] = PARTS["test"],
        seed: int = 0,
        per_layout: int = 1,
        excluded: Sequence[str] = (),
    ):
        self.rollouts = rollouts
        self.frames = frames
        self.seed = seed
        self.per_layout = per_layout
        self.layouts = episode_layouts(rollouts)
        self.episodes = np.flatnonzero(
            np.isin(split_by_layout(self.layouts), parts)
            & ~np.isin(self.layouts, list(excluded))
            & (rollouts.episodes["length"] >= frames)
        )
        if not len(self.episodes):
            where = f"the part {' or '.join(parts)} of {rollouts.path}"
            raise UsageError(f"no episode of {frames} frames in {where}: take another part, or {RECORD_MORE}")

    def __len__(self) -> int:
        """Number of fork points that can be sampled."""
        return len(self._candidate_steps(self.per_layout, 0))

    def sample(self, count: int) -> ForkPoints:
        """Up to `count` fork points: random steps of the episodes, all steps equally likely."""
        return fork_points_at(
            self.rollouts, *self._candidate_steps(self.per_layout, 0)[:count].T, self.frames, self.layouts
        )

    def sample_hazards(self, count: int, policy: Policy) -> tuple[ForkPoints, ForkPoints, list[Hazard]]:
        """Up to `count` CoinRun fork points with a hazard 2 to 6 tiles ahead, with the hazard and without it.

        Returns:
            The recorded fork points; the same points with the hazard deleted from the states of all K frames,
            which are redrawn and shown to `policy` in place of the recorded ones; and the hazards.

        Raises:
            UsageError: if no such step is found.
        """
        pairs, ahead = self.search(lambda snapshot: next_hazard(parse(snapshot.data)), count, "hazard ahead")
        intact = fork_points_at(self.rollouts, *pairs.T, self.frames, self.layouts)
        return intact, without_hazards(self.rollouts, policy, intact, ahead), ahead

    def search(
        self, find: Callable[[Snapshot], T | None], count: int, what: str, stream: int = 1
    ) -> tuple[np.ndarray, list[T]]:
        """Up to `count` random steps at whose state `find` finds something, at most `per_layout` of a layout.

        Args:
            find: what it finds in the state of a step, or None.
            count: the most steps.
            what: is looked for, for the error message.
            stream: of random numbers; another one takes other steps.

        Returns:
            Episode and step [n, 2], and what was found at each [n].

        Raises:
            UsageError: if nothing is found at STEPS_PER_LAYOUT steps of every layout.
        """
        candidates = self._candidate_steps(STEPS_PER_LAYOUT * self.per_layout, stream)
        found = []
        taken = Counter()
        at, size = 0, int(np.clip(count, *SEARCH_BATCH))
        env = replay_env(self.rollouts, min(SLOTS, max(len(candidates), 1)))
        while at < len(candidates) and len(found) < count:
            batch = candidates[at : at + size]
            batch = batch[[taken[self.layouts[episode]] < self.per_layout for episode in batch[:, 0]]]
            for pair, snapshot in zip(batch, replay_states(self.rollouts, *batch.T, env)):
                layout = self.layouts[pair[0]]
                thing = find(snapshot) if taken[layout] < self.per_layout else None
                if thing is not None:
                    found.append((pair, thing))
                    taken[layout] += 1
            at, size = at + size, min(2 * size, SEARCH_BATCH[1])
        env.close()
        if not found:
            raise UsageError(
                f"no {what} at any of {counted(len(candidates), 'step')} of {self.rollouts.path}: "
                f"{RECORD_MORE}"
            )
        return np.array([pair for pair, _ in found[:count]]), [thing for _, thing in found[:count]]

    def _candidate_steps(self, per_layout: int, stream: int) -> np.ndarray:
        """Candidate (episode, step) pairs [n, 2]: up to `per_layout` random steps of every layout, the first
        step of each layout before the second, layouts in random order.
        """
        rng = np.random.default_rng([self.seed, stream])
        table = self.rollouts.step_table()
        pairs = rng.permutation(table[np.isin(table[:, 0], self.episodes) & (table[:, 1] >= self.frames - 1)])
        _, place = np.unique(self.layouts[pairs[:, 0]], return_inverse=True)
        order = np.argsort(place, kind="stable")
        size = np.bincount(place)
        rank = np.empty(len(pairs), np.int64)
        rank[order] = np.arange(len(pairs)) - np.repeat(np.cumsum(size) - size, size)
        by_turns = np.lexsort((rng.permutation(len(size))[place], rank))
        return pairs[by_turns[rank[by_turns] < per_layout]]


def recording_seed(rollouts: Rollouts) -> int:
    """The seed of a recording's action noise."""
    return int(rollouts.manifest.get("plan", {}).get("seed", 0))


def without_hazards(
    rollouts: Rollouts, policy: Policy, points: ForkPoints, ahead: Sequence[Hazard]
) -> ForkPoints:
    """The fork points with one hazard each deleted from the states of all their frames.

    Frames are redrawn from the edited states, and the agent's hidden state is recomputed from them.

    Args:
        rollouts: the store the points are from.
        policy: the agent that sees the edited frames.
        points: B fork points.
        ahead: [B], the hazard to delete from each.
    """
    count = len(points)
    depth = len(points.frames)
    steps = points.step[:, None] + np.arange(1 - depth, 1)  # [B, K]
    states = replay_states(rollouts, np.repeat(points.episode, depth), steps.ravel())
    edited = [delete(parse(snapshot.data), ahead[i // depth]) for i, snapshot in enumerate(states)]
    env = replay_env(rollouts, count * depth)
    env.restore(edited)
    frames = env.observe()[1].reshape(count, depth, *points.frames.shape[2:]).swapaxes(0, 1).copy()
    env.close()
    hidden = hidden_before(rollouts, points)
    return replace(
        points,
        snapshots=edited[depth - 1 :: depth],
        frames=frames,
        hidden=state_after_frames(policy, hidden, frames[:-1]),
    )


def state_after_frames(policy: Policy, hidden: torch.Tensor, frames: np.ndarray) -> torch.Tensor:
    """The agent's state [B, D] after it sees frames [K, B, H, W, C] one after the other, starting from
    `hidden` [B, D].
    """
    state = hidden.to(policy.initial_state(1).device)
    not_first = torch.zeros(len(state), dtype=torch.bool, device=state.device)
    with torch.inference_mode():
        for frame in torch.from_numpy(frames).to(state.device):
            state = policy.advance(frame, state, not_first, not_first.float())
    return state.cpu().clone()


def hidden_before(rollouts: Rollouts, points: ForkPoints) -> torch.Tensor:
    """The recorded hidden states [B, D] before the first of the points' frames."""
    return _window(rollouts, points.episode, points.step, len(points.frames)).hidden[0]


def fork_points_at(rollouts: Rollouts, episodes, steps, frames: int, layouts: np.ndarray) -> ForkPoints:
    """The fork points at given steps.

    Args:
        rollouts: a store of real rollouts.
        episodes: [B] indices into the store.
        steps: [B] steps of these episodes, each `frames` - 1 or more.
        frames: K, frames kept for a simulator to start from.
        layouts: [E], the layout of each episode of the store.
    """
    episodes, steps = np.asarray(episodes), np.asarray(steps)
    window = _window(rollouts, episodes, steps, frames)
    table = rollouts.episodes
    return ForkPoints(
        replay_states(rollouts, episodes, steps),
        window.obs.numpy(),
        window.hidden[frames - 1],
        table["level_seed"][episodes],
        table["repeat"][episodes],
        steps,
        episodes,
        layouts[episodes],
    )


def _window(rollouts: Rollouts, episodes: np.ndarray, steps: np.ndarray, frames: int) -> Segment:
    """The recorded window that ends at each fork point: `frames` frames and the hidden states before each."""
    table = np.stack([episodes, steps - frames + 1], 1)
    return Windows(rollouts, frames, table).batch(np.arange(len(table)))
