"""Windows in random order with bounded memory: a few shards are read at a time."""

from collections.abc import Iterator

import numpy as np

from common.errors import UsageError
from rollouts.segment import Segment
from rollouts.windows import Windows


def stream(
    windows: Windows, rng: np.random.Generator, batch_size: int, shards_at_once: int = 4
) -> Iterator[Segment]:
    """Every window once, in batches; the last batch may be smaller.

    Shards are drawn in a random order, and windows are shuffled within groups of `shards_at_once`. What does
    not fill a batch joins the next group, so a batch may need shards of two groups, or of more if they hold
    fewer windows than a batch.

    Args:
        windows: of a store that may be larger than the memory, or lie elsewhere.
        rng: draws the order.
        batch_size: windows per batch.
        shards_at_once: shards of a group; more mix better and take more memory.

    Raises:
        UsageError: a size is below 1.
    """
    if min(batch_size, shards_at_once) < 1:
        raise UsageError(f"batch_size is {batch_size}, shards_at_once {shards_at_once}: give 1 or more")
    shard = windows.rollouts.episodes["shard"][windows.table[:, 0]]
    order = rng.permutation(np.unique(shard))
    left = np.zeros(0, np.int64)
    for begin in range(0, len(order), shards_at_once):
        group = np.flatnonzero(np.isin(shard, order[begin : begin + shards_at_once]))
        chosen = np.concatenate([left, rng.permutation(group)])
        whole = len(chosen) // batch_size * batch_size
        for first in range(0, whole, batch_size):
            yield windows.batch(chosen[first : first + batch_size])
        left = chosen[whole:]
    if len(left):
        yield windows.batch(left)
