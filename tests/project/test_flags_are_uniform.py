"""A flag means the same in every script: one name for one thing, and one type for one name."""

import importlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest

from common.cli import parse
from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName

ROOT = Path(__file__).parents[2]
FILES = {"agent_file", "other_agent_file", "world_model_file", "dt_file", "clone_file", "out_file"}
"""Every flag that names one file of a kind that several scripts read or write."""
FORBIDDEN = {
    "model_file": "agent_file or world_model_file",
    "sim_model_file": "world_model_file",
    "checkpoint_file": "agent_file or world_model_file",
    "gpu_device": "device",
    "generated_data_dir": "out_dir",
    "output_dir": "out_dir",
    "logdir": "out_dir",
    "force": "new",
    "overwrite": "new",
    "out": "out_dir or out_file",
    "output": "out_dir or out_file",
    "threads": "num_threads",
    "loglevel": "log_level",
    "verbose": "log_level",
}
"""Spellings that stand for a shared flag, and its name."""
SHARED = {"device": Device, "precision": PrecisionName, "log_level": LogLevel, "seed": int}


def scripts() -> list[str]:
    """The modules of all scripts that take flags."""
    paths = [path for path in ROOT.glob("*.py") if path.name != "__init__.py"]
    for folder in ("analysis", "agents", "rollouts", "generative", "benchmarks"):
        paths += (ROOT / folder).glob("*.py")
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in paths
        if "parse(Args, __doc__)" in path.read_text()
    )


def flag_types(args_type: type) -> dict[str, Any]:
    """{flag: its type}, with the metadata of --help and aliases; nested groups are flattened."""
    hints = get_type_hints(args_type, include_extras=True)
    found = {}
    for field in fields(args_type):
        hint = hints[field.name]
        inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        found |= flag_types(inner) if is_dataclass(inner) else {field.name: hint}
    return found


def plain(hint: Any) -> Any:
    """A type without help text, None, and the choices that a script limits a word to."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    options = [option for option in get_args(hint) if option is not type(None)]
    hint = options[0] if len(options) == 1 and type(None) in get_args(hint) else hint
    return type(get_args(hint)[0]) if get_origin(hint) is Literal else hint


def faults(types: dict[str, Any]) -> list[str]:
    """What breaks the rules among the flags of one script."""
    wrong = [f"--{name}: call it --{FORBIDDEN[name]}" for name in types if name in FORBIDDEN]
    wrong += [
        f"--{name}: name the kind of file"
        for name in types
        if name.endswith("_file") and name not in FILES | FORBIDDEN.keys()
    ]
    wrong += [
        f"--{name} is not the shared flag"
        for name, shared in SHARED.items()
        if name in types and types[name] != shared
    ]
    return wrong + ([] if "log_level" in types else ["--log_level is missing"])


def disagreements(found: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, set]:
    """{flag: its types}, for flags of two types or more."""
    types = defaultdict(set)
    for _, flags in found:
        for name, hint in flags.items():
            types[name].add(plain(hint))
    return {name: kinds for name, kinds in types.items() if len(kinds) > 1}


def all_flags() -> dict[str, dict[str, Any]]:
    return {name: flag_types(importlib.import_module(name).Args) for name in scripts()}


@pytest.fixture(scope="module")
def flags():
    return all_flags()


def test_every_script_with_flags_is_found(flags):
    assert len(flags) > 50


def test_no_script_spells_a_shared_flag_in_its_own_way(flags):
    assert {name: wrong for name, types in flags.items() if (wrong := faults(types))} == {}


def test_a_flag_has_one_type_in_all_scripts(flags):
    assert disagreements(flags.items()) == {}


@pytest.mark.parametrize(
    ("types", "fault"),
    [
        ({"model_file": Path, "log_level": LogLevel}, "call it --agent_file or world_model_file"),
        ({"teacher_file": Path, "log_level": LogLevel}, "name the kind of file"),
        ({"device": str, "log_level": LogLevel}, "--device is not the shared flag"),
        ({"seed": float, "log_level": LogLevel}, "--seed is not the shared flag"),
        ({"precision": str, "log_level": LogLevel}, "--precision is not the shared flag"),
        ({"log_level": int}, "--log_level is not the shared flag"),
        ({"agent_file": Path}, "--log_level is missing"),
    ],
)
def test_a_flag_of_its_own_is_found(types, fault):
    (found,) = faults(types)
    assert fault in found


def test_a_flag_of_two_types_is_found():
    two = [("a", {"points": int}), ("b", {"points": float}), ("c", {"points": int | None})]
    assert disagreements(two) == {"points": {int, float}}


@dataclass
class Args:
    agent_file: Annotated[Path | None, SEED_MODEL_FILE] = None
    device: Device = "auto"


def test_the_seeds_spellings_are_taken():
    assert parse(Args, "", ["--model_file", "x", "--gpu_device", "1"]) == Args(Path("x"), "1")


def test_a_mistake_names_the_flag_and_not_its_alias(capsys):
    with pytest.raises(SystemExit):
        parse(Args, "", ["--agent_file"])
    assert "--agent_file takes PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("train", "agent_file"),
        ("record", "agent_file"),
        ("evaluate", "agent_file"),
        ("render", "agent_file"),
        ("train_gen_model", "world_model_file"),
        ("record_gen_samples", "world_model_file"),
        ("loss_over_time_exp", "world_model_file"),
        ("interpolation_exp", "world_model_file"),
    ],
)
def test_scripts_of_the_seeds_take_model_file(script, flag):
    args_type = importlib.import_module(script).Args
    other = ["--agent_file", "a"] if flag == "world_model_file" else []
    args = parse(args_type, "", ["--model_file", "m", *other])
    assert getattr(args, flag) == Path("m")
