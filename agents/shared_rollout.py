"""One rollout of several processes: each steps its own environments, and all learn from the whole."""

from collections.abc import Callable, Sequence

import numpy as np

from agents.ppo import RolloutBuffer
from common.distributed import DistContext
from envs.vecenv import Snapshot


class OwnSlots:
    """A process's slots of environments that the group has in common: slot i of all is the same in any split.

    `num` is that of the own slots; snapshots are of all slots.

    Args:
        env_of: makes environments, given how many.
        num: environments of the whole group.
        ranks: this process's place in it.
    """

    def __init__(self, env_of: Callable[[int], object], num: int, ranks: DistContext):
        whole = env_of(num)
        first = whole.snapshot(range(num)[ranks.block(num)])
        whole.close()
        self.inner = env_of(num // ranks.size)
        self.inner.restore(first)
        self.ranks = ranks

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def snapshot(self) -> list[Snapshot]:
        """Snapshots of all slots; every process must call it."""
        own = self.inner.snapshot()
        data = self.ranks.gather_bytes([one.data for one in own])
        checksums = self.ranks.gather_bytes([one.checksum.encode() for one in own])
        return [Snapshot(state, checksum.decode()) for state, checksum in zip(data, checksums)]

    def restore(self, snapshots: Sequence[Snapshot]) -> None:
        """Restores the own slots from snapshots of all."""
        self.inner.restore(snapshots[self.ranks.block(len(snapshots))])


def own_environments(env_of: Callable[[int], object], num: int, ranks: DistContext):
    """This process's environments: all of them if it is alone."""
    return env_of(num) if ranks.size == 1 else OwnSlots(env_of, num, ranks)


def gather_rollout(own: RolloutBuffer, ranks: DistContext) -> RolloutBuffer:
    """The rollout of all processes, from each one's own."""
    if ranks.size == 1:
        return own
    whole = object.__new__(RolloutBuffer)
    for name, column in vars(own).items():
        by_slot = 0 if name in RolloutBuffer.BY_SLOT else 1
        setattr(whole, name, ranks.gather(column, by_slot))
    return whole


def normalize_rewards(buffer: RolloutBuffer, statistics, normalizer) -> None:
    """Adds a rollout to the episode statistics, and scales its rewards if there is a normaliser."""
    for reward, ended in zip(buffer.reward.numpy(), buffer.ended.numpy()):
        statistics.update(reward, ended)
        if normalizer is not None:
            reward[:] = normalizer(reward.copy(), ended)


def slots_of(num: int, ranks: DistContext) -> np.ndarray:
    """Numbers of this process's slots among all, of which it has `num`."""
    return np.arange(num * ranks.size)[ranks.block(num * ranks.size)]
