"""Invalid foreign weights end in one line; names that a wrapper prefixed are understood."""

import contextlib
import json
import random

import pytest
import torch

from agents.actor_critic import ActorCritic, NetworkConfig, load_agent
from agents.convert import Args, load_name_map, main
from agents.state_dicts import read_state_dict
from common.checkpoints import BadCheckpoint
from common.runs import UsageError

HEAD = "policy_head.weight"


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return ActorCritic(NetworkConfig(15, architecture="nature", feature_size=8, hidden_size=4)).state_dict()


def convert(tmp_path, tensors, **flags):
    torch.save(tensors, tmp_path / "theirs.pth")
    main(Args(tmp_path / "theirs.pth", tmp_path / "ours.safetensors", **flags))
    return load_agent(tmp_path / "ours.safetensors")[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.to_sparse(), "is sparse"),
        (lambda x: x.to_sparse_csr(), "is sparse"),
        (lambda x: x.to(torch.complex64), "is complex"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "is quantised"),
        (lambda x: x[:1].expand(10**7, -1), r"is expanded: its shape \(10000000, 4\)"),
        (lambda x: x / 0, "holds NaN or infinity"),
        (lambda x: x.double() * 1e300, "holds NaN or infinity"),
        (lambda x: x[0], "must have two dimensions"),
    ],
)
def test_what_is_no_plain_tensor_of_finite_numbers_is_one_line(tmp_path, weights, change, message):
    with pytest.raises((BadCheckpoint, UsageError), match=message) as caught:
        convert(tmp_path, weights | {HEAD: change(weights[HEAD])})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_network_of_another_size_than_its_tensors_is_refused(tmp_path, weights):
    rows = torch.zeros(2**17, 1)
    with pytest.raises(UsageError, match="make no network: feature_size is 131072"):
        convert(tmp_path, weights | {"encoder.out.weight": rows})


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_of_wrappers_are_stripped(tmp_path, weights, prefix):
    found = convert(tmp_path, {prefix + name: tensor for name, tensor in weights.items()}).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_a_compiled_part_is_read(tmp_path, weights):
    inner = {name.replace("core.", "core._orig_mod."): tensor for name, tensor in weights.items()}
    assert any("_orig_mod" in name for name in inner)
    assert torch.equal(convert(tmp_path, inner).state_dict()[HEAD], weights[HEAD])


def test_a_name_map_may_name_the_prefix(tmp_path, weights):
    (tmp_path / "names.json").write_text(
        json.dumps({f"module.{part}": part for part in ("encoder", "core", "policy_head", "value_head")})
    )
    found = convert(
        tmp_path,
        {f"module.{name}": tensor for name, tensor in weights.items()},
        name_map=str(tmp_path / "names.json"),
    )
    assert torch.equal(found.state_dict()[HEAD], weights[HEAD])


@pytest.mark.parametrize("name", ["names.json", "names.yml"])
@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "5", "[" * 50_000, "{a: [1]}", '{"a": 5}', "!!python/name:os.system", "{[1]: a}"],
)
def test_what_is_no_name_map_is_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=f"{name}.*(damaged|must be a mapping)") as caught:
        load_name_map(str(tmp_path / name), {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("archive", [True, False])
def test_damaged_files_of_torch_are_one_line(tmp_path, archive):
    """Every cut, and flips everywhere: either it is still read, or one BadCheckpoint says what is wrong."""
    torch.save(
        {"a": torch.ones(2, 3), "b": torch.ones(4)},
        tmp_path / "whole.pth",
        _use_new_zipfile_serialization=archive,
    )
    whole = (tmp_path / "whole.pth").read_bytes()
    drawn = random.Random(0)
    assert read_state_dict(tmp_path / "whole.pth", "")
    cuts = [whole[:size] for size in range(2, len(whole), 7)]
    flips = [_overwritten(whole, drawn) for _ in range(300)]
    for damaged in [b"\x80\x02junk", *cuts, *flips]:
        (tmp_path / "damaged.pth").write_bytes(damaged)
        with contextlib.suppress(BadCheckpoint, UsageError):
            read_state_dict(tmp_path / "damaged.pth", "")


def _overwritten(whole: bytes, drawn: random.Random) -> bytes:
    """With four random bytes."""
    damaged = bytearray(whole)
    for _ in range(4):
        damaged[drawn.randrange(2, len(damaged))] = drawn.randrange(256)
    return bytes(damaged)
