"""Checkpoints are complete or absent, round-trip their content, and never execute code."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from common.checkpoints import (
    BadCheckpoint,
    load_checkpoint,
    load_module,
    load_optimizer,
    load_training_state,
    optimizer_tensors,
    save_checkpoint,
    with_prefix,
    without_prefix,
    write_atomically,
    write_json,
    write_text,
)


def test_what_goes_in_comes_out(tmp_path):
    tensors = {
        "a": torch.randn(3, 4).t(),
        "b/c": torch.tensor([1, 2], dtype=torch.int64),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    meta = {"kind": "test", "nested": {"list": [1, None, "ü"]}}
    save_checkpoint(tmp_path / "deep" / "x.safetensors", tensors, meta)
    again, description = load_checkpoint(tmp_path / "deep" / "x.safetensors")
    assert description == meta
    assert again.keys() == tensors.keys()
    assert all(
        torch.equal(again[name], tensors[name]) and again[name].dtype == tensors[name].dtype
        for name in tensors
    )


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def fails(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device", str(temporary))

    with pytest.raises(OSError):
        write_atomically(path, fails)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_what_a_killed_write_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    (tmp_path / ".x.txt.killed.part").write_text("half")
    (tmp_path / ".y.txt.killed.part").write_text("of another file")

    def within(temporary):
        write_text(tmp_path / "x.txt", "inner")  # another process would do the same
        temporary.write_text("outer")

    write_atomically(tmp_path / "x.txt", within)
    assert (tmp_path / "x.txt").read_text() == "outer"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".y.txt.killed.part", "x.txt"]


def test_json_keeps_its_order(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": [2]})
    text = (tmp_path / "x.json").read_text()
    assert text.endswith("\n")
    assert list(json.loads(text)) == ["b", "a"]


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.99])
def test_truncated_files_are_named(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.randn(500)}, {"kind": "test"})
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(BadCheckpoint, match="not a whole safetensors file"):
        load_checkpoint(path)


def test_other_files_are_named(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors at all, only text that is long enough")
    (tmp_path / "theirs.pth").write_bytes(b"anything")
    messages = {
        "foreign.safetensors": "not written by",
        "text.safetensors": "not a whole",
        "theirs.pth": "agents.convert",
    }
    for name, message in (
        messages | {"none.safetensors": "no checkpoint file", "": "no checkpoint file"}
    ).items():
        with pytest.raises(BadCheckpoint, match=message):
            load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("change", ["missing", "absent", "shape"])
def test_another_architecture_is_named(change):
    module = torch.nn.Linear(3, 2)
    tensors = dict(module.state_dict())
    if change == "missing":
        del tensors["bias"]
    else:
        tensors |= {"extra": torch.zeros(1)} if change == "absent" else {"weight": torch.zeros(2, 4)}
    named = dict(missing="bias", absent="extra", shape="weight")[change]
    with pytest.raises(BadCheckpoint, match=f"file.safetensors is of another architecture: {named} is"):
        load_module(module, tensors, "file.safetensors")


def test_prefixes_split_what_they_joined():
    one = {"x": torch.zeros(1)}
    other = {"x": torch.ones(1), "y/z": torch.ones(2)}
    joined = with_prefix("one", one) | with_prefix("onetoo", other)
    assert without_prefix("one", joined) == one
    assert without_prefix("onetoo", joined).keys() == other.keys()


def test_a_restored_optimiser_goes_on_alike():
    def model():
        torch.manual_seed(0)
        module = torch.nn.Linear(4, 4)
        return module, torch.optim.Adam(module.parameters(), lr=0.1)

    def train(module, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            module(torch.ones(1, 4)).square().sum().backward()
            optimizer.step()

    whole, whole_optimizer = model()
    train(whole, whole_optimizer, 5)
    begun, begun_optimizer = model()
    train(begun, begun_optimizer, 3)
    resumed, resumed_optimizer = model()
    resumed.load_state_dict(begun.state_dict())
    forgetful, forgetful_optimizer = model()
    forgetful.load_state_dict(begun.state_dict())
    load_optimizer(resumed_optimizer, optimizer_tensors(begun_optimizer))
    train(resumed, resumed_optimizer, 2)
    train(forgetful, forgetful_optimizer, 2)
    assert torch.equal(resumed.weight, whole.weight)
    assert not torch.equal(forgetful.weight, whole.weight)


def test_a_full_disk_is_an_os_error_that_names_the_file(tmp_path, monkeypatch):
    """Whatever library notices it, and however its errors are made."""

    class Stubborn(OSError):
        filename = property(lambda self: None)

    def write(temporary):
        raise Stubborn(28, "No space left on device")

    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "a", write)
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "a"))
    assert not list(tmp_path.iterdir())


def test_damaged_descriptions_are_named(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"worldlens": "{broken"})
    with pytest.raises(BadCheckpoint, match="the description in .*a.safetensors is damaged"):
        load_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(
        BadCheckpoint, match="cannot be resumed: delete a.safetensors to begin this run again"
    ):
        load_training_state(tmp_path / "a.safetensors", "any")


def test_a_lost_training_state_names_the_last_checkpoint_beside_it(tmp_path):
    for name in ("model_9", "model_100", "model_20", "model_best"):
        (tmp_path / f"{name}.safetensors").write_text("")
    with pytest.raises(
        BadCheckpoint,
        match=f"with --agent_file {tmp_path / 'model_100.safetensors'}, or delete train_state.safetensors",
    ):
        load_training_state(tmp_path / "train_state.safetensors", "any")


def test_a_single_number_whose_stride_is_0_is_saved(tmp_path):
    save_checkpoint(tmp_path / "one.safetensors", {"total": torch.from_numpy(np.trace(np.eye(3))[None])}, {})
    assert load_checkpoint(tmp_path / "one.safetensors")[0]["total"].tolist() == [3.0]
