"""A bank of moments: saved points of recorded episodes from which the real game can be forked and a simulator started.

A moment is a frame on show that the agent is about to see. With its level, repeat and step as noise keys, a fork of it draws
the very noise of the recording.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from common.policy import Policy
from common.runs import UsageError
from common.words import counted
from envs.edits import Hazard, delete, next_hazard
from envs.procgen_body import parse
from generative.data import layouts_of, split
from generative.simulator import NoiseKeys
from rollouts.growth import RECORD_MORE
from rollouts.segment import Segment
from rollouts.states import replay_env, replay_states
from rollouts.store import Rollouts
from rollouts.windows import Windows

PARTS = {"test": ("test",), "train": ("train",), "all": ("test", "validation", "train")}
"""Parts of a store's layouts by the names that scripts give them."""
TRIES = 6
"""Steps per layout that are looked at for a hazard ahead."""
CHUNK = 96
"""Steps that are looked at before counting what was found."""
REPEAT_STRIDE = 1_000_003
"""Between the noise repeats of a moment's forks: no recording has so many repeats of a level."""


@dataclass(frozen=True)
class Moments:
    """B moments. The arrays have one row each; those that a bank without a store lacks are zeros."""

    snapshots: list
    """Environment states, in which frames[-1] is on show."""
    frames: np.ndarray
    """[K, B, H, W, C] uint8: the last K frames, the one on show last."""
    hidden: torch.Tensor
    """[B, D]: the agent's state before the frame on show."""
    level: np.ndarray
    """Level seeds [B]."""
    repeat: np.ndarray
    """The episode's repeat of its level [B]: with level and step it keys the action noise."""
    step: np.ndarray
    """[B], of its episode."""
    episode: np.ndarray
    """[B], index into the store."""
    layout: np.ndarray
    """[B] str: the place, by which intervals are drawn."""

    def __len__(self) -> int:
        return len(self.snapshots)

    def take(self, index) -> "Moments":
        """The moments numbered `index` [n], in that order, with repetition where it repeats."""
        index = np.asarray(index, np.int64)
        columns = {name: getattr(self, name)[index] for name in ("hidden", "level", "repeat", "step", "episode", "layout")}
        return Moments([self.snapshots[i] for i in index], self.frames[:, index], **columns)

    def keys(self, seed: int, draw: np.ndarray | int = 0) -> NoiseKeys:
        """Noise of the moments' forks. draw [B] or one number: 0 is the recording's own noise where `seed` is the recording's."""
        return NoiseKeys(seed, self.level, self.repeat + REPEAT_STRIDE * np.asarray(draw), self.step)


class Bank:
    """Draws moments from a part of a store, each layout giving up to `per_layout`, layouts in random order.

    frames: how many frames end in the one on show; earlier steps of an episode are no moments. parts: of `generative.data.split`.
    Raises UsageError when nothing of the store is long enough and in these parts.
    """

    def __init__(self, rollouts: Rollouts, frames: int, parts: Sequence[str] = PARTS["test"], seed: int = 0, per_layout: int = 1):
        self.rollouts, self.frames, self.seed, self.per_layout = rollouts, frames, seed, per_layout
        self.layouts = layouts_of(rollouts)
        self.episodes = np.flatnonzero(np.isin(split(self.layouts), parts) & (rollouts.episodes["length"] >= frames))
        if not len(self.episodes):
            where = f"the part {' or '.join(parts)} of {rollouts.path}"
            raise UsageError(f"no episode of {frames} frames in {where}: take another part, or {RECORD_MORE}")

    def __len__(self) -> int:
        """How many moments there are."""
        return len(self._draws(self.per_layout, 0))

    def moments(self, count: int) -> Moments:
        """Up to `count` moments: random steps of the layouts' episodes, all steps equally likely."""
        return moments_at(self.rollouts, *self._draws(self.per_layout, 0)[:count].T, self.frames, self.layouts)

    def hazards(self, count: int, policy: Policy) -> tuple[Moments, Moments, list[Hazard]]:
        """Up to `count` moments of CoinRun with a hazard 2 to 6 tiles ahead, the same moments without it, and the hazards.

        In the second bank the hazard is gone from all K states, so from all K frames, and `policy` has seen these in place of
        the recorded ones. Raises UsageError when no such moment is found.
        """
        draws, found, taken = self._draws(TRIES * self.per_layout, 1), [], Counter()
        for at in range(0, len(draws), CHUNK):
            some = draws[at : at + CHUNK]
            some = some[[taken[self.layouts[episode]] < self.per_layout for episode in some[:, 0]]]
            for pair, snapshot in zip(some, replay_states(self.rollouts, *some.T)):
                hazard, place = next_hazard(parse(snapshot.data)), self.layouts[pair[0]]
                if hazard is not None and taken[place] < self.per_layout:
                    found.append((pair, hazard))
                    taken[place] += 1
            if len(found) >= count:
                break
        if not found:
            raise UsageError(f"no hazard ahead at any of {counted(len(draws), 'step')} of {self.rollouts.path}: {RECORD_MORE}")
        pairs, ahead = np.array([pair for pair, _ in found[:count]]), [hazard for _, hazard in found[:count]]
        intact = moments_at(self.rollouts, *pairs.T, self.frames, self.layouts)
        return intact, without_hazards(self.rollouts, policy, intact, ahead), ahead

    def _draws(self, per_layout: int, stream: int) -> np.ndarray:
        """[n, 2] of (episode, step): up to `per_layout` random steps of every layout, first one of each, layouts in random order."""
        rng, table = np.random.default_rng([self.seed, stream]), self.rollouts.step_table()
        pairs = rng.permutation(table[np.isin(table[:, 0], self.episodes) & (table[:, 1] >= self.frames - 1)])
        _, place = np.unique(self.layouts[pairs[:, 0]], return_inverse=True)
        order, size = np.argsort(place, kind="stable"), np.bincount(place)
        rank = np.empty(len(pairs), np.int64)
        rank[order] = np.arange(len(pairs)) - np.repeat(np.cumsum(size) - size, size)
        by_turns = np.lexsort((rng.permutation(len(size))[place], rank))
        return pairs[by_turns[rank[by_turns] < per_layout]]


def recording_seed(rollouts: Rollouts) -> int:
    """The seed of a recording's action noise."""
    return int(rollouts.manifest.get("plan", {}).get("seed", 0))


def without_hazards(rollouts: Rollouts, policy: Policy, moments: Moments, ahead: Sequence[Hazard]) -> Moments:
    """The moments with one hazard each deleted from the states of all their frames, which are drawn and seen again."""
    count, depth = len(moments), len(moments.frames)
    steps = moments.step[:, None] + np.arange(1 - depth, 1)  # [B, K]
    states = replay_states(rollouts, np.repeat(moments.episode, depth), steps.ravel())
    edited = [delete(parse(snapshot.data), ahead[i // depth]) for i, snapshot in enumerate(states)]
    env = replay_env(rollouts, count * depth)
    env.restore(edited)
    frames = env.observe()[1].reshape(count, depth, *moments.frames.shape[2:]).swapaxes(0, 1).copy()
    env.close()
    hidden = _window(rollouts, moments.episode, moments.step, depth).hidden[0]
    return replace(moments, snapshots=edited[depth - 1 :: depth], frames=frames, hidden=see(policy, hidden, frames[:-1]))


def see(policy: Policy, hidden: torch.Tensor, frames: np.ndarray) -> torch.Tensor:
    """The agent's state after frames [K, B, H, W, C], shown one after the other from state `hidden` [B, D] on."""
    state = hidden.to(policy.initial_state(1).device)
    nothing = torch.zeros(len(state), dtype=torch.bool, device=state.device)
    with torch.inference_mode():
        for frame in torch.from_numpy(frames).to(state.device):
            state = policy.advance(frame, state, nothing, nothing.float())
    return state.cpu().clone()


def moments_at(rollouts: Rollouts, episodes, steps, frames: int, layouts: np.ndarray) -> Moments:
    """The moments at steps [B] of episodes [B]. layouts [E]: of the store's episodes."""
    episodes, steps = np.asarray(episodes), np.asarray(steps)
    window, where = _window(rollouts, episodes, steps, frames), rollouts.episodes
    return Moments(
        replay_states(rollouts, episodes, steps), window.obs.numpy(), window.hidden[frames - 1], where["level_seed"][episodes],
        where["repeat"][episodes], steps, episodes, layouts[episodes],
    )  # fmt: skip


def _window(rollouts: Rollouts, episodes: np.ndarray, steps: np.ndarray, frames: int) -> Segment:
    """The stored steps that end at each moment: its `frames` frames, and hidden states from before the first of them on."""
    table = np.stack([episodes, steps - frames + 1], 1)
    return Windows(rollouts, frames, table).batch(np.arange(len(table)))
