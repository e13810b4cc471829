"""A compacted store has the same episodes in full shards; a migrated one is the same store."""

import json
import logging

import numpy as np
import pytest

from common.errors import UsageError
from rollouts import compact, migrate
from rollouts.check import check_store
from rollouts.manifest import read_manifest, write_manifest
from rollouts.store import Rollouts, create_store
from tests.helpers.made_store import make_store

SHARDS = [[4], [6, 2], [3], [7, 1, 1]]


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", *SHARDS)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_copy_has_the_same_episodes_in_full_shards(tmp_path, store, size):
    compact.main(compact.Args(store.path, tmp_path / "copy", size))
    copy = Rollouts.open(tmp_path / "copy")
    assert [entry["num_episodes"] for entry in copy.entries] == [
        min(size, len(store) - begin) for begin in range(0, len(store), size)
    ]
    for name in store.step_fields:
        assert np.array_equal(copy.steps(name), store.steps(name), equal_nan=True)
    for name in store.episodes.keys() - {"shard", "offset"}:
        assert np.array_equal(copy.episodes[name], store.episodes[name]), name
    assert list(check_store(copy)) == []
    assert copy.manifest["compacted"] == {"store": store.id, "episodes_per_shard": size}


def test_the_same_command_resumes(tmp_path, store):
    compact.main(compact.Args(store.path, tmp_path / "copy", 2))
    before = Rollouts.open(tmp_path / "copy").id
    (tmp_path / "copy" / "shard_00001.json").unlink()
    compact.main(compact.Args(store.path, tmp_path / "copy", 2))
    assert Rollouts.open(tmp_path / "copy").id == before


def test_a_copy_of_other_episodes_and_a_recording_are_refused(tmp_path, store):
    compact.main(compact.Args(store.path, tmp_path / "copy", 2))
    other = make_store(tmp_path / "other", [5], [5])
    with pytest.raises(UsageError, match="compacted"):
        compact.main(compact.Args(other.path, tmp_path / "copy", 2))
    with pytest.raises(UsageError, match="compacted = .*, not None"):
        about = {k: v for k, v in store.manifest.items() if k not in compact.OWN}
        create_store(tmp_path / "copy", about)
    with pytest.raises(UsageError, match="--target is the source"):
        compact.main(compact.Args(store.path, store.path))
    with pytest.raises(UsageError, match="give 1 or more"):
        compact.main(compact.Args(store.path, tmp_path / "x", 0))


def test_an_unfinished_store_is_refused_and_labels_are_not_forgotten(tmp_path, store, caplog):
    (store.path / "labels").mkdir()
    with caplog.at_level(logging.INFO):
        compact.main(compact.Args(store.path, tmp_path / "copy", 2))
    assert "labels are not copied" in caplog.text
    write_manifest(store.path, store.manifest | {"plan": {"num_episodes": len(store) + 1}})
    with pytest.raises(UsageError, match="has 7 of 8 episodes, and a copy cannot grow"):
        compact.main(compact.Args(store.path, tmp_path / "other", 2))


def to_schema_1(store) -> None:
    manifest = read_manifest(store.path) | {"schema": 1}
    (store.path / "manifest.json").write_text(json.dumps(manifest))


def test_an_old_store_becomes_one_of_this_version(store):
    to_schema_1(store)
    assert Rollouts.open(store.path).manifest["schema"] == 1
    migrate.main(migrate.Args(store.path))
    now = Rollouts.open(store.path)
    assert (now.manifest["schema"], now.id) == (2, store.id)
    assert now.manifest == store.manifest
    text = (store.path / "manifest.json").read_text()
    migrate.main(migrate.Args(store.path))
    assert (store.path / "manifest.json").read_text() == text


def test_a_damaged_store_is_not_migrated(store):
    to_schema_1(store)
    data = bytearray((store.path / "shard_00002.h5").read_bytes())
    data[-1] ^= 1
    (store.path / "shard_00002.h5").write_bytes(data)
    with pytest.raises(UsageError, match="is not sound, and was left as it is"):
        migrate.main(migrate.Args(store.path))
    assert read_manifest(store.path)["schema"] == 1
