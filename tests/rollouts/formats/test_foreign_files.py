"""Files of other projects: what they hold becomes a store; broken and hostile ones are refused."""

import fcntl
import gzip
import json
import lzma
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest

import convert
from common.errors import UsageError
from rollouts.check import check_store
from rollouts.formats.episodes import BadRecording
from rollouts.formats.trajectory_pickle import KNOWN
from rollouts.store import Rollouts
from tests.helpers.made_store import make_store

SHAPE = (2, 3, 3)


def run(source, target, **changed):
    convert.main(convert.Args(source, target, **changed))
    return Rollouts.open(target)


def midt_file(path, lengths=(3, 2), seed=0, **changed):
    """A file of MIDT itself: no group of a store's own, and no column `truncated`."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        for i, length in enumerate(lengths):
            columns = {
                "states": rng.integers(0, 256, (length, 18)).astype(np.float32),
                "actions": rng.integers(0, 4, length),
                "rewards": rng.standard_normal(length).astype(np.float32),
                "dones": np.arange(length) == length - 1,
            } | changed
            for name, column in columns.items():
                if column is not None:
                    file.create_dataset(f"trajectories/episode_{i}/{name}", data=column)
        file.create_dataset("metadata/num_episodes", data=len(lengths))
    return path


def trajectories(steps=4, envs=2, seed=0):
    """Data of a trajectory file; in the first environment an episode ends with its second step."""
    rng = np.random.default_rng(seed)
    ends = np.zeros((2, steps, envs), bool)
    ends[0, 1, 0] = ends[1, -1] = True
    return {
        "observations": rng.integers(0, 11, (steps, envs, *SHAPE)).astype(float),
        "actions": rng.integers(0, 7, (steps, envs)),
        "rewards": rng.random((steps, envs)),
        "dones": ends[0],
        "truncated": ends[1],
        "rtgs": np.array([]),
        "infos": np.array([{"level": np.int64(t)} for t in range(steps)], object),
    }


def pickled(path, data, protocol=pickle.DEFAULT_PROTOCOL):
    content = {"data": data, "metadata": OrderedDict(args={"seed": 1}, time=np.float64(2.0))}
    opener = {".pkl": open, ".gz": gzip.open, ".xz": lzma.open}[path.suffix]
    with opener(path, "wb") as file:
        pickle.dump(content, file, protocol)
    return path


def test_a_file_of_midt_becomes_a_store(tmp_path):
    found = run(midt_file(tmp_path / "a.h5"), tmp_path / "store", obs_shape=SHAPE, num_actions=6, noop=5)
    assert list(check_store(found)) == []
    with h5py.File(tmp_path / "a.h5") as file:
        for i in range(2):
            theirs = file[f"trajectories/episode_{i}"]
            ours = found.episode(i)
            assert np.array_equal(ours["obs"].reshape(-1, 18), theirs["states"])
            assert np.array_equal(ours["action"], theirs["actions"])
            assert np.array_equal(ours["reward"], theirs["rewards"])
            assert np.array_equal(ours["terminated"], theirs["dones"])
    assert (found.manifest["num_actions"], found.manifest["noop"]) == (6, 5)
    assert set(found.episodes["behaviour"]) == {"imported"}


@pytest.mark.parametrize("suffix", [".pkl", ".gz", ".xz"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_trajectory_pickle_becomes_a_store(tmp_path, suffix, protocol):
    data = trajectories()
    found = run(pickled(tmp_path / f"a{suffix}", data, protocol), tmp_path / "store")
    assert list(check_store(found)) == []
    assert found.episodes["length"].tolist() == [2, 2, 4]
    assert found.episodes["end"].tolist() == ["terminated", "truncated", "truncated"]
    pieces = [(0, slice(0, 2)), (0, slice(2, 4)), (1, slice(0, 4))]
    for i, (env, steps) in enumerate(pieces):
        ours = found.episode(i)
        assert np.array_equal(ours["obs"], data["observations"][steps, env])
        assert np.array_equal(ours["action"], data["actions"][steps, env])
        assert np.array_equal(ours["reward"], data["rewards"][steps, env].astype(np.float32))


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def hostile(path):
    touch = f"touch {path}"
    return {
        "os.system": Runs(os.system, touch),
        "eval": Runs(eval, f"__import__('os').system({touch!r})"),
        "getattr": Runs(getattr, [], "append"),
        "numpy's loader": Runs(np.load, str(path)),
        "in an array": np.array([Runs(os.system, touch)], object),
        "another codec": b"",
    }


@pytest.mark.parametrize("kind", list(hostile("x")))
def test_a_hostile_pickle_runs_nothing(tmp_path, kind):
    sign = tmp_path / "sign"
    content = pickle.dumps({"data": trajectories() | {"rtgs": hostile(sign)[kind]}})
    if kind == "another codec":
        content = b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR."
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(BadRecording, match="cannot be read as plain data"):
        run(tmp_path / "a.pkl", tmp_path / "store")
    assert not sign.exists()
    assert not (tmp_path / "store").exists()


def test_a_pickle_cannot_change_a_function(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"cnumpy.core.numeric\n_frombuffer\n(NI0\ntb.")
    content = b"\x80\x02cnumpy.core.numeric\n_frombuffer\nN}X\x0c\x00\x00\x00__defaults__N s\x86b."
    (tmp_path / "b.pkl").write_bytes(content.replace(b"N s", b"Ns"))
    for name in ("a.pkl", "b.pkl"):
        with pytest.raises(BadRecording, match="it changes a function"):
            run(tmp_path / name, tmp_path / "store")


def test_a_pickle_may_name_no_module_but_numpy_and_containers():
    modules = {module.split(".")[0] for module, _ in KNOWN}
    assert modules == {"numpy", "_codecs", "collections", "__builtin__"}


def broken_files(path):
    """{name: (a broken file, what is said of it)}."""
    whole = midt_file(path / "whole.h5").read_bytes()
    (path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(midt_file(path / "fewer.h5"), "a") as file:
        del file["trajectories/episode_1"]
    with h5py.File(path / "foreign.h5", "w") as file:
        file["x"] = 1
    (path / "text.h5").write_text("no")
    (path / "cut.pkl").write_bytes(pickled(path / "whole.pkl", trajectories()).read_bytes()[:100])
    pickled(path / "uneven.pkl", trajectories() | {"rewards": np.zeros((3, 2))})
    pickled(path / "half.pkl", trajectories() | {"observations": np.full((4, 2, *SHAPE), 0.5)})
    pickled(path / "lacks.pkl", {k: v for k, v in trajectories().items() if k != "dones"})
    (path / "list.pkl").write_bytes(pickle.dumps([1]))
    return {
        "cut.h5": "cannot be read as HDF5",
        "fewer.h5": "1 episodes of 2: it is incomplete",
        "foreign.h5": "is neither a store, nor",
        "text.h5": "is neither a store, nor",
        "missing.h5": "there is nothing at",
        "cut.pkl": "cannot be read as plain data",
        "uneven.pkl": "its columns have the shapes",
        "half.pkl": "no whole numbers from 0 to 255",
        "lacks.pkl": "dones is no array",
        "list.pkl": "lacks the entry 'data'",
    }


def test_broken_files_are_refused(tmp_path):
    for name, message in broken_files(tmp_path).items():
        with pytest.raises(UsageError, match=message):
            run(tmp_path / name, tmp_path / "store")
        assert not (tmp_path / "store").exists(), name


@pytest.mark.parametrize(
    ("changed", "shape", "message"),
    [
        ({}, None, "vectors of 18 numbers"),
        ({}, (2, 2, 3), "vectors of 18 numbers"),
        ({"states": None}, SHAPE, "episode_0 lacks states"),
        ({"states": np.full((3, 18), 0.5)}, SHAPE, "a state is 0.5"),
        ({"states": np.full((3, 18), np.nan)}, SHAPE, "a state is nan"),
        ({"rewards": np.zeros(2)}, SHAPE, "fit no store: episode 0 has 3 .*, 2 rewards"),
        ({"rewards": np.array([0, np.nan, 0])}, SHAPE, "a reward of episode 0 is not finite"),
        ({"dones": np.ones(3)}, SHAPE, "an episode goes on after"),
    ],
)
def test_episodes_that_fit_no_store_are_refused(tmp_path, changed, shape, message):
    with pytest.raises(UsageError, match=message):
        run(midt_file(tmp_path / "a.h5", (3,), **changed), tmp_path / "store", obs_shape=shape)
    assert not (tmp_path / "store").exists()


def damage_minari(path, kind):
    about = json.loads((path / "data" / "metadata.json").read_text())
    if kind == "vector":
        del about["worldlens"]
        about["observation_space"] = json.dumps({"type": "Box", "dtype": "float32", "shape": [4]})
    elif kind == "continuous":
        del about["worldlens"]
        about["action_space"] = json.dumps({"type": "Box"})
    elif kind == "count":
        about["total_episodes"] += 1
    elif kind == "more":
        about["total_episodes"] -= 1
    elif kind == "cut":
        data = (path / "data" / "main_data.hdf5").read_bytes()
        (path / "data" / "main_data.hdf5").write_bytes(data[: len(data) // 3])
    (path / "data" / "metadata.json").write_text("{" if kind == "text" else json.dumps(about))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("vector", "no uint8 frames"),
        ("continuous", "not numbered from 0"),
        ("count", "has 2 episodes, and metadata.json says 3"),
        ("more", "has 2 episodes, and metadata.json says 1"),
        ("cut", "cannot be read as HDF5"),
        ("text", "metadata.json"),
    ],
)
def test_broken_minari_datasets_are_refused(tmp_path, kind, message):
    store = make_store(tmp_path / "made", [2, 3])
    convert.main(convert.Args(store.path, tmp_path / "out", format="minari"))
    damage_minari(tmp_path / "out", kind)
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "out", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"obs_shape": [10**6, 10**6, 3]}, "its obs_shape"),
        ({"num_actions": "x"}, "its num_actions"),
        ({"hidden_size": 10**9}, "its hidden_size"),
        (None, "must say: num_actions"),
    ],
)
@pytest.mark.parametrize("format", ["midt", "minari"])
def test_a_file_that_claims_an_impossible_store_is_refused(tmp_path, format, changed, message):
    store = make_store(tmp_path / "made", [2, 3])
    target = tmp_path / ("out.h5" if format == "midt" else "out")
    convert.main(convert.Args(store.path, target, format=format))
    claimed = {} if changed is None else dict(store.manifest) | changed
    if format == "midt":
        with h5py.File(target, "a") as file:
            file.attrs["worldlens"] = json.dumps(claimed)
    else:
        file = target / "data" / "metadata.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"worldlens": claimed}))
    with pytest.raises(BadRecording, match=message):
        run(target, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nowhere", "out.h5", "there is nothing at nowhere"),
        ("memory://x", "out.h5", "memory://x is not on a disk"),
        ("here.h5", "s4://x/y", "s4://x/y cannot be reached|s4://x/y is not on a disk"),
    ],
)
def test_what_is_not_on_this_disk_is_refused(tmp_path, source, target, message):
    with pytest.raises(UsageError, match=message):
        convert.main(convert.Args(Path(source), tmp_path / target if "/" not in target else Path(target)))


def test_a_url_of_a_file_is_its_path(tmp_path):
    source = midt_file(tmp_path / "a.h5")
    convert.main(convert.Args(Path(f"file://{source}"), Path(f"file://{tmp_path}/store"), obs_shape=SHAPE))
    assert len(Rollouts.open(tmp_path / "store")) == 2


def test_a_target_that_another_process_writes_is_refused(tmp_path):
    source = midt_file(tmp_path / "a.h5")
    take = "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, 2); print(); sys.stdin.read()"
    command = [sys.executable, "-c", take, str(tmp_path / ".store.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UsageError, match="is being written by"):
            run(source, tmp_path / "store", obs_shape=SHAPE)
        other.communicate()
    assert len(run(source, tmp_path / "store", obs_shape=SHAPE)) == 2


@pytest.mark.parametrize(("format", "target"), [("midt", "out.h5"), ("minari", "out")])
def test_a_store_goes_to_no_place_that_another_process_writes(tmp_path, format, target):
    store = make_store(tmp_path / "made", [2])
    with open(tmp_path / f".{target}.lock", "w") as other:
        other.write("process 1 on a machine")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="is being written by process 1 on a machine"):
            convert.main(convert.Args(store.path, tmp_path / target, format=format))
    convert.main(convert.Args(store.path, tmp_path / target, format=format))


def test_a_damaged_attribute_of_a_store_is_refused(tmp_path, monkeypatch):
    store = make_store(tmp_path / "made", [2, 3])
    convert.main(convert.Args(store.path, tmp_path / "out.h5", format="midt"))

    def damaged(self, name, default=None):
        raise OSError("ran off end of input buffer while decoding")

    monkeypatch.setattr(h5py.AttributeManager, "get", damaged)
    with pytest.raises(BadRecording, match="the attribute worldlens of .* is damaged: ran off"):
        run(tmp_path / "out.h5", tmp_path / "back")
