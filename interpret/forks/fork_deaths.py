"""Causes of death in real forks, by deletion: the fatal action is repeated without each kind of hazard."""

from collections.abc import Sequence

import numpy as np

from envs.coinrun import causes_of_death
from envs.procgen import Snapshot
from interpret.forks.fork_points import ForkPoints


def fork_death_causes(env, points: ForkPoints, actions: np.ndarray, died_at: np.ndarray) -> list[str]:
    """Cause of each fork's death (envs.coinrun.causes_of_death); "" where it did not die.

    Args:
        env: CoinRun; its slots are overwritten.
        points: B fork points.
        actions: [T, B], taken in the forks.
        died_at: [B], the step of the fatal action; -1 where there is none.
    """
    causes = np.full(len(points), "", object)
    died = np.flatnonzero(died_at >= 0)
    died = died[np.argsort(died_at[died], kind="stable")]  # forks of about the same length share a batch
    for at in range(0, len(died), env.num):
        rows = died[at : at + env.num]
        before = _states_before(env, points.take(rows).snapshots, actions[:, rows], died_at[rows])
        causes[rows] = causes_of_death(env, before, actions[died_at[rows], rows])
    return causes.tolist()


def _states_before(
    env, snapshots: Sequence[Snapshot], actions: np.ndarray, step: np.ndarray
) -> list[Snapshot]:
    """The state of each of B forks before its action of `step` [B]."""
    env.restore(snapshots, range(len(snapshots)))
    found: list[Snapshot | None] = [None] * len(snapshots)
    for t in range(int(step.max()) + 1):
        reached = np.flatnonzero(step == t)
        for slot, snapshot in zip(reached, env.snapshot(reached)):
            found[slot] = snapshot
        action = np.full(env.num, env.noop)
        going = np.flatnonzero(step > t)
        action[going] = actions[t, going]
        env.act(action)
    return found
