"""The benchmark of a device runs on the CPU, small: every stage and network has a rate or says why not."""

import json
import time

import pytest
import torch

from benchmarks import gpu
from benchmarks.device.cells import Budget, Cell, measure
from benchmarks.device.networks import NETWORKS
from common.runs import UsageError
from slurm.estimate import Rates, estimate

CPU = torch.device("cpu")


pytestmark = pytest.mark.slow


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
