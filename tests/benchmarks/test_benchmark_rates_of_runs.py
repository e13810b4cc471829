"""Rates for the launcher's estimates: medians of logs, and what is measured, each from the file that a flag
names.
"""

import json
from pathlib import Path

import pytest

from benchmarks import rates_of_runs
from common.runs import file_id
from generative.model.config import STAGES


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the benchmark; what it would measure returns the flags that it was given."""

    def work(place, *given):
        facts = given[-1] if isinstance(given[-1], dict) else {}
        facts |= {"bytes_per_step": place.args.num_episodes, "precision": given[-2]}
        facts |= {"agent": str(place.args.agent_file), "simulator": str(place.args.world_model_file)}
        return lambda: 10.0

    for name in ("recording", "simulation", "agent_training"):
        monkeypatch.setattr(rates_of_runs, name, work)

    def run(**changed):
        out = tmp_path / "rates.json"
        rates_of_runs.main(rates_of_runs.Args(out_file=out, log_level=40, **changed))
        rows = json.loads(out.read_text())["rows"]
        return {(row["name"], row["what"]): row for row in rows}

    return run


def test_training_rates_are_the_medians_of_the_logs_that_flags_name(run, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("timesteps,steps_per_second,peak_memory_mb\n1,10,500\n2,30,2000\n3,20,900\n")
    stages = tmp_path / "stages.csv"
    lines = [f"{i},{stage},{100 * (i + 1)},\n" for i, stage in enumerate(STAGES)]
    stages.write_text("batch,stage,frames_per_second,peak_memory_mb\n" + "".join(lines))
    transformer = tmp_path / "dt.csv"
    transformer.write_text("batch,frames_per_second,peak_memory_mb\n1,7,\n2,9,\n3,8,100\n")
    found = run(agent_log=log, world_model_log=stages, dt_log=transformer)
    assert found["train", "half-rec"]["per_second"] == 20
    assert found["train_dt", "coinrun"]["per_second"] == 8
    assert found["train_dt", "coinrun"]["peak_gb"] == pytest.approx(0.1)
    rates = [found["train_gen_model", f"small {stage}"]["per_second"] for stage in STAGES]
    assert rates == [100, 200, 300, 400, 500]
    assert found["train_dt", "coinrun"]["source"] == f"{transformer} ({file_id(transformer)})"


def test_maps_cost_what_the_benchmark_of_saliency_found(run, tmp_path):
    file = tmp_path / "cost.json"
    cost = {"samples_per_second": {"ours": [1, 5, 2]}, "functions": ["value", "action", "leftwards"]}
    file.write_text(json.dumps(cost | {"peak_bytes": 3e9, "bytes_per_map": 77}))
    row = run(saliency_results=file)["saliency_exps", ""]
    assert (row["per_second"], row["peak_gb"], row["bytes_per_map"]) == (6, 3, 77)


def test_what_is_measured_is_asked_for_by_flags(run):
    rows = [run(num_episodes=n, precision="fp32")["record", ""] for n in (3, 4)]
    assert [row["bytes_per_step"] for row in rows] == [3, 4]
    assert {row["precision"] for row in rows} == {"fp32"}
    assert run(precision="bf16")["record_gen_samples", ""]["precision"] == "bf16"
    row = run(agent_file=Path("README.md"), world_model_file=Path("other"))["record", ""]
    assert (row["agent"], row["simulator"]) == ("README.md", "other")
