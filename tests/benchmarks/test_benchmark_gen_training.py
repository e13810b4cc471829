"""The benchmark of the world model's training: both designs take turns on the same batches, and the ratio is
that of their frames per second.
"""

import json
from contextlib import contextmanager

import pytest

from benchmarks import gen_training
from common.runs import UsageError
from tests.helpers.coinrun_runner import record_runner, save_runner


class Paced:
    """A loop of given seconds per turn."""

    def __init__(self, seconds, calls):
        self.seconds = iter(seconds)
        self.calls = calls
        self.about = {"parameters": 3}

    def step(self, batch):
        self.calls.append((self, batch))
        return {"seconds": next(self.seconds), "frames": 10}


def test_turns_alternate_on_the_same_batches_and_the_first_is_not_timed():
    calls = []
    ours, former = Paced([99, 1, 3], calls), Paced([1, 4, 4], calls)
    found = gen_training.paired({"ours": ours, "former": former}, 2)
    assert calls == [(loop, batch) for batch in range(3) for loop in (ours, former)]
    assert found["ours"] == {"frames_per_second": 20 / 4, "parameters": 3}
    assert found["former"] == {"frames_per_second": 20 / 8, "parameters": 3}
    assert found["ratio"] == 2
    assert found["ratio_by_round"] == [4, pytest.approx(4 / 3)]


@pytest.fixture
def args(tmp_path):
    """Asked of the smallest preset on a little real play."""
    save_runner(tmp_path / "agent.safetensors")
    record_runner(tmp_path / "store", tmp_path / "agent.safetensors")
    sizes = dict(rounds=1, batch_size=2, num_sim_steps=4, out_file=tmp_path / "out.json")
    return gen_training.Args(
        tmp_path / "agent.safetensors", tmp_path / "store", interpreting_params_name="tiny", **sizes
    )


def test_each_design_trains_in_a_process_of_its_own(args, monkeypatch):
    @contextmanager
    def present_code():
        yield gen_training.ROOT

    monkeypatch.setattr(gen_training, "former_code", present_code)
    gen_training.main(args)
    found = json.loads(args.out_file.read_text())
    assert found["ours"]["parameters"] == found["former"]["parameters"] > 1e5
    assert found["ratio"] == pytest.approx(
        found["ours"]["frames_per_second"] / found["former"]["frames_per_second"]
    )
    assert found["former_commit"] == gen_training.FORMER


def test_without_its_history_the_benchmark_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(gen_training, "FORMER", "0" * 40)
    with pytest.raises(UsageError, match="run it in a clone with its history"), gen_training.former_code():
        pass
