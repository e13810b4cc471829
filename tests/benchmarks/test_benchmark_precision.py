"""The comparison of precisions: every network is in it, the ratio is of the two that were timed, and the
agent's answers are compared.
"""

import json

import pytest
import torch

from agents.encoders import ARCHITECTURES
from benchmarks import precision as benchmark
from benchmarks.precision import Args, compared, main
from common.runs import UsageError


@pytest.mark.parametrize(("chosen", "ratio"), [("bf16", 1.5), ("fp32", 1 / 1.5)])
def test_the_ratio_is_how_many_times_as_long_the_other_precision_takes(monkeypatch, chosen, ratio):
    spent = {
        "bf16": iter([9.0, 2.0, 4.0]),
        "fp32": iter([9.0, 5.0, 3.0]),
    }  # the first round warms up, then the fastest counts
    monkeypatch.setattr(
        benchmark, "seconds", lambda network, run, precision, gradient, device: next(spent[precision])
    )
    row = compared(torch.nn.Identity(), None, chosen, False, 2, torch.device("cpu"))
    assert (row["bf16"], row["fp32"]) == (2.0, 3.0)
    assert row["other_over_chosen"] == pytest.approx(ratio)


def test_every_network_is_timed_with_and_without_gradient(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "seconds", lambda *asked: 1.0)
    main(Args(("tiny", "small"), 2, 1, out_file=tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    names = [f"agent, {name}" for name in ARCHITECTURES] + [
        "frame CNN",
        "world model, tiny",
        "world model, small",
    ]
    assert [(row["network"], row["gradient"]) for row in found["rows"]] == [
        (name, grad) for name in names for grad in (False, True)
    ]
    assert found["least"] == 1.0
    assert found["chosen"] in ("bf16", "fp32")


def test_a_world_models_run_uses_every_convolution():
    model, run = benchmark.networks(("tiny",), 2, torch.device("cpu"))["world model, tiny"]
    run(model).backward()
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert convolutions
    assert all(module.weight.grad.any() for module in convolutions)


def test_a_model_without_a_store_is_refused(tmp_path):
    with pytest.raises(UsageError, match="give both, or neither"):
        main(Args(agent_file=tmp_path / "a.safetensors"))
