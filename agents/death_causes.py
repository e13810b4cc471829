"""Causes of death in CoinRun: each death is replayed from its last state with hazards deleted."""

from collections.abc import Sequence

import numpy as np

from envs.coinrun import causes_of_death
from envs.procgen import Snapshot
from rollouts.play import EpisodeSpec, StepBatch


class ActionLog:
    """Collects the actions of every episode; pass its `watch` to `evaluate`."""

    def __init__(self, num_jobs: int):
        self.actions: list[list[int]] = [[] for _ in range(num_jobs)]

    def watch(self, played: StepBatch) -> None:
        for job, action in zip(played.job.tolist(), played.action.tolist()):
            self.actions[job].append(action)


def causes(env, jobs: Sequence[EpisodeSpec], actions: Sequence[Sequence[int]], died: np.ndarray) -> list[str]:
    """Cause of each death (see envs.coinrun.causes_of_death).

    Args:
        env: CoinRun environment for replays; it loses its episodes. Deaths are replayed in the order of their
            lengths, so that slots finish together.
        jobs: the episodes that were played.
        actions: of every episode.
        died: indices [n] of the episodes that ended in death.

    Returns:
        n causes.
    """
    found = {}
    by_length = sorted(died.tolist(), key=lambda job: len(actions[job]))
    for at in range(0, len(by_length), env.num):
        chunk = by_length[at : at + env.num]
        taken = [actions[job] for job in chunk]
        before = last_states(env, [jobs[job].level for job in chunk], taken)
        found |= zip(chunk, causes_of_death(env, before, [sequence[-1] for sequence in taken]))
    return [found[job] for job in died.tolist()]


def last_states(env, levels: Sequence[int], actions: Sequence[Sequence[int]]) -> list[Snapshot]:
    """The state before each level's last action, reached by replaying all others."""
    env.open_levels(range(len(levels)), levels)
    before: list[Snapshot | None] = [None] * len(levels)
    for t in range(max(map(len, actions))):
        ending = [slot for slot, sequence in enumerate(actions) if len(sequence) == t + 1]
        for slot, snapshot in zip(ending, env.snapshot(ending)):
            before[slot] = snapshot
        going = [slot for slot, sequence in enumerate(actions) if len(sequence) > t + 1]
        action = np.full(env.num, env.noop)
        action[going] = [actions[slot][t] for slot in going]
        env.act(action)
    return before
