"""Damaged stores: flipped bits, wrong types and lengths, and invalid descriptions end in one line."""

import base64
import hashlib
import json
import random

import h5py
import numpy as np
import pytest

from common.runs import UsageError
from rollouts import inspect_store
from rollouts import shard as shards
from rollouts.check import check_store
from rollouts.manifest import read_manifest, write_manifest
from rollouts.store import BadStore, Rollouts, create_store, write_shard
from tests.helpers.made_store import MANIFEST, make_shard, make_store

DEEP = "[" * 200_000


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", [3, 1, 5])


def one_line(call, *words) -> str:
    with pytest.raises((BadStore, UsageError)) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert [word for word in words if word not in message] == []
    return message


@pytest.mark.parametrize("name", ["manifest.json", "shard_00000.json"])
def test_every_flipped_bit_of_a_description_is_found(store, name):
    path = store.path / name
    draw = random.Random(0)
    whole = path.read_bytes()
    for at in draw.sample(range(len(whole)), 150):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        one_line(lambda: Rollouts.open(store.path), str(store.path))


@pytest.mark.parametrize("name", ["manifest.json", "shard_00000.json"])
@pytest.mark.parametrize(
    "text", ["", "null", "[]", "5", '"x"', "{", "{}", DEEP, '{"kind": ' + DEEP, "1" * 5000, "\x00"]
)
def test_what_is_no_description_is_one_line(store, name, text):
    (store.path / name).write_text(text)
    one_line(lambda: Rollouts.open(store.path), str(store.path))


WRONG = [None, [], {}, "x", -1, 10**9, 10**30, 2.5, True, [1, 2], [-1, 8, 3], [10**6, 10**6, 3], {"a": 1}]


@pytest.mark.parametrize(
    "field",
    [
        "num_actions",
        "noop",
        "hidden_size",
        "action_names",
        "obs_shape",
        "extra_step_fields",
        "extra_episode_fields",
    ],
)
def test_a_manifest_that_describes_no_store_names_the_entry(store, field):
    manifest = read_manifest(store.path)
    for value in WRONG + [
        {"sound": None},
        {"sound": {"dtype": "object", "shape": []}},
        {"sound": {"dtype": "float32", "shape": [10**30]}},
    ]:
        if not (field.startswith("extra") and value == {}):
            write_manifest(store.path, manifest | {field: value})
            one_line(lambda: Rollouts.open(store.path), "manifest.json is damaged", field)


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden_size", 4), ("num_actions", 4), ("obs_shape", [16, 16, 3]), ("extra_step_fields", {})],
)
def test_another_description_than_the_columns_have_is_found(store, field, value):
    changed = {field: value} | ({"action_names": list("abcd"), "noop": 0} if field == "num_actions" else {})
    write_manifest(store.path, read_manifest(store.path) | changed)
    if field == "extra_step_fields":
        assert "env_state" not in Rollouts.open(store.path).step_fields
    else:
        one_line(lambda: list(Rollouts.open(store.path).chunks("obs")))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("reward", lambda x: x.astype(np.float64)),
        ("action", lambda x: x.astype(np.int64)),
        ("obs", lambda x: x.astype(np.float32)),
        ("value", lambda x: x[:-1]),
        ("obs", lambda x: x[:-1]),
        ("hidden", lambda x: x[:, :2]),
        ("logits", lambda x: x[..., None]),
        ("terminated", lambda x: x.astype("u1")),
    ],
)
def test_every_column_has_its_declared_type_and_length(tmp_path, name, change):
    create_store(tmp_path / "s", MANIFEST)
    write_shard(tmp_path / "s", 0, *make_shard([3, 4]))
    entry = shards.read_entry(shards.entry_path(tmp_path / "s", 0))
    steps = make_shard([3, 4])[0]
    shards.write(tmp_path / "s", 0, steps | {name: change(steps[name])}, entry["episodes"])
    (finding,) = check_store(Rollouts.open(tmp_path / "s"))
    assert f"{name} is" in finding
    assert "is declared" in finding
    one_line(lambda: Rollouts.open(tmp_path / "s").windows(3).batch([0]), name)


def rewrite(store, change) -> None:
    """Changes an index entry and gives it a checksum that holds, as a program with a fault would."""
    path = shards.entry_path(store.path, 0)
    entry = json.loads(path.read_text())
    del entry["sha256"]
    change(entry)
    path.write_text(
        json.dumps(entry | {"sha256": hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()})
    )


@pytest.mark.parametrize("key", ["shard", "num_steps", "num_episodes", "data", "episodes"])
@pytest.mark.parametrize("value", [None, [], {}, "x", -1, 5, 10**30, 2.5])
def test_an_entry_whose_checksum_holds_is_checked_all_the_same(store, key, value):
    rewrite(store, lambda entry: entry.update({key: value}))
    one_line(lambda: Rollouts.open(store.path), "shard_00000")


@pytest.mark.parametrize(
    "column",
    [
        None,
        [],
        {},
        {"dtype": "int64"},
        {"dtype": "int64", "values": None},
        {"dtype": "int64", "values": [1]},
        {"dtype": "int64", "values": [3, 1, 10**30]},
        {"dtype": "object", "values": [3, 1, 5]},
        {"dtype": "float64", "values": [3.0, 1.0, 5.0]},
        {"dtype": "int64", "values": [3, -1, 7]},
        {"dtype": "int64", "values": [3, 1, 6]},
        {"dtype": "int64", "shape": [10**9, 10**9], "base64": ""},
        {"dtype": "int64", "shape": [3], "base64": "!"},
        {"dtype": "int64", "shape": [3, 1], "base64": base64.b64encode(bytes(24)).decode()},
    ],
)
def test_an_episode_column_that_does_not_fit_is_one_line(store, column):
    rewrite(store, lambda entry: entry["episodes"].update(length=column))
    one_line(lambda: Rollouts.open(store.path), "shard_00000.json is damaged")


@pytest.mark.parametrize("offset", [[0, 3, 5], [0, 3, 2**31], [-1, 3, 4]])
def test_episodes_begin_where_their_lengths_say(store, offset):
    column = {"dtype": "int64", "values": offset}
    rewrite(store, lambda entry: entry["episodes"].update(offset=column))
    one_line(lambda: Rollouts.open(store.path), "does not fit the manifest in offset")


def test_an_entry_names_no_other_file(store):
    (store.path.parent / "other.h5").write_bytes((store.path / "shard_00000.h5").read_bytes())
    rewrite(store, lambda entry: entry["data"].update(file="../other.h5"))
    one_line(lambda: Rollouts.open(store.path), "names the data file ../other.h5")


def test_a_data_file_of_another_kind_is_one_line(store):
    with h5py.File(store.path / "shard_00000.h5", "r+") as file:
        del file["value"]
        file.create_group("value")
    one_line(lambda: store.steps("value"), "shard_00000.h5 cannot be read")


def test_a_store_from_before_checksums_opens_and_says_what_is_unverified(store, capsys):
    manifest = read_manifest(store.path) | {"schema": 1}
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    create_store(store.path, MANIFEST)  # as the same command again would
    assert json.loads((store.path / "manifest.json").read_text()) == manifest
    inspect_store.main(inspect_store.Args(store.path, check=True))
    assert "has no checksum: what it says is unverified" in capsys.readouterr().out


def test_replay_names_what_is_missing(store):
    one_line(lambda: inspect_store.replay_findings(store, 1), "its manifest has no 'env'")
    one_line(
        lambda: inspect_store.replay_findings(store, -2),
        "--replay is -2: give how many episodes, or -1 for all",
    )
    for env in ({"env_name": "pong"}, {"env_name": []}, {"sound": 1}, {"num_levels": "x"}):
        write_manifest(store.path, read_manifest(store.path) | {"env": env})
        one_line(
            lambda: inspect_store.replay_findings(Rollouts.open(store.path), 1),
            "a game that this version does not have",
        )
