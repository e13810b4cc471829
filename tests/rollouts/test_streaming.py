"""Streamed windows: each once, in an order that the seed draws, with few shards at a time."""

import numpy as np
import pytest

from common.errors import UsageError
from rollouts.store import Rollouts
from rollouts.streaming import stream
from tests.helpers.made_store import make_store

SHARDS = [[4, 5], [6], [3, 3, 3], [7], [2, 8], [5]]


@pytest.fixture
def windows(tmp_path):
    return make_store(tmp_path / "store", *SHARDS).windows(3)


def order(windows, seed: int, **options) -> list[tuple[int, int]]:
    rows = []
    for segment in stream(windows, np.random.default_rng(seed), 4, **options):
        rows += zip(segment.episode.tolist(), segment.start.tolist())
    return rows


@pytest.mark.parametrize("at_once", [1, 2, 4, 6, 100])
def test_every_window_comes_once(windows, at_once):
    rows = order(windows, 0, shards_at_once=at_once)
    assert sorted(rows) == sorted(map(tuple, windows.table.tolist()))


def test_batches_are_full_but_the_last(windows):
    sizes = [len(segment.episode) for segment in stream(windows, np.random.default_rng(0), 4)]
    assert set(sizes[:-1]) == {4}
    assert sum(sizes) == len(windows)


def test_the_seed_draws_the_order(windows):
    assert order(windows, 0) == order(windows, 0)
    assert order(windows, 0) != order(windows, 1)
    assert order(windows, 0) != windows.table.tolist()


@pytest.mark.parametrize("at_once", [1, 2])
def test_shards_are_read_in_groups(windows, monkeypatch, at_once):
    asked: list[int] = []
    monkeypatch.setattr(
        Rollouts, "shard", lambda self, index: asked.append(int(index)) or self._opened(int(index), 0)
    )
    order(windows, 3, shards_at_once=at_once)
    last = {shard: len(asked) - asked[::-1].index(shard) for shard in set(asked)}
    first = {shard: asked.index(shard) for shard in set(asked)}
    open_at_once = max(
        sum(first[shard] <= moment < last[shard] for shard in first) for moment in range(len(asked))
    )
    assert open_at_once <= 2 * at_once


@pytest.mark.parametrize(("batch_size", "at_once"), [(0, 4), (-1, 4), (2, 0)])
def test_sizes_below_one_are_refused(windows, batch_size, at_once):
    with pytest.raises(UsageError, match="give 1 or more"):
        next(stream(windows, np.random.default_rng(0), batch_size, at_once))
