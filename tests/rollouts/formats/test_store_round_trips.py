"""A store becomes a file of MIDT or of Minari, and returns with the same bits."""

import contextlib
import itertools
import json
import os
import resource
import signal

import h5py
import numpy as np
import pytest

import convert
from common.errors import UsageError
from common.stopping import StopOnSignal, Stopped
from rollouts.check import check_store
from rollouts.formats import episodes
from rollouts.formats.new_hdf5 import Disk
from rollouts.store import Rollouts, create_store, write_shard
from tests.helpers.made_store import MANIFEST, SIZE, make_shard, make_store

LENGTHS = ([5, 1, 8], [3, 4])
IMAGE = (32, 36, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("made") / "store", *LENGTHS)


@pytest.fixture(scope="module")
def image_store(tmp_path_factory):
    """Frames so large that Minari takes them as images."""
    path = tmp_path_factory.mktemp("made") / "store"
    create_store(path, MANIFEST | {"obs_shape": list(IMAGE)})
    steps, table = make_shard([4, 2])
    rng = np.random.default_rng(1)
    write_shard(path, 0, steps | {"obs": rng.integers(0, 256, (6, *IMAGE), dtype=np.uint8)}, table)
    return Rollouts.open(path)


def run(source, target, **changed):
    convert.main(convert.Args(source, target, **changed))
    return target


def assert_same(found: Rollouts, store: Rollouts):
    for name in store.step_fields:
        assert found.steps(name).tobytes() == store.steps(name).tobytes(), name
    for name, column in store.episodes.items():
        if name not in ("shard", "offset"):
            assert found.episodes[name].dtype.kind == column.dtype.kind, name
            assert np.array_equal(found.episodes[name], column), name


@pytest.mark.parametrize(("format", "target"), [("midt", "out.h5"), ("minari", "out")])
@pytest.mark.parametrize("size", ["small", "image"])
def test_a_store_comes_back_to_the_same_bits(store, image_store, tmp_path, format, target, size):
    made = store if size == "small" else image_store
    foreign = run(made.path, tmp_path / target, format=format)
    back = Rollouts.open(run(foreign, tmp_path / "back"))
    assert_same(back, made)
    assert {k: v for k, v in back.manifest.items() if k != "made"} == {
        k: v for k, v in made.manifest.items() if k != "made"
    }


def test_midts_layout_key_by_key(store, tmp_path):
    with h5py.File(run(store.path, tmp_path / "out.h5", format="midt")) as file:
        assert file["metadata/num_episodes"][()] == len(store)
        assert json.loads(file["metadata"].attrs["env_config"]) == {}
        for i in range(len(store)):
            group, steps = file[f"trajectories/episode_{i}"], store.episode(i)
            states = steps["obs"].reshape(-1, SIZE * SIZE * 3)
            count = len(states)
            assert group["states"].dtype == np.float32
            assert group["states"].compression == "gzip"
            np.testing.assert_array_equal(group["states"], states)
            np.testing.assert_array_equal(group["actions"], steps["action"])
            np.testing.assert_array_equal(group["rewards"], steps["reward"])
            np.testing.assert_array_equal(group["dones"], steps["terminated"])
            np.testing.assert_array_equal(group["truncated"], steps["truncated"])
            np.testing.assert_array_equal(group["timesteps"], range(count))
            np.testing.assert_allclose(group["rtg"], [steps["reward"][t:].sum() for t in range(count)])
            assert group["rtg"].dtype == np.float32
            assert group.attrs["length"] == count
            assert group.attrs["total_reward"] == store.episodes["return"][i]
            assert json.loads(group.attrs["metadata"])["level_seed"] == store.episodes["level_seed"][i]
        states = store.steps("obs").reshape(-1, SIZE * SIZE * 3).astype(float)
        np.testing.assert_allclose(file["statistics/state_mean"], states.mean(0), rtol=1e-6)
        np.testing.assert_allclose(file["statistics/state_std"], states.std(0) + 1e-6, rtol=1e-5)
        assert file["statistics/return_mean"][()] == pytest.approx(store.episodes["return"].mean())
        assert file["statistics/return_std"][()] == pytest.approx(store.episodes["return"].std())


def test_png_files_hold_the_frame():
    frame = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(convert.decode_image(convert.encode_image(frame)), frame)


@pytest.mark.parametrize("size", ["small", "image"])
def test_minari_itself_reads_what_is_written(store, image_store, tmp_path, size):
    minari = pytest.importorskip("minari", exc_type=ImportError)
    made = store if size == "small" else image_store
    dataset = minari.MinariDataset(run(made.path, tmp_path / "out", format="minari") / "data")
    assert dataset.spec.dataset_id == "worldlens/rollouts-v0"
    assert (dataset.total_episodes, dataset.total_steps) == (len(made), made.num_steps)
    assert dataset.action_space.n == made.manifest["num_actions"]
    assert dataset.observation_space.shape == made.step_fields["obs"].shape
    for i, found in enumerate(dataset.iterate_episodes()):
        steps = made.episode(i)
        assert found.id == i
        assert np.array_equal(found.observations[:-1], steps["obs"])
        assert not found.observations[-1].any()
        assert np.array_equal(found.actions, steps["action"])
        assert np.array_equal(found.rewards, steps["reward"])
        assert np.array_equal(found.terminations, steps["terminated"])
        assert np.array_equal(found.truncations, steps["truncated"])
        assert np.array_equal(found.infos["hidden"], steps["hidden"])
        assert np.array_equal(found.infos["logits"][:-1], steps["logits"])


def test_what_minari_itself_writes_becomes_a_store(tmp_path):
    minari = pytest.importorskip("minari", exc_type=ImportError)
    from gymnasium.spaces import Box, Discrete
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    (tmp_path / "set").mkdir()
    space = Box(0, 255, (32, 32, 3), np.uint8)
    storage = MinariStorage.new(tmp_path / "set" / "data", space, Discrete(3))
    frames = (
        np.repeat(np.arange(5, dtype=np.uint8)[:, None, None, None] * 20, 32, 1).repeat(32, 2).repeat(3, 3)
    )
    buffers = [
        EpisodeBuffer(seed=7, observations=frames, actions=np.array([0, 2, 1, 0]), rewards=[0.5, 0, 0, 1],
                      terminations=[False] * 3 + [True], truncations=[False] * 4),
        EpisodeBuffer(observations=frames[:3], actions=np.array([1, 1]), rewards=[0.0, 2.0],
                      terminations=[False] * 2, truncations=[False, True]),
    ]  # fmt: skip
    storage.update_metadata({"dataset_id": "toy/frames-v0", "minari_version": minari.__version__})
    storage.update_episodes(buffers)
    expected = [one.observations for one in minari.MinariDataset(storage).iterate_episodes()]
    back = Rollouts.open(run(tmp_path / "set", tmp_path / "back", noop=1))
    assert list(check_store(back)) == []
    for i in range(2):
        assert np.array_equal(back.episode(i)["obs"], expected[i][:-1])
    assert back.steps("action").tolist() == [0, 2, 1, 0, 1, 1]
    assert back.episodes["return"].tolist() == [1.5, 2.0]
    assert back.episodes["end"].tolist() == ["terminated", "truncated"]
    assert back.episodes["level_seed"].tolist() == [7, 1]
    assert (back.manifest["num_actions"], back.manifest["noop"]) == (3, 1)


def test_episodes_are_read_one_at_a_time(store, tmp_path, monkeypatch):
    """Shards are written as soon as they hold SHARD_STEPS steps, before the next episode is read."""
    foreign = run(store.path, tmp_path / "out.h5", format="midt")
    monkeypatch.setattr(episodes, "SHARD_STEPS", 6)
    back = Rollouts.open(run(foreign, tmp_path / "back"))
    assert [entry["num_episodes"] for entry in back.entries] == [2, 1, 2]
    assert_same(back, store)


def test_the_dataset_id_is_written(store, tmp_path):
    out = run(store.path, tmp_path / "out", format="minari", dataset_id="coinrun/agent-v3")
    assert json.loads((out / "data" / "metadata.json").read_text())["dataset_id"] == "coinrun/agent-v3"


@pytest.mark.parametrize("format", ["midt", "minari"])
def test_a_target_is_complete_or_not_there(store, tmp_path, monkeypatch, format):
    def broken(rollouts):
        yield from list(episodes.stored_episodes(rollouts))[:2]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"rollouts.formats.{format}.stored_episodes", broken)
    with pytest.raises(OSError, match="No space left"):
        run(store.path, tmp_path / "out", format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "say what it is to become with --format"),
        ({"format": "midt", "noop": 1}, "--noop would have no effect"),
        ({"format": "midt", "dataset_id": "a-v0"}, "--dataset_id would have no effect"),
        ({"format": "minari", "dataset_id": "no version"}, "Minari's are namespace/name-v0"),
    ],
)
def test_impossible_requests_are_refused(store, tmp_path, changed, message):
    with pytest.raises(UsageError, match=message):
        run(store.path, tmp_path / "out", **changed)


def test_nothing_is_overwritten(store, tmp_path):
    (tmp_path / "out.h5").write_text("precious")
    with pytest.raises(UsageError, match="is there already"):
        run(store.path, tmp_path / "out.h5", format="midt")
    assert (tmp_path / "out.h5").read_text() == "precious"


@contextlib.contextmanager
def largest_file(size: int):
    """No file can become larger: a write beyond fails in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("format", "target"), [("midt", "out.h5"), ("minari", "out")])
def test_a_full_disk_is_an_error_and_no_crash(store, tmp_path, format, target):
    whole = run(store.path, tmp_path / "whole" / target, format=format)
    size = max(path.stat().st_size for path in [whole, *whole.rglob("*")] if path.is_file())
    for limit in np.linspace(1, size - 1, 25).astype(int):
        with largest_file(int(limit)), pytest.raises(OSError, match="File too large"):
            run(store.path, tmp_path / target, format=format)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    with largest_file(size):
        run(store.path, tmp_path / target, format=format)


def test_what_does_not_fit_on_a_disk_is_read_back(tmp_path):
    bits = bytes(range(100))
    with Disk(tmp_path / "file") as disk:
        with largest_file(40):
            disk.write(bits)
            disk.seek(30)
            found = bytearray(20)
            disk.readinto(found)
            disk.seek(45)
            disk.write(b"new")
            assert disk.tell() == 48
            disk.truncate(200)
        disk.seek(38)
        later = bytearray(10)
        disk.readinto(later)
        with pytest.raises(OSError, match="File too large"):
            disk.check()
    assert found == bits[30:50]
    assert later == bits[38:45] + b"new"
    assert (tmp_path / "file").read_bytes() == bits[:40]


@pytest.mark.parametrize(("format", "target"), [("midt", "out.h5"), ("minari", "out")])
@pytest.mark.parametrize("moment", [1, 5, 40, 150])
def test_a_stop_within_a_write_ends_the_conversion_and_leaves_nothing(
    store, tmp_path, monkeypatch, capfd, format, target, moment
):
    """HDF5 writes through a method of Python, in which a signal's handler may run."""
    written = itertools.count(1)
    write = Disk.write

    def interrupted(disk, data):
        if next(written) == moment:
            os.kill(os.getpid(), signal.SIGINT)
        return write(disk, data)

    monkeypatch.setattr(Disk, "write", interrupted)
    with StopOnSignal(), pytest.raises(Stopped):
        run(store.path, tmp_path / target, format=format)
    assert next(written) > moment
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in capfd.readouterr().err
