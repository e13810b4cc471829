"""The saliency benchmark: both contestants compute the same gradients, and figures are those of files."""

import json

import pytest
import torch

from benchmarks import saliency
from tests.helpers.toy_simulator import save_toy_files

pytest.importorskip("captum")


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    save_toy_files(path)
    return saliency.Args(
        path / "agent.safetensors", path / "model.safetensors", path / "store",
        num_samples=3, batch_size=2, num_directions=2, num_sim_steps=4, function_step=2, draws=2, rounds=2,
        out_file=path / "out.json",
    )  # fmt: skip


def test_both_compute_the_same_gradients(args):
    source = saliency.make_source(args)
    assert [one.name for one in source.config.functions] == [
        "value", "action", "hx_direction_0_ica", "hx_direction_1_ica",
    ]  # fmt: skip
    object.__setattr__(source.config, "keep_float", True)
    mine = source.simulated([0, 2])
    for steps in (4, 3):
        theirs = saliency.captum_loop(source, [0, 2], steps)
        for one in source.config.functions:
            frames = theirs[f"frames/{one.name}"]
            whole = frames[:, :3]
            limit = 2e-3 * whole.abs().max()
            torch.testing.assert_close(mine[f"frames/{one.name}"], whole, rtol=0, atol=float(limit))
            assert not frames[:, 3:].any()
            hidden = theirs[f"hx/{one.name}"][:, :4]
            limit = 2e-3 * hidden.abs().max()
            torch.testing.assert_close(mine[f"hx/{one.name}"].float(), hidden, rtol=0, atol=float(limit))
            assert (whole[0] - whole[1]).abs().max() > 10 * limit


def test_the_bytes_of_the_original_are_those_of_its_files():
    frames = 10 * 64 * 64 * 3
    assert saliency.original_bytes(10, (64, 64, 3), 64) == 4 * frames + 4 * 10 * 64 + 4 * 10 * 512 + frames


def test_the_report_has_every_contestant_and_round(args, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    saliency.main(args)
    report = json.loads(args.out_file.read_text())
    assert {name: len(values) for name, values in report["samples_per_second"].items()} == {
        "ours": 2, "captum": 2, "short": 2,
    }  # fmt: skip
    for name, ratios in report["ratio"].items():
        speeds = report["samples_per_second"]
        assert ratios == pytest.approx([a / b for a, b in zip(speeds["ours"], speeds[name])])
    assert report["bytes_per_map"] > 0
    assert report["peak_bytes"] > 1e7
