"""The benchmark of the Decision Transformer: pairs do equal work, and the ratio is of what was timed."""

import json

import pytest
import torch

from benchmarks import decision_transformer as benchmark
from benchmarks.decision_transformer import Args, acting_rounds, main, measure, training_rounds
from decision.config import TrainConfig
from tests.helpers.decision.toy_decision import small_config

CPU = torch.device("cpu")


def test_both_train_on_the_same_number_of_tokens():
    config = small_config(num_actions=15, max_timestep=200)
    rounds = training_rounds(config, TrainConfig(batch_size=2, window_steps=8), 2, CPU)
    assert {name: run() for name, run in rounds.items()} == {"worldlens": 96, "mingpt": 96}


def test_both_act_for_the_same_number_of_steps():
    rounds = acting_rounds(small_config(num_actions=15), 3, 6, CPU)
    assert {name: run() for name, run in rounds.items()} == {"cached": 18, "recomputed": 18}


def test_the_fastest_round_after_the_warm_up_counts(monkeypatch):
    clock = iter([0.0, 0.0, 5.0, 0.0, 2.0])  # the beginning of the warm-up; begin and end of two rounds
    monkeypatch.setattr(benchmark.time, "process_time", lambda: next(clock))
    assert measure({"a": lambda: 10}, 2, CPU) == {"a": 5.0}


def test_ratios_are_of_the_times(monkeypatch, tmp_path):
    timed = iter([{"worldlens": 30.0, "mingpt": 20.0}, {"cached": 70.0, "recomputed": 10.0}])
    monkeypatch.setattr(benchmark, "measure", lambda *asked: next(timed))
    main(Args(param_name="tiny", num_envs=1, out_file=tmp_path / "out.json", device="cpu"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["training_ratio"] == pytest.approx(1.5)
    assert found["acting_ratio"] == pytest.approx(7.0)
