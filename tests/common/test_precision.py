"""Precision: the faster one by default, the requested one otherwise, and a run or store keeps the one it
began in.
"""

import json
import logging
from pathlib import Path

import pytest
import torch

import train
from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from common import precision as machine
from common.precision import Precision, autocast_context, bf16_is_faster, choose_precision, set_precision
from common.runs import UsageError, manifest, open_run
from rollouts.store import create_store, recorded_precision
from tests.helpers.tiny_models import run_dirs, tiny_args, tiny_presets  # noqa: F401

STORE = {"num_actions": 2, "action_names": ["a", "b"], "noop": 0, "hidden_size": 4}


def on_machine(monkeypatch, fast: bool) -> None:
    """As if bf16 were faster here, or slower."""
    monkeypatch.delenv(machine.VARIABLE, raising=False)
    monkeypatch.setattr(machine, "bf16_is_faster", lambda device_type: fast)


@pytest.mark.parametrize(
    ("bf16_seconds", "faster"), [(0.5, True), (0.95, True), (1.05, False), (10.0, False)]
)
def test_bf16_is_chosen_where_a_convolution_gains_by_it(monkeypatch, bf16_seconds, faster):
    monkeypatch.setattr(machine, "_time_convolution", lambda bf16, device_type: bf16_seconds if bf16 else 1.0)
    assert bf16_is_faster.__wrapped__("cpu") == faster


def test_the_fastest_round_counts_so_a_disturbed_one_decides_nothing(monkeypatch):
    disturbed = iter([1.4, 1.5, 0.8] + [1.4] * machine.ROUNDS)
    monkeypatch.setattr(
        machine, "_time_convolution", lambda bf16, device_type: next(disturbed) if bf16 else 1.0
    )
    assert bf16_is_faster.__wrapped__("cpu")


def test_timing_stops_where_one_is_clearly_faster(monkeypatch):
    timed = []
    monkeypatch.setattr(
        machine, "_time_convolution", lambda bf16, device_type: timed.append(bf16) or (10.0 if bf16 else 1.0)
    )
    assert not bf16_is_faster.__wrapped__("cpu")
    assert len(timed) == 4


def test_timing_leaves_random_numbers_and_threads_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    with torch.inference_mode():  # where an agent that acts asks first
        bf16_is_faster.__wrapped__("cpu")
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("fast", "name"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_the_machine_is_faster_in_and_a_name_is_itself(monkeypatch, fast, name):
    on_machine(monkeypatch, fast)
    assert choose_precision("auto", "cpu") == Precision("auto", name)
    assert choose_precision("fp32", "cpu").name == "fp32"
    assert choose_precision("bf16", "cpu").name == "bf16"


def test_an_unknown_precision_names_those_that_there_are():
    with pytest.raises(ValueError, match="unknown precision 'fp8'; choose one of: auto, bf16, fp32"):
        choose_precision("fp8", "cpu")


def test_the_context_computes_in_the_precision():
    x = torch.rand(1, 3, 8, 8)
    weight = torch.rand(4, 3, 3, 3)
    types = {}
    for precision in ("bf16", "fp32"):
        with autocast_context(precision, "cpu"):
            types[precision] = torch.nn.functional.conv2d(x, weight).dtype
    assert types == {"bf16": torch.bfloat16, "fp32": torch.float32}


@pytest.fixture(scope="module")
def trained_in_bf16(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "a.safetensors"
    torch.manual_seed(0)
    save_agent(
        path,
        ActorCritic(
            NetworkConfig(2, (32, 32, 3), "impala-half", feature_size=8, hidden_size=4, precision="bf16")
        ),
        {},
    )
    return path


def test_a_loaded_agent_says_what_it_was_trained_in_and_runs_in_what_the_machine_is_faster_in(
    monkeypatch, trained_in_bf16
):
    agent = load_agent(trained_in_bf16)[0]
    frames = torch.randint(0, 255, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        on_machine(monkeypatch, True)
        half = agent.encoder(frames)
        on_machine(monkeypatch, False)
        whole = agent.encoder(frames)
        set_precision("bf16", agent)
        asked = agent.encoder(frames)
    assert agent.config.precision == "bf16"
    assert torch.equal(half, asked)
    assert not torch.equal(half, whole)


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in_and_says_so(monkeypatch, tmp_path, caplog):
    def opened(asked: str, **options):
        run = open_run(
            tmp_path,
            "seed_0",
            {"precision": asked, "a": 1},
            precision=choose_precision(asked, "cpu"),
            **options,
        )
        if run.lock:
            run.lock.close()
        return run

    caplog.set_level(logging.INFO)
    on_machine(monkeypatch, True)
    begun = opened("auto")
    assert json.loads((begun.dir / "manifest.json").read_text())["precision"] == begun.precision == "bf16"
    assert caplog.messages == [f"writing to {begun.dir}, in bf16"]
    caplog.clear()
    on_machine(monkeypatch, False)
    resumed = opened("auto")
    assert (resumed.dir, resumed.precision) == (begun.dir, "bf16")
    assert (
        caplog.messages[0]
        == f"{begun.dir} was begun in bf16 and goes on in it; this machine is faster in fp32"
    )
    assert opened("bf16").dir == begun.dir
    other = opened("fp32")
    assert (other.dir.name, other.precision) == (f"{begun.dir.name}_2", "fp32")
    begun.finish({})
    caplog.clear()
    assert opened("bf16").precision == "bf16"
    assert caplog.messages == [f"{begun.dir} is done; --new makes another"]


def test_a_run_whose_manifest_names_no_precision_goes_on_in_the_machines(monkeypatch, tmp_path):
    on_machine(monkeypatch, True)
    old = open_run(tmp_path, "seed_0", {"a": 1})
    old.lock.close()
    run = open_run(tmp_path, "seed_0", {"a": 1}, precision=choose_precision("auto", "cpu"))
    assert (run.dir, run.precision) == (old.dir, "bf16")


def test_a_damaged_manifest_of_a_run_is_refused_in_one_line(tmp_path):
    run = open_run(tmp_path, "seed_0", {"a": 1}, precision=Precision("auto", "bf16"))
    run.lock.close()
    (run.dir / "manifest.json").write_text("{")
    with pytest.raises(
        UsageError, match="manifest.json is damaged .*delete that run or start another with --new"
    ):
        open_run(tmp_path, "seed_0", {"a": 1}, precision=Precision("auto", "bf16"))


def test_a_store_keeps_its_precision_and_refuses_another_by_name(tmp_path):
    path = tmp_path / "store"
    assert recorded_precision(path) is None
    create_store(path, STORE | {"precision": "bf16"})
    kept = Precision("auto", "fp32").keep(recorded_precision(path), path)
    create_store(path, STORE | {"precision": kept})
    assert recorded_precision(path) == kept == "bf16"
    with pytest.raises(UsageError, match="was made with precision = bf16, not fp32"):
        create_store(path, STORE | {"precision": Precision("fp32", "fp32").keep("bf16", path)})


def test_a_store_that_names_no_precision_is_still_gone_on_with(tmp_path):
    path = tmp_path / "store"
    create_store(path, STORE)
    create_store(path, STORE | {"precision": "fp32"})
    assert recorded_precision(path) is None


def test_a_manifest_says_the_precision_only_where_a_network_ran():
    assert manifest(precision="fp32")["precision"] == "fp32"
    assert "precision" not in manifest()


def test_every_script_that_chooses_a_device_chooses_a_precision():
    root = Path(__file__).parents[2]
    scripts = [
        path
        for folder in (".", "analysis")
        for path in (root / folder).glob("*.py")
        if "device: Device" in path.read_text()
    ]
    assert len(scripts) > 10
    assert [path.name for path in scripts if "precision: PrecisionName" not in path.read_text()] == []


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_trained_agent_and_its_run_say_the_precision_that_was_asked_for(tmp_path, tiny_presets, precision):
    train.main(tiny_args(tmp_path, precision=precision))
    (run,) = run_dirs(tmp_path)
    assert json.loads((run / "manifest.json").read_text())["precision"] == precision
    assert load_agent(run / "model_64.safetensors")[1]["network"]["precision"] == precision


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_the_environment_says_what_auto_is_and_a_flag_says_otherwise(monkeypatch, name):
    on_machine(monkeypatch, name == "fp32")
    monkeypatch.setenv(machine.VARIABLE, name)
    assert choose_precision("auto", "cpu").name == name
    assert [choose_precision(flag, "cpu").name for flag in ("bf16", "fp32")] == ["bf16", "fp32"]


def test_a_variable_that_names_no_precision_is_refused(monkeypatch):
    monkeypatch.setenv(machine.VARIABLE, "half")
    with pytest.raises(UsageError, match="WORLDLENS_PRECISION is 'half': set it to bf16 or fp32"):
        choose_precision("auto", "cpu")
