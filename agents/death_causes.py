"""What killed the player in CoinRun: each death is replayed to the last state before it and judged by
deletion.
"""

from collections.abc import Sequence

import numpy as np

from envs.coinrun import causes_of_death
from envs.procgen import Snapshot
from rollouts.play import EpisodeSpec, StepBatch


class ActionLog:
    """Collects every job's actions; give its `watch` to `evaluate`."""

    def __init__(self, num_jobs: int):
        self.actions: list[list[int]] = [[] for _ in range(num_jobs)]

    def watch(self, played: StepBatch) -> None:
        for job, action in zip(played.job.tolist(), played.action.tolist()):
            self.actions[job].append(action)


def causes(env, jobs: Sequence[EpisodeSpec], actions: Sequence[Sequence[int]], died: np.ndarray) -> list[str]:
    """The cause of each death (see envs.coinrun.causes_of_death). died: indices [n] of jobs. env: CoinRun's,
    used up.

    Deaths are taken in the order of their lengths, so that slots replayed together end together.
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
    """The states from which each level's last action was taken, reached by taking all the others again."""
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
