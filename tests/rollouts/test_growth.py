"""A store grows by whole shards and keeps existing ones; a request for fewer episodes is answered."""

import hashlib
import json
import logging

import numpy as np
import pytest

import record
import record_gen_samples
from common.runs import UsageError
from rollouts.check import check_store
from rollouts.growth import extent, shard_ranges
from rollouts.inspect_store import describe
from tests.helpers.toy_simulator import save_toy_files
from tests.scripts.test_record import Rollouts, asked, checksums, make, models  # noqa: F401


def test_no_shard_runs_over_an_earlier_end():
    assert shard_ranges(10, 4) == [range(0, 4), range(4, 8), range(8, 10)]
    assert shard_ranges(13, 4, (10,)) == [range(0, 4), range(4, 8), range(8, 10), range(10, 13)]
    assert shard_ranges(20, 4, (3, 10)) == [
        range(0, 3),
        range(3, 7),
        range(7, 10),
        range(10, 14),
        range(14, 18),
        range(18, 20),
    ]


def test_whole_shards_grow_into_the_store_that_is_recorded_at_once(models, tmp_path):
    small = make(models, tmp_path, num_episodes=4)
    before = checksums(small.path)
    grown = make(models, tmp_path, num_episodes=10)
    at_once = make(models, tmp_path / "once", num_episodes=10)
    assert checksums(grown.path).items() >= before.items()
    assert checksums(grown.path) == checksums(at_once.path)
    assert grown.id == at_once.id != small.id
    manifests = [
        {
            k: v
            for k, v in json.loads((s.path / "manifest.json").read_text()).items()
            if k not in ("made", "sha256")
        }
        for s in (grown, at_once)
    ]
    assert manifests[0] == manifests[1]
    assert list(check_store(grown)) == []


def test_a_shard_that_is_not_full_stays_and_the_episodes_after_it_get_their_own(models, tmp_path, caplog):
    before = make(models, tmp_path, num_episodes=6)
    sums = checksums(before.path)
    grown = make(models, tmp_path, num_episodes=11)
    assert checksums(grown.path).items() >= sums.items()
    assert [entry["num_episodes"] for entry in grown.entries] == [4, 2, 4, 1]
    assert grown.manifest["plan"]["grown_from"] == [6]
    assert grown.episodes["id"].tolist() == list(range(11))
    assert list(check_store(grown)) == []
    for name, column in before.episodes.items():
        np.testing.assert_array_equal(grown.episodes[name][:6], column)
    assert not any("unfinished" in line for line in describe(grown))
    with caplog.at_level(logging.INFO):
        again = make(models, tmp_path, num_episodes=11)  # the same command finds it done
        make(models, tmp_path, num_episodes=5)
    assert again.id == grown.id
    assert checksums(again.path) == checksums(grown.path)
    assert "has 11 episodes already; nothing to do for 5" in caplog.text


def test_what_is_not_larger_alone_does_not_grow(models, tmp_path):
    store = make(models, tmp_path, num_episodes=4)
    manifest = (store.path / "manifest.json").read_bytes()
    # and no word of what may grow
    with pytest.raises(UsageError, match="was made with plan.seed = 0, not 1: choose"):
        make(models, tmp_path, num_episodes=10, seed=1)
    (store.path / "shard_00000.json").unlink()
    with pytest.raises(
        UsageError, match="begun with 4 episodes and has 0, fewer than the 3 asked for: give 4 or more"
    ):
        record.main(asked(models, tmp_path, num_episodes=3))
    assert (store.path / "manifest.json").read_bytes() == manifest


def test_simulated_stores_grow(tmp_path):
    save_toy_files(tmp_path)

    def simulate(name: str, samples: int, **flags) -> Rollouts:
        given = dict(num_sim_steps=4, batch_size=4, out_dir=tmp_path / name, device="cpu")
        record_gen_samples.main(
            record_gen_samples.Args(
                tmp_path / "model.safetensors",
                tmp_path / "agent.safetensors",
                tmp_path / "store",
                num_samples=samples,
                **given | flags,
            )
        )
        return Rollouts.open(tmp_path / name)

    before = checksums(simulate("grown", 4).path)
    grown = simulate("grown", 6)
    at_once = simulate("once", 6)
    assert checksums(grown.path) == checksums(at_once.path)
    assert checksums(grown.path).items() >= before.items()
    further = simulate("grown", 9)
    assert [entry["num_episodes"] for entry in further.entries] == [4, 2, 3]
    assert further.episodes["id"].tolist() == list(range(9))
    assert (
        hashlib.sha256((tmp_path / "grown" / "shard_00001.h5").read_bytes()).hexdigest()
        == grown.entries[1]["data"]["sha256"]
    )


def test_a_store_of_another_script_is_named_as_that(models, tmp_path):
    """Not as damaged: simulated episodes into a recording, and the other way round."""
    store = make(models, tmp_path, num_episodes=2)
    for section, count in (("sampling", "num_samples"), ("sizes", "number")):
        with pytest.raises(
            UsageError, match="is in use: it holds a store that another script made; choose another place"
        ):
            extent(store.path, section, count, 4, 2)
