"""Damaged weights and invalid network descriptions are refused in one line before anything is built."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import interpolation_exp
import record_gen_samples
from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from common.checkpoints import (
    BadCheckpoint,
    load_checkpoint,
    load_optimizer,
    load_training_state,
    resuming,
    save_checkpoint,
)
from common.integrity import at_most
from generative.model.world_model_file import load_world_model, read_world_model
from generative.simulator_file import load_simulator
from tests.helpers.toy_simulator import save_toy_files

PUBLISHED = Path(__file__).parents[2] / "pretrained" / "coinrun_blink_200" / "ff"


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    path = tmp_path_factory.mktemp("toys")
    save_toy_files(path)
    return path


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "x.safetensors"
    draw = random.Random(0)
    tensors = {
        "a": torch.randn(5),
        "b": torch.arange(3),
        "c": torch.tensor([True, False]),
        "d": torch.randn(2, 2).bfloat16(),
    }
    save_checkpoint(path, tensors, {"kind": "tést", "sizes": [1, 2.5, None]})
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(flipped(whole, at, draw.randrange(8)))
        with pytest.raises(BadCheckpoint) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    assert load_checkpoint(path)[1]["kind"] == "tést"


@pytest.mark.parametrize(
    ("name", "load"), [("agent", load_agent), ("model", load_world_model), ("model", read_world_model)]
)
def test_a_flipped_bit_of_a_network_is_found_by_its_loader(toys, tmp_path, name, load):
    whole = (toys / f"{name}.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(flipped(whole, len(whole) - 1001, 2))
    with pytest.raises(BadCheckpoint, match="x.safetensors is damaged: it does not match its checksum"):
        load(tmp_path / "x.safetensors")


def test_a_file_from_before_checksums_is_held_against_its_provenance(tmp_path, caplog):
    for name in ("model.safetensors", "provenance.json", "checkpoints/model_0.safetensors"):
        (tmp_path / "shipped" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PUBLISHED / name, tmp_path / "shipped" / name)
    for name in ("model.safetensors", "checkpoints/model_0.safetensors"):
        path = tmp_path / "shipped" / name
        load_agent(path)
        assert not caplog.records
        path.write_bytes(flipped(path.read_bytes(), 2_000_000, 0))
        with pytest.raises(BadCheckpoint, match="does not match its checksum"):
            load_agent(path)
        shutil.copy(path, tmp_path / "alone.safetensors")
        # as docs/data_format.md says: nothing is there to hold it against
        load_agent(tmp_path / "alone.safetensors")
        assert "alone.safetensors is from before there were checksums" in caplog.text
        caplog.clear()


def test_tensors_that_share_memory_come_back_equal(tmp_path):
    b = torch.randn(6)
    tensors = {"a": b, "b": b, "head": b[:2], "tail": b[2:], "rows": b.view(2, 3), "turned": b.view(2, 3).t()}
    save_checkpoint(tmp_path / "x.safetensors", tensors, {})
    found = load_checkpoint(tmp_path / "x.safetensors")[0]
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_the_same_tensors_make_the_same_file(tmp_path):
    tensors = {name: torch.randn(3) for name in "abcdef"}
    for name in "12":
        save_checkpoint(tmp_path / name, tensors, {"kind": "test"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def spoil(source: Path, target: Path, value: float) -> None:
    tensors, meta = load_checkpoint(source)
    tensors[list(tensors)[-1]].view(-1)[-1] = value
    save_checkpoint(target, tensors, meta)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "load"), [("agent", load_agent), ("model", load_world_model), ("model", read_world_model)]
)
def test_weights_that_are_not_finite_are_refused(toys, tmp_path, name, load, value):
    spoil(toys / f"{name}.safetensors", tmp_path / "x.safetensors", value)
    with pytest.raises(BadCheckpoint, match="x.safetensors is damaged: .* holds NaN or infinity"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("script", [record_gen_samples, interpolation_exp])
def test_nothing_is_written_of_weights_that_are_not_finite(toys, tmp_path, script):
    spoil(toys / "model.safetensors", tmp_path / "model.safetensors", float("nan"))
    with pytest.raises(BadCheckpoint, match="holds NaN"):
        script.main(
            script.Args(
                tmp_path / "model.safetensors",
                toys / "agent.safetensors",
                toys / "store",
                device="cpu",
                out_dir=tmp_path / "made",
            )
        )
    assert not (tmp_path / "made").exists()


def test_an_optimisers_state_that_is_not_finite_cannot_be_resumed(tmp_path):
    words = r"damaged \(the optimiser's state is damaged: 0/exp_avg holds NaN.*so this run cannot be resumed"
    with pytest.raises(BadCheckpoint, match=words), resuming(tmp_path / "train_state.safetensors"):
        load_optimizer(None, {"0/exp_avg": torch.tensor([float("nan")])})


def test_a_training_state_of_another_kind_cannot_be_resumed(tmp_path):
    save_checkpoint(tmp_path / "train_state.safetensors", {}, {"kind": "agent"})
    with pytest.raises(BadCheckpoint, match=r"damaged \(it holds 'agent'\), so this run cannot be resumed"):
        load_training_state(tmp_path / "train_state.safetensors", "training state")


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize(
    "text", ["null", "[]", "5", '"agent"', "{", "", "\x00", DEEP, '{"kind": ' + DEEP + "}", "1" * 5000, "NaN"]
)
def test_a_description_that_is_no_mapping_is_one_line(tmp_path, text):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"worldlens": text})
    for load in (load_agent, load_world_model, load_checkpoint):
        with pytest.raises(BadCheckpoint) as caught:
            load(tmp_path / "x.safetensors")
        assert "x.safetensors" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


WRONG = (None, [], {}, "wide", -1, 0, 2.5, True, 10**9, 10**30, float("nan"), [1], {"a": 1})


@pytest.mark.parametrize(
    ("name", "part", "load"), [("agent", "network", load_agent), ("model", "model", load_world_model)]
)
def test_a_description_of_no_network_names_the_field_before_memory_is_asked_for(
    toys, tmp_path, name, part, load
):
    meta = load_checkpoint(toys / f"{name}.safetensors")[1]
    tensors = {f"{name}/weight": torch.zeros(3)}
    right = meta[part]

    def refused(value) -> str:
        save_checkpoint(tmp_path / "x.safetensors", tensors, meta | {part: value})
        with pytest.raises(BadCheckpoint) as caught:
            load(tmp_path / "x.safetensors")
        assert "x.safetensors" in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for value in (
        None,
        [],
        5,
        "x",
        {},
        {k: v for k, v in right.items() if k != "num_actions"},
        right | {"sound": 1},
    ):
        refused(value)
    for field in ("hidden_size", "num_actions", "obs_shape", "feature_size" if name == "agent" else "units"):
        assert all(field in refused(right | {field: value}) for value in WRONG)
        refused(right | {field: [2**15, 2**15, 3] if field == "obs_shape" else 2**15})


def test_a_network_is_refused_before_it_has_the_memory():
    sizes = NetworkConfig(3, (8, 8, 3), hidden_size=2**16, feature_size=2**16)  # 400 GB
    with pytest.raises(ValueError, match="ask for more than the 1,000 numbers"), at_most(1000):
        ActorCritic(sizes)
    with at_most(10**6):
        ActorCritic(NetworkConfig(3, (8, 8, 3), feature_size=8, hidden_size=8))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_weights_of_another_type_are_refused(tmp_path, dtype):
    agent = ActorCritic(NetworkConfig(3, (8, 8, 3), feature_size=8, hidden_size=8))
    save_agent(tmp_path / "x.safetensors", agent, {})
    tensors, meta = load_checkpoint(tmp_path / "x.safetensors")
    save_checkpoint(
        tmp_path / "x.safetensors",
        tensors | {"agent/policy_head.bias": tensors["agent/policy_head.bias"].to(dtype)},
        meta,
    )
    with pytest.raises(
        BadCheckpoint, match=f"policy_head.bias is {dtype} in the file and torch.float32 in the network"
    ):
        load_agent(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "load", "wrong"),
    [
        ("agent", load_agent, {"env": 5}),
        ("agent", load_agent, {"action_names": [1]}),
        ("model", load_world_model, {"env": []}),
        ("model", load_world_model, {"noop": "none"}),
        ("model", load_world_model, {"agent": None}),
        ("model", load_world_model, {"batches": 1.5}),
    ],
)
def test_entries_of_a_description_are_of_their_kind(toys, tmp_path, name, load, wrong):
    tensors, meta = load_checkpoint(toys / f"{name}.safetensors")
    save_checkpoint(tmp_path / "x.safetensors", tensors, meta | wrong)
    with pytest.raises(
        BadCheckpoint, match=f"x.safetensors is damaged: its {next(iter(wrong))} is .*; expected"
    ):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "wrong", [{"noop": 99}, {"noop": -1}, {"action_names": ["a"]}, {"agent": {}}, {"agent": {"id": 5}}]
)
def test_a_simulator_needs_its_agent_and_its_actions(toys, tmp_path, wrong):
    tensors, meta = load_checkpoint(toys / "model.safetensors")
    save_checkpoint(tmp_path / "x.safetensors", tensors, meta | wrong)
    with pytest.raises(BadCheckpoint, match="x.safetensors is damaged"):
        load_simulator(tmp_path / "x.safetensors", toys / "agent.safetensors")


def test_a_published_file_reads_as_before():
    tensors, meta = load_checkpoint(PUBLISHED / "model.safetensors")
    assert meta["kind"] == "agent"
    assert json.dumps(meta["network"])
    assert len(tensors) > 10
