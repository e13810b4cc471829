"""The training benchmark: what it writes is there, speeds hang together, and its flags act."""

import json
import time
import types

import numpy as np
import pytest
import torch
from tiny import tiny_presets  # noqa: F401 (a fixture)

from benchmarks import training

pytestmark = pytest.mark.usefixtures("tiny_presets")


def measured(tmp_path, **changed) -> dict:
    given = dict(param_name="tiny", rounds=0, n_steps=8, growth=(), num_threads=1, output=tmp_path / "training.json")
    training.main(training.Args(**(given | changed)))
    return json.loads((tmp_path / "training.json").read_text())


def test_the_pair_is_timed_in_turns_and_shares_add_up(tmp_path, monkeypatch):
    """The other learner is a stand-in that takes three times as long as ours: its own speed is its own matter."""
    turns, iterate = [], training.Ours.iterate

    def ours(self):
        turns.append(iterate(self))
        return turns[-1]

    def theirs(env, ppo, *network):
        return types.SimpleNamespace(learn=lambda steps, reset_num_timesteps: time.sleep(3 * sum(turns[-1].values())))

    monkeypatch.setattr(training.Ours, "iterate", ours)
    monkeypatch.setattr(training, "recurrent_ppo", theirs)
    found = measured(tmp_path, rounds=2)
    assert found["ratio"] == pytest.approx(3, rel=0.1) and len(turns) == 3
    assert len(found["ratio_by_round"]) == 2 and min(found["ratio_by_round"]) <= found["ratio"] <= max(found["ratio_by_round"])
    assert found["ratio"] == pytest.approx(found["ours"] / found["recurrent_ppo"])
    assert found["shares"].keys() == set(training.PARTS) and sum(found["shares"].values()) == pytest.approx(1)
    assert found["config"] == {"n_envs": 4, "n_steps": 8, "epoch": 1, "mini_batch_per_epoch": 2, "rounds": 2} and not found["growth"]
    assert found["rollout_bytes_256x256"] < 1.2e9


def test_the_pair_is_timed_by_the_processor_too(tmp_path, monkeypatch):
    """A clock of the processor that moves by 2 in our turns and by 10 in the other's, whatever the clock on the wall says."""
    clock, iterate = [0.0], training.Ours.iterate

    def spend(seconds):
        clock[0] += seconds

    monkeypatch.setattr(training.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(training.Ours, "iterate", lambda self: (spend(2), iterate(self))[1])
    other = types.SimpleNamespace(learn=lambda steps, reset_num_timesteps: spend(10))
    monkeypatch.setattr(training, "recurrent_ppo", lambda *given: other)
    found = measured(tmp_path, rounds=2, precision="fp32")
    steps = 4 * 8
    assert found["per_cpu_second"] == {"ours": steps / 2, "recurrent_ppo": steps / 10, "ratio": 5.0}


def test_growth_alone_and_its_clocks(tmp_path, monkeypatch):
    """A clock of the processor that runs half as fast shows twice the speed."""
    monkeypatch.setattr(training.time, "process_time", lambda: training.time.perf_counter() / 2)
    found = measured(tmp_path, growth=(8, 16), growth_rounds=1)
    assert "ratio" not in found and list(found["growth"]) == ["8", "16"]
    for speed in found["growth"].values():
        np.testing.assert_allclose(speed["per_cpu_second"], 2 * speed["per_second"], rtol=0.1)


def test_threads_games_and_seeds_reach_the_learner(tmp_path, monkeypatch):
    made, environments, before = [], training.environments, torch.get_num_threads()

    def watched(args, num):
        made.append((args.env_name, args.seed, args.num_threads, num))
        return environments(args, num)

    monkeypatch.setattr(training, "environments", watched)
    try:
        measured(tmp_path, growth=(8,), env_name="dodgeball", seed=3, num_threads=0, threads=1)
        assert made == [("dodgeball", 3, 0, 8)] and torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
