"""Stores on other file systems hold the same bits, under the same rules, as stores on the disk."""

import pickle
import tempfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from common.errors import UsageError
from rollouts import inspect_store, remote
from rollouts.check import check_store
from rollouts.remote import RemotePath, store_path
from rollouts.store import BadStore, Rollouts, create_store, write_shard
from tests.helpers.made_store import MANIFEST, make_shard, make_store
from tests.rollouts.elsewhere import change_one_bit, check_labels, check_recording

LENGTHS = [3, 1, 5], [4], [2, 2]


@pytest.fixture
def bucket():
    """A place in an object store that keeps its files in memory."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    return "memory://bucket"


@pytest.fixture
def both(tmp_path, bucket):
    return make_store(tmp_path / "store", *LENGTHS), make_store(f"{bucket}/store", *LENGTHS)


def equal(one: Rollouts, other: Rollouts) -> bool:
    return all(np.array_equal(one.steps(name), other.steps(name), equal_nan=True) for name in one.step_fields)


def test_a_store_elsewhere_has_the_same_id_and_the_same_bits(both):
    local, far = both
    assert isinstance(far.path, RemotePath)
    assert far.id == local.id
    assert equal(local, far)
    a, b = (store.windows(3).batch([0, 5, 7]) for store in both)
    assert np.array_equal(a.obs, b.obs)
    assert equal(local, pickle.loads(pickle.dumps(far)))
    assert list(check_store(far)) == []


def test_a_url_that_was_a_path_is_still_a_url(both):
    assert Rollouts.open(Path("memory://bucket/store")).id == both[0].id
    assert str(store_path(Path("memory://a/b"))) == "memory://a/b"
    assert store_path("file:///tmp/x") == Path("/tmp/x")
    assert store_path(Path("data/coinrun")) == Path("data/coinrun")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere://x", "nowhere://x cannot be reached: Protocol not known: nowhere"),
        ("S3://bucket/x", "S3://bucket/x cannot be reached: Protocol not known: S3"),
        ("github://a/b", "github://a/b cannot be reached: .* missing 2 required"),
        ("no_such_one://a/b", "no_such_one://a/b cannot be reached"),
        ("memory://", "memory:// names no place there: give one, such as s3://bucket/name"),
        ("s3:/", "s3:// names no place there"),
        (
            "simplecache::s3://bucket/x",
            "simplecache::s3://bucket/x names several file systems: give s3://bucket/x",
        ),
        ("memory://none", "no store of rollouts at memory://none"),
        ("file:///none/such", "no store of rollouts at /none/such"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_place_without_a_store_is_one_line(path, message, kind, bucket):
    with pytest.raises(UsageError, match=message) as refused:
        Rollouts.open(kind(path))
    assert "\n" not in str(refused.value)


METHODS = {
    "exists": lambda path: path.exists(),
    "isdir": lambda path: path.is_dir(),
    "ls": lambda path: list(path.iterdir()),
    "size": lambda path: path.stat(),
    "cat_file": lambda path: path.read_text(),
    "pipe_file": lambda path: path.write_bytes(b"x"),
    "get_file": lambda path: path.fetch(Path("never")),
}


@pytest.mark.parametrize("name", METHODS)
def test_whatever_a_file_system_raises_is_one_line(bucket, monkeypatch, name):
    path = RemotePath(f"{bucket}/x.json")
    errors = [ConnectionError("two\nlines"), TypeError("gone"), RuntimeError(), OSError(28, "No space left")]

    def fail(*args, **kwargs):
        raise errors.pop(0)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), name, fail)
    for cause in ("two lines", "gone", "RuntimeError"):
        with pytest.raises(UsageError, match=f"{path} cannot be reached: {cause}$"):
            METHODS[name](path)
    with pytest.raises(OSError, match="No space left"):
        METHODS[name](path)


def test_data_changed_elsewhere_are_refused(both):
    image = change_one_bit("memory://bucket/store/shard_00001.h5")
    with pytest.raises(BadStore, match="do not match their checksum"):
        Rollouts.open("memory://bucket/store").steps("obs")
    with pytest.raises(BadStore, match="is not sound"):
        inspect_store.main(inspect_store.Args("memory://bucket/store", check=True))
    fsspec.filesystem("memory").pipe_file("/bucket/store/shard_00001.h5", image[:-1])
    with pytest.raises(BadStore, match="truncated or missing"):
        Rollouts.open("memory://bucket/store")


def test_an_upload_that_breaks_off_leaves_no_shard(bucket, monkeypatch):
    path = f"{bucket}/store"
    create_store(path, MANIFEST)
    files = fsspec.filesystem("memory")
    monkeypatch.setattr(type(files), "mv", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(5, "gone")))
    with pytest.raises(UsageError, match="shard_00000.h5 cannot be reached: .*gone"):
        write_shard(path, 0, *make_shard([3]))
    monkeypatch.undo()
    with pytest.raises(BadStore, match="no episodes yet"):
        Rollouts.open(path)
    write_shard(path, 0, *make_shard([3]))
    assert len(Rollouts.open(path)) == 1


def test_two_jobs_may_write_one_file(bucket, monkeypatch):
    path = RemotePath(f"{bucket}/shared/x.json")
    files = type(fsspec.filesystem("memory"))
    rivals = [b"the other job's"]
    move = files.mv

    def late(self, *args, **kwargs):
        if rivals:
            path.write_bytes(rivals.pop())
        move(self, *args, **kwargs)

    monkeypatch.setattr(files, "mv", late)
    path.write_bytes(b"own")
    assert path.read_text() == "own"
    assert [one.name for one in path.parent.iterdir()] == ["x.json"]


def test_copies_on_the_disk_have_no_name_and_are_few(both, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    largest = max(entry["data"]["bytes"] for entry in both[1].entries)
    monkeypatch.setattr(remote, "CACHE_BYTES", 2 * largest)
    far = Rollouts.open("memory://bucket/store")
    assert equal(both[0], far)
    assert far._opened.cache_info().maxsize == 2
    assert list((tmp_path / "copies").iterdir()) == []


def test_record_writes_elsewhere_what_it_writes_here(tmp_path, bucket):
    check_recording(tmp_path, bucket)


def test_a_copy_that_is_fetched_again_is_checked_again(both):
    far = both[1]
    far.steps("obs")
    far._opened.cache_clear()  # as when many shards take turns
    change_one_bit("memory://bucket/store/shard_00001.h5")
    with pytest.raises(BadStore, match="do not match their checksum"):
        far.steps("obs")


def test_labels_elsewhere_are_those_on_the_disk(tmp_path, bucket):
    check_labels(tmp_path, bucket)


def test_the_part_of_an_upload_is_hidden(bucket):
    path = RemotePath(f"{bucket}/alone/x.json")
    path.write_bytes(b"{}")
    assert [one.name for one in path.parent.iterdir()] == ["x.json"]
    assert remote.local_copy(Path("x")).__enter__() == Path("x")
