"""Stores round-trip their content, name what is damaged, and ignore partial shards."""

import errno
import json
import os
import pickle
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rollouts.store
from common.cli import run_main
from common.locks import held
from common.runs import UsageError
from rollouts import shard as shards
from rollouts.check import check_store
from rollouts.fields import derive
from rollouts.manifest import write_manifest
from rollouts.store import BadStore, Rollouts, create_store, shard_done, unwritten, write_shard
from tests.helpers.made_store import MANIFEST, NOOP, make_shard, make_store

LENGTHS = ([3, 1, 45], [2, 70])


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", *LENGTHS)


def pieces():
    """What the store fixture was given, shard by shard."""
    return [make_shard(lengths, seed=i, first_id=1000 * i) for i, lengths in enumerate(LENGTHS)]


def test_columns_come_back_as_written(store):
    for name in pieces()[0][0]:
        written = np.concatenate([steps[name] for steps, _ in pieces()])
        read = store.steps(name)
        assert read.dtype == written.dtype
        np.testing.assert_array_equal(read, written)
    for name in pieces()[0][1]:
        np.testing.assert_array_equal(
            store.episodes[name], np.concatenate([episodes[name] for _, episodes in pieces()])
        )


def test_episode_table_says_what_the_steps_say(store):
    rewards = np.split(store.steps("reward"), store.first_step[1:])
    np.testing.assert_array_equal(store.episodes["return"], [r.astype(np.float64).sum() for r in rewards])
    assert store.episodes["end"].tolist() == ["terminated", "truncated", "cut", "terminated", "truncated"]
    assert store.episodes["shard"].tolist() == [0, 0, 0, 1, 1]
    assert store.episodes["offset"].tolist() == [0, 3, 4, 0, 2]
    assert store.first_step.tolist() == [0, 3, 4, 49, 51]
    assert (len(store), store.num_steps) == (5, 121)


def test_episode_is_its_slice_of_the_columns(store):
    for i, (begin, length) in enumerate(zip(store.first_step, store.episodes["length"])):
        episode = store.episode(i)
        for name in store.step_fields.keys() - {"hidden"}:
            np.testing.assert_array_equal(episode[name], store.steps(name)[begin : begin + length])
        assert len(episode["hidden"]) == length + 1
        np.testing.assert_array_equal(episode["hidden"][:-1], store.steps("hidden")[begin : begin + length])
        np.testing.assert_array_equal(episode["hidden"][-1], store.episodes["final_hidden"][i])


def test_hidden_after_is_the_state_after_each_observation(store):
    expected = np.concatenate([store.episode(i)["hidden"][1:] for i in range(len(store))])
    np.testing.assert_array_equal(store.hidden_after(), expected)
    assert not np.array_equal(store.steps("hidden"), expected)
    assert not np.array_equal(np.roll(store.steps("hidden"), -1, axis=0), expected)  # runs over episode ends


def test_step_table_names_every_step(store):
    table = store.step_table()
    for at in (0, 2, 3, 4, 48, 49, 120):
        episode, t = table[at]
        np.testing.assert_array_equal(store.episode(episode)["obs"][t], store.steps("obs")[at])


def test_rows_in_any_order_with_repeats(store):
    rows = np.array([70, 3, 4, 5, 3, 0, 71, 70])
    np.testing.assert_array_equal(store.shard(1).rows("obs", rows), pieces()[1][0]["obs"][rows])
    assert store.shard(1).rows("obs", np.array([], int)).shape == (0, 8, 8, 3)


def test_chunks_are_the_shards(store):
    assert [len(chunk) for chunk in store.chunks("obs")] == [49, 72]
    with pytest.raises(ValueError, match="no step field 'pixels'"):
        store.steps("pixels")


def test_id_depends_on_content_and_on_nothing_else(store, tmp_path):
    assert Rollouts.open(store.path).id == store.id == make_store(tmp_path / "same", *LENGTHS).id
    assert pickle.loads(pickle.dumps(store)).id == store.id
    assert make_store(tmp_path / "fewer", LENGTHS[0]).id != store.id
    create_store(tmp_path / "other", MANIFEST)
    steps, episodes = make_shard(LENGTHS[0])
    write_shard(tmp_path / "other", 0, steps, episodes | {"level_seed": episodes["level_seed"] + 1})
    assert Rollouts.open(tmp_path / "other").id != Rollouts.open(tmp_path / "fewer").id


def test_writing_a_shard_again_changes_nothing(store):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.path.iterdir()}
    write_shard(store.path, 0, *make_shard([1], seed=9))
    create_store(store.path, MANIFEST)
    assert {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.path.iterdir()
    } == before


def test_another_manifest_is_refused_with_what_differs_and_nothing_else(tmp_path):
    mine = MANIFEST | {"plan": {"seed": 0, "range": {"start": 1, "num": 5}}, "policies": ["a" * 16] * 40}
    create_store(tmp_path, mine)
    for changed, difference in (
        ({"noop": 3}, "noop = 4, not 3"),
        ({"sound": {"rate": 8, "channels": 2}}, "sound = None, not {rate, channels}"),
        (
            {"noop": 3, "plan": {"seed": 1, "range": {"start": 1, "num": 6}}},
            "noop = 4, not 3; plan.range.num = 5, not 6; plan.seed = 0, not 1",
        ),
    ):
        with pytest.raises(UsageError) as caught:
            create_store(tmp_path, mine | changed)
        assert (
            str(caught.value)
            == f"{tmp_path} was made with {difference}: choose another name or delete that store"
        )
    with pytest.raises(UsageError) as caught:
        create_store(tmp_path, mine | {"policies": ["b"]})
    assert len(str(caught.value)) < len(str(tmp_path)) + 200
    assert "policies = ['aaaa" in str(caught.value)
    with pytest.raises(ValueError, match="must say: hidden_size"):
        create_store(tmp_path, {k: v for k, v in MANIFEST.items() if k != "hidden_size"})


def test_jobs_that_start_at_once_share_a_store(tmp_path):
    (tmp_path / ".manifest.json.x1.part").write_text("half")  # the other job is just writing it
    create_store(tmp_path, MANIFEST)
    assert (tmp_path / "manifest.json").exists()


def test_a_shard_is_made_by_one_process_at_a_time(tmp_path):
    create_store(tmp_path, MANIFEST)
    write_shard(tmp_path, 0, *make_shard([3]))
    made = []
    for index in unwritten(tmp_path, range(3)):
        assert (tmp_path / f".shard_{index:05d}.lock").exists()
        write_shard(tmp_path, index, *make_shard([3]))
        made.append(index)
    assert made == [1, 2]
    assert not list(tmp_path.glob("*.lock"))
    lock = tmp_path / ".shard_00004.lock"
    take = (
        "import sys; from pathlib import Path; from common.locks import hold; kept ="
        " hold(Path(sys.argv[1])); print(); sys.stdin.read()"
    )
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen(
        [sys.executable, "-c", take, str(lock)], cwd=Path(__file__).parents[2], **pipes
    ) as other:
        other.stdout.readline()
        asked = unwritten(tmp_path, range(3, 6))
        assert next(asked) == 3
        with pytest.raises(
            UsageError, match=f"shard 4 of .* is being made by process {other.pid} on .*--job"
        ):
            next(asked)
        assert next(unwritten(tmp_path, [5])) == 5
        other.kill()
    assert next(unwritten(tmp_path, [4])) == 4


def test_a_shard_that_another_process_has_just_made_is_not_made_again(tmp_path, monkeypatch):
    create_store(tmp_path, MANIFEST)

    @contextmanager
    def late(lock):
        write_shard(tmp_path, 0, *make_shard([3]))
        yield

    monkeypatch.setattr(rollouts.store, "lock", late)
    assert list(unwritten(tmp_path, [0])) == []


def test_a_directory_of_other_things_is_refused(tmp_path):
    (tmp_path / "holiday.txt").write_text("sun")
    with pytest.raises(UsageError, match="holds no store"):
        create_store(tmp_path, MANIFEST)


def spoiled(change):
    steps, episodes = make_shard([3, 4])
    change(steps, episodes)
    return steps, episodes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, e: s.pop("done_prob"), "missing .'done_prob'"),
        (lambda s, e: s.update(sound=s["value"]), "undeclared .'sound'"),
        (lambda s, e: e.pop("latent"), "missing .'latent'"),
        (lambda s, e: s.update(logits=s["logits"][:, 1:]), "logits has shape"),
        (
            lambda s, e: s.update(action=s["action"].astype(int) + 300),
            "action holds int64 values that uint8 cannot",
        ),
        (lambda s, e: s["terminated"].__setitem__(0, True), "goes on after"),
        (lambda s, e: s["truncated"].__setitem__(2, True), "one end"),
        (lambda s, e: e.update(length=np.array([3, 5])), "cannot describe 7 steps"),
        (lambda s, e: e.update(length=np.array([0, 7])), "cannot describe 7 steps"),
        (lambda s, e: e.update({"return": np.zeros(2)}), "'return' disagrees"),
    ],
)
def test_steps_and_episodes_that_do_not_fit_are_refused(tmp_path, change, message):
    create_store(tmp_path / "s", MANIFEST)
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path / "s", 0, *spoiled(change))
    assert not shard_done(tmp_path / "s", 0)


def test_derived_columns_may_be_given_when_right(tmp_path):
    create_store(tmp_path / "s", MANIFEST)
    steps, episodes = make_shard([3, 4])
    write_shard(tmp_path / "s", 0, steps, episodes | derive(steps, episodes))
    assert shard_done(tmp_path / "s", 0)


def exchange(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "manifest.json").unlink(), "no store of rollouts at .* record one"),
        (lambda p: (p / "manifest.json").write_text("{"), "foreign or damaged"),
        (lambda p: (p / "manifest.json").write_text("[]"), "foreign or damaged"),
        (lambda p: (p / "manifest.json").write_text('{"kind": "minari", "schema": 1}'), "holds 'minari'"),
        (
            lambda p: (p / "manifest.json").write_text('{"kind": "worldlens rollouts", "schema": 99}'),
            "schema 99",
        ),
        (lambda p: os.truncate(p / "shard_00001.json", 900), "shard_00001.json is damaged.*delete"),
        (lambda p: (p / "shard_00001.json").write_text("[1]"), "is damaged"),
        (lambda p: exchange(p / "shard_00001.json", '"abc"', '"abd"'), "its own checksum"),
        (lambda p: (p / "shard_00000.h5").unlink(), "0 bytes of .* delete shard_00000.json"),
        (lambda p: os.truncate(p / "shard_00000.h5", 5000), "5000 bytes of .*truncated"),
        (lambda p: [entry.unlink() for entry in p.glob("shard*.json")], "holds no episodes yet"),
    ],
)
def test_a_bad_store_is_named_in_one_line(store, damage, message):
    damage(store.path)
    with pytest.raises(BadStore, match=message) as caught:
        Rollouts.open(store.path)
    assert "\n" not in str(caught.value)


def flip_frames(store):
    """Damages bytes among the compressed frames of shard 0 without changing the file's size."""
    path = shards.data_path(store.path, 0)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(255 - byte for byte in data[middle : middle + 64])
    path.write_bytes(data)


def test_check_finds_flipped_bytes_that_open_does_not(store):
    assert list(check_store(store)) == []
    flip_frames(store)
    findings = list(check_store(Rollouts.open(store.path)))
    assert len(findings) == 1
    assert "shard_00000.h5: its bytes do not match" in findings[0]


def test_undecodable_frames_are_a_bad_store(store):
    path = shards.data_path(store.path, 0)
    image = path.read_bytes()
    magic = b"\x28\xb5\x2f\xfd"  # opens every zstd frame
    assert magic in image
    path.write_bytes(image.replace(magic, b"\0\0\0\0"))
    with pytest.raises(BadStore, match="--check"):
        Rollouts.open(store.path).steps("obs")


def set_nan(s, e):
    s["logits"][2] = np.nan


def drop_reset(s, e):
    s["hidden"][3] = 1


def early_end(s, e):
    s["terminated"][0] = True


def nan_in_part_of_value(s, e):
    s["value"][1] = np.nan


def foreign_action(s, e):
    s["action"][0] = 200


def impossible_log_prob(s, e):
    s["log_prob"][0] = 0.5


def same_id(s, e):
    e["id"][1] = e["id"][0]


@pytest.mark.parametrize(
    ("plant", "finding"),
    [
        (set_nan, "'logits' holds NaN"),
        (drop_reset, "different hidden states"),
        (early_end, "goes on after"),
        (same_id, "same id"),
        (foreign_action, "not among the 5"),
        (impossible_log_prob, "above zero"),
        (nan_in_part_of_value, "'value' is NaN"),
    ],
)
def test_check_finds_each_planted_fault(tmp_path, plant, finding):
    create_store(tmp_path / "s", MANIFEST)
    steps, episodes = make_shard([3, 4])
    derived = derive(steps, episodes)
    plant(steps, episodes)
    # as a faulty program would, past write_shard's own checks
    shards.write(tmp_path / "s", 0, steps, episodes | derived)
    assert finding in " ".join(check_store(Rollouts.open(tmp_path / "s")))


def test_check_finds_returns_and_ends_that_do_not_follow(tmp_path):
    create_store(tmp_path / "s", MANIFEST)
    steps, episodes = make_shard([3, 4])
    wrong = {"offset": np.array([0, 3]), "return": np.zeros(2), "end": np.array(["cut", "cut"])}
    shards.write(tmp_path / "s", 0, steps, episodes | wrong)
    findings = " ".join(check_store(Rollouts.open(tmp_path / "s")))
    assert "'return' disagrees" in findings
    assert "'end' disagrees" in findings
    assert "'offset'" not in findings


def test_a_policy_without_a_value_is_sound(tmp_path):
    create_store(tmp_path / "s", MANIFEST)
    steps, episodes = make_shard([3, 4])
    write_shard(tmp_path / "s", 0, steps | {"value": np.full(7, np.nan, np.float32)}, episodes)
    assert list(check_store(Rollouts.open(tmp_path / "s"))) == []


@pytest.mark.parametrize("fails_at", ["shard_00000.h5", "shard_00000.json"])
def test_a_full_disk_leaves_no_shard_that_counts(tmp_path, monkeypatch, fails_at):
    path = tmp_path / "s"
    create_store(path, MANIFEST)
    replace = os.replace

    def full(source, target):
        if str(target).endswith(fails_at):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SystemExit, match="No space left on device .*shard_00000.*run the same command again"):
        run_main(lambda args: write_shard(path, 0, *make_shard([3, 4])), SimpleNamespace())
    assert not shard_done(path, 0)
    with pytest.raises(BadStore, match="no episodes yet"):
        Rollouts.open(path)
    monkeypatch.undo()
    write_shard(path, 0, *make_shard([3, 4]))
    assert Rollouts.open(path).num_steps == 7


def test_leftovers_of_a_killed_run_go_with_the_next_write(tmp_path):
    path = tmp_path / "s"
    create_store(path, MANIFEST)
    own = path / ".shard_00000.h5.x1.part"
    others = path / ".shard_00001.h5.x2.part"
    own.write_bytes(b"half"), others.write_bytes(b"half")
    write_shard(path, 0, *make_shard([3]))
    assert not own.exists()
    assert others.exists()


def test_a_lock_that_a_killed_run_left_behind_its_shard_is_removed_and_a_held_one_is_not(tmp_path):
    path = tmp_path / "s"
    create_store(path, MANIFEST)
    write_shard(path, 0, *make_shard([3]))
    (path / ".shard_00000.lock").touch()
    with held(path / ".shard_00001.lock"):
        assert list(unwritten(path, [0])) == []
        assert [file.name for file in path.glob(".*")] == [".shard_00001.lock"]


def test_many_episodes_open_quickly(tmp_path):
    create_store(tmp_path / "s", MANIFEST)
    for index in range(8):
        write_shard(tmp_path / "s", index, *make_shard(np.ones(256, int), seed=index, first_id=256 * index))
    began = time.process_time()
    assert len(Rollouts.open(tmp_path / "s")) == 2048
    assert time.process_time() - began < 0.5


def test_manifest_is_kept_and_versions_are_added(store):
    written = json.loads((store.path / "manifest.json").read_text())
    assert written["noop"] == NOOP
    assert written["made"]["packages"]["numpy"] == np.__version__


def test_simulated_episodes_may_begin_anywhere_and_open_nothing(tmp_path):
    """A simulated episode begins in mid-episode with the state of that moment: nothing may reset it there."""
    for name, manifest in (("real", MANIFEST), ("simulated", MANIFEST | {"simulated": True})):
        create_store(tmp_path / name, manifest)
        steps, episodes = make_shard([3, 4])
        drop_reset(steps, episodes)
        write_shard(tmp_path / name, 0, steps, episodes)
    real, simulated = (Rollouts.open(tmp_path / name) for name in ("real", "simulated"))
    assert "different hidden states" in " ".join(check_store(real))
    assert not list(check_store(simulated))
    opens = [store.windows(2).batch([0, 3]).first for store in (real, simulated)]
    assert opens[0][0].all()
    assert not opens[1].any()


def test_a_damaged_shard_does_not_count_as_done(tmp_path):
    store = make_store(tmp_path / "s", [3, 4])
    assert shard_done(store.path, 0)
    assert not shard_done(store.path, 1)
    data = shards.data_path(store.path, 0)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(BadStore, match="truncated"):
        shard_done(store.path, 0)


def test_a_manifest_that_lacks_what_it_must_say_is_refused(tmp_path):
    store = make_store(tmp_path / "s", [3])
    manifest = json.loads((store.path / "manifest.json").read_text())
    del manifest["noop"]
    write_manifest(store.path, manifest)
    with pytest.raises(BadStore, match="manifest.json is damaged: the manifest of a store must say: noop"):
        Rollouts.open(store.path)
