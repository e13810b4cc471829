"""Data that changed on disk are never read as good, in whatever way a store is read."""

import numpy as np
import pytest

from rollouts import store as stores
from rollouts.store import BadStore, Rollouts
from tests.helpers.made_store import make_store

READERS = {
    "steps": lambda rollouts: rollouts.steps("value"),
    "frames": lambda rollouts: list(rollouts.chunks("obs")),
    "episode": lambda rollouts: rollouts.episode(0),
    "windows": lambda rollouts: rollouts.windows(2).batch([0]),
}


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_of_a_mapped_column_is_refused(tmp_path, name):
    path = make_store(tmp_path / "store", [3, 1, 5]).path
    data = path / "shard_00000.h5"
    image = bytearray(data.read_bytes())
    value = np.ascontiguousarray(Rollouts.open(path).steps("value")).tobytes()
    at = bytes(image).index(value)
    image[at] ^= 1
    data.write_bytes(image)
    with pytest.raises(BadStore, match="shard_00000.h5 cannot be read .its bytes do not match"):
        READERS[name](Rollouts.open(path))


def test_a_shard_is_verified_once(tmp_path, monkeypatch):
    rollouts = make_store(tmp_path / "store", [3], [2])
    asked = []
    whole = stores.shards.data_is_whole
    monkeypatch.setattr(
        stores.shards, "data_is_whole", lambda file, entry: asked.append(entry["shard"]) or whole(file, entry)
    )
    for _ in range(2):
        rollouts.steps("value")
        rollouts._opened.cache_clear()  # as when many shards take turns
    assert asked == [0, 1]
