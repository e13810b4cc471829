"""The benchmark of a device runs on the CPU, small: every stage and network has a rate or says why not."""

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.device.cells import Budget, Cell, Place, measure
from benchmarks.device.networks import NETWORKS
from benchmarks.device.stages import recording_plan
from common.runs import UsageError, file_id
from slurm.estimate import Rates, estimate

CPU = torch.device("cpu")
PLANTED = Path("README.md")
"""A file with another id than the agent's."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu") / "speed.json"
    patch = pytest.MonkeyPatch()
    patch.setattr("benchmarks.device.stages.AGENT_PRESETS", ("nature-rec",))
    patch.setattr("benchmarks.device.stages.WORLD_MODEL_PRESETS", ("tiny",))
    patch.setattr("benchmarks.device.stages.DT_PRESETS", ("coinrun",))
    patch.setattr("benchmarks.device.stages.ROLLOUT_STEPS", 2)
    sizes = dict(num_episodes=8, batch_sizes=(16,), precisions=("fp32",), modes=("eager", "graphs"))
    gpu.main(gpu.Args(seconds=0.0, minutes=60, device="cpu", out_file=out, log_level=40, **sizes))
    patch.undo()
    return json.loads(out.read_text())


@pytest.mark.slow
def test_every_stage_and_network_is_measured(small):
    skipped = {(row["name"], row.get("mode")): row["skipped"] for row in small["rows"] if "skipped" in row}
    assert set(skipped) == {(name, "graphs") for name in NETWORKS}
    assert set(skipped.values()) == {"ValueError: CUDA graphs need a GPU"}
    names = {row["name"] for row in small["rows"] if row["part"] == "stages"}
    assert names == {
        "train",
        "record",
        "label",
        "train_gen_model",
        "record_gen_samples",
        "saliency_exps",
        "train_dt",
    }
    measured = [row for row in small["rows"] if "skipped" not in row]
    assert all(row["per_second"] > 0 and row["peak_gb"] > 0.01 for row in measured)
    stages = [row["what"] for row in small["rows"] if row["name"] == "train_gen_model"]
    assert stages == [f"tiny {stage}" for stage in ("painter", "latent", "motion", "tiles", "joint")]


@pytest.mark.slow
def test_the_launcher_estimates_from_what_was_measured(small):
    rates = Rates(small["rows"], small["device"]["name"])
    found = estimate("record", {"num_episodes": 1000}, rates)
    assert 0.0001 < found.hours < 100
    assert 0.001 < found.disk_gb < 10
    assert estimate("train", {"param_name": "nature-rec", "num_timesteps": 1000}, rates).hours > 0


def test_a_rate_is_units_per_second_of_processor_time():
    def work() -> float:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        return 10

    row = measure(Cell("busy", "", "unit", lambda: work), CPU, 0.1, Budget(1))
    assert row["per_second"] == pytest.approx(500, rel=0.2)
    assert row["rounds"] >= 4


def test_a_cell_that_fails_or_has_no_time_says_so():
    def fail():
        raise RuntimeError("no  such\nkernel")

    assert (
        measure(Cell("x", "", "unit", fail), CPU, 0, Budget(1))["skipped"] == "RuntimeError: no such kernel"
    )
    assert measure(Cell("x", "", "unit", fail), CPU, 0, Budget(0))["skipped"] == "out of time"


def test_unknown_parts_are_refused(tmp_path):
    with pytest.raises(UsageError, match="give stages or networks"):
        gpu.main(gpu.Args(parts=("stage",), out_file=tmp_path / "x.json"))


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Runs the benchmark on a stage and a network that do nothing."""
    stage = Cell("record", "", "step", lambda: lambda: time.sleep(0.01) or 1)
    prepare = lambda place, batch, precision: (lambda: None, batch)  # noqa: E731
    monkeypatch.setitem(gpu.PARTS, "stages", lambda place: [stage])
    monkeypatch.setattr("benchmarks.device.networks.NETWORKS", {"agent acts": ("frame", prepare)})
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)

    def run(**changed):
        out = tmp_path / "speed.json"
        flags = dict(seconds=0.0, device="cpu", modes=("eager",), log_level=40) | changed
        gpu.main(gpu.Args(out_file=out, **flags))
        return json.loads(out.read_text())

    return run


def cells(found):
    return {(row["part"], row.get("batch"), row.get("precision"), row.get("mode")) for row in found["rows"]}


def test_flags_choose_the_cells(quick):
    every = {("networks", batch, kind, "eager") for batch in (64, 512) for kind in ("fp32", "bf16")}
    stage = ("stages", None, None, None)
    assert cells(quick()) == every | {stage}
    assert cells(quick(parts=("stages",))) == {stage}
    assert cells(quick(batch_sizes=(8,), precisions=("fp32",))) == {stage, ("networks", 8, "fp32", "eager")}
    graphs = [row for row in quick(modes=("graphs",))["rows"] if row.get("mode") == "graphs"]
    assert {row["skipped"] for row in graphs} == {"ValueError: CUDA graphs need a GPU"}


def test_flags_set_time_threads_and_sizes(quick, monkeypatch):
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    found = quick(torch_threads=3, num_threads=5, minutes=0.0)
    assert given == [3]
    assert (found["device"]["torch_threads"], found["device"]["game_threads"]) == (3, 5)
    assert {row["skipped"] for row in found["rows"]} == {"out of time"}
    busy = dict(parts=("networks",), precisions=("fp32",), batch_sizes=(1,))
    rounds = [quick(seconds=seconds, **busy)["rows"][0]["rounds"] for seconds in (0.0, 0.05)]
    assert rounds[0] == 2 < rounds[1]
    plans = [recording_plan(Place(gpu.Args(num_episodes=n), CPU, None)) for n in (4, 9)]
    assert [len(plan.jobs(0)) for plan in plans] == [4, 9]
    assert quick(agent_file=PLANTED)["manifest"]["inputs"]["agent_file"] == file_id(PLANTED)


def test_a_device_of_another_name_is_in_the_file(quick, monkeypatch):
    monkeypatch.setattr(gpu, "processor", lambda: "a processor")
    assert quick()["device"]["name"] == "a processor"
