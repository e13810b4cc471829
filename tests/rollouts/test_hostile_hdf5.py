"""HDF5 that leads out of its file, or declares more than it can hold, is refused before it is read."""

import hashlib
import json

import h5py
import numpy as np
import pytest

from common.runs import UsageError
from rollouts import shard
from rollouts.datasets import MOST_COMPRESSED, plain_dataset, read
from rollouts.formats.episodes import ForeignGame
from rollouts.formats.midt import read_midt
from rollouts.store import BadStore, Rollouts
from tests.helpers.made_store import make_store


@pytest.fixture
def outside(tmp_path):
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["secret"] = np.full(1000, 77.0, np.float32)
    return tmp_path / "outside.h5"


def external_link(file, name, outside):
    file[name] = h5py.ExternalLink(str(outside), "secret")


def soft_link(file, name, outside):
    file[name] = h5py.SoftLink("/reward")


def external_bytes(file, name, outside):
    file.create_dataset(name, (9,), "f4", external=[(str(outside), 0, 36)])


def virtual(file, name, outside):
    layout = h5py.VirtualLayout((9,), "f4")
    layout[:] = h5py.VirtualSource(str(outside), "secret", (1000,))[:9]
    file.create_virtual_dataset(name, layout)


def larger_than_the_file(file, name, outside):
    file.create_dataset(name, (10**12,), "f4", chunks=(1000,), compression="gzip")


HOSTILE = (external_link, soft_link, external_bytes, virtual, larger_than_the_file)


def resign(store):
    """Gives the first shard's entry the checksum of its changed data file."""
    path = shard.entry_path(store, 0)
    entry = json.loads(path.read_text())
    entry.pop("sha256")
    image = shard.data_path(store, 0).read_bytes()
    entry["data"] |= {"bytes": len(image), "sha256": hashlib.sha256(image).hexdigest()}
    path.write_text(json.dumps(entry | {"sha256": shard._digest(entry)}))


@pytest.mark.parametrize("put", HOSTILE)
def test_a_shard_with_fitting_checksums_that_leads_out_of_its_file_is_refused(tmp_path, outside, put):
    store = make_store(tmp_path / "store", [3, 1, 5])
    with h5py.File(store.path / "shard_00000.h5", "r+") as file:
        del file["value"]
        put(file, "value", outside)
    resign(store.path)
    with pytest.raises(BadStore, match=r"value (is a link|keeps its data|declares)"):
        Rollouts.open(store.path).steps("value")


@pytest.mark.parametrize("put", HOSTILE)
def test_a_file_of_midt_that_leads_elsewhere_is_refused(tmp_path, outside, put):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("states", "actions", "dones"):
            file[f"trajectories/episode_0/{name}"] = np.zeros((9, 12) if name == "states" else 9, np.float32)
        put(file, "trajectories/episode_0/rewards", outside)
    with pytest.raises(UsageError, match=r"rewards (is a link|keeps its data|declares)"):
        list(read_midt(tmp_path / "a.h5", ForeignGame((2, 2, 3))).episodes)


def test_what_zstd_or_deflate_can_hold_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "zeros", (10**7,), "u1", chunks=(10**6,), compression="gzip", data=np.zeros(10**7)
        )
    with h5py.File(tmp_path / "a.h5") as file:
        assert not read(file, "zeros").any()
        size = file.id.get_filesize()
        assert plain_dataset(file, "zeros").nbytes > 100 * size
        assert MOST_COMPRESSED * size > 10**7


def test_a_chunk_counts_as_a_whole(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (1,), "u1", maxshape=(None,), chunks=(2**31,))
    with (
        h5py.File(tmp_path / "a.h5") as file,
        pytest.raises(ValueError, match="declares 2,147,483,648 bytes"),
    ):
        read(file, "x")


def test_a_pickle_with_a_huge_action_makes_no_list_of_names():
    with pytest.raises(UsageError, match="have 4611686018427387904 actions"):
        ForeignGame().manifest((2, 2, 3), 2**62)
