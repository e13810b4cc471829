"""Shipping a world model: what goes with it, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch

from common.checkpoints import BadCheckpoint, load_checkpoint
from common.runs import UsageError, file_id
from generative import publish
from generative.model.world_model_file import load_world_model, save_world_model
from tests.helpers.toy_simulator import toy_model


@pytest.fixture
def args(tmp_path):
    """Two runs, the second of which went on from the first, and the report of its model."""
    for i, batches in enumerate((7, 5)):
        run = tmp_path / f"run{i}"
        meta = {"agent": {"id": "a"}, "data": "d", "seed": 0, "env": {"env_name": "toy"}, "batches": batches}
        save_world_model(run / "best.safetensors", toy_model(), meta | {"seed": i})
        save_world_model(run / "model_9.safetensors", toy_model(), meta | {"batches": 9})
        for name in publish.RECORDS:
            (run / name).write_text(
                f"batch,loss\n{batches},1.5\n" if name == "progress.csv" else f'{{"run": {i}}}'
            )
    runs = tmp_path / "run0", tmp_path / "run1"
    publish.main(publish.Args(runs, tmp_path / "first"))
    report = tmp_path / "report"
    report.mkdir()
    scored = file_id(tmp_path / "first" / "model.safetensors")
    (report / "report.json").write_text(json.dumps({"manifest": {"inputs": {"world_model_file": scored}}}))
    (report / "report.html").write_text("<p>card</p>")
    return publish.Args(runs, tmp_path / "out", report_dir=report)


def test_the_last_runs_model_goes_with_all_logs_and_its_report(args):
    publish.main(args)
    provenance = json.loads((args.out_dir / "provenance.json").read_text())
    assert provenance["batches_logged"] == [7, 5]
    assert provenance["seed"] == 1
    assert provenance["id"] == file_id(args.out_dir / "model.safetensors")
    assert load_world_model(args.out_dir / "model.safetensors")[1]["batches"] == 5
    assert [json.loads((args.out_dir / f"run_{i}" / "config.json").read_text()) for i in range(2)] == [
        {"run": 0},
        {"run": 1},
    ]
    assert (args.out_dir / "report.html").read_text() == "<p>card</p>"
    publish.main(
        replace(
            args,
            runs=args.runs[:1],
            checkpoint="model_9.safetensors",
            report_dir=None,
            out_dir=args.out_dir / "other",
        )
    )
    assert json.loads((args.out_dir / "other" / "provenance.json").read_text())["batches_logged"] == [9]
    assert not (args.out_dir / "other" / "report.json").exists()


def test_batches_and_seconds_of_every_stage_are_published(args):
    log = "batch,stage,wall_time\n2,painter,1.5\n4,painter,3.0\n5,latent,7.0\n9,joint,8.0\n"
    (args.runs[1] / "progress.csv").write_text(log)
    publish.main(args)
    former, stages = json.loads((args.out_dir / "provenance.json").read_text())["stages"]
    assert former == []  # its log has no stages
    assert stages == [
        {"stage": "painter", "batches": 4, "seconds": 3},
        {"stage": "latent", "batches": 1, "seconds": 4},
        {"stage": "joint", "batches": 4, "seconds": 1},
    ]


def test_published_again_with_its_report_the_model_is_the_same_file(args):
    publish.main(args)
    first, again = (folder / "model.safetensors" for folder in (args.out_dir.parent / "first", args.out_dir))
    assert first.read_bytes() == again.read_bytes()


def test_published_weights_are_half_as_large_and_round_to_those_trained(args):
    publish.main(args)
    trained, published = args.runs[1] / "best.safetensors", args.out_dir / "model.safetensors"
    weights = load_checkpoint(trained)[0]
    halves = load_checkpoint(published)[0]
    assert {x.dtype for x in halves.values()} == {torch.float16}
    assert published.stat().st_size < 0.6 * trained.stat().st_size
    assert all(torch.equal(halves[name], x.half()) for name, x in weights.items())
    assert load_checkpoint(published)[1] == load_checkpoint(trained)[1]


@torch.no_grad()
def test_a_published_model_computes_in_single_precision_nearly_what_was_trained(args):
    publish.main(args)
    trained, published = (
        load_world_model(path)[0]
        for path in (args.runs[1] / "best.safetensors", args.out_dir / "model.safetensors")
    )
    assert {x.dtype for x in published.parameters()} == {torch.float32}
    z = trained.random_latent(torch.randn(8, trained.config.latent_size))
    action = torch.arange(8) % trained.config.num_actions
    before, after = (
        model.move(model.start(z).env, model.action_weights(action))[0] for model in (trained, published)
    )
    for name in ("vector", "pose", "motion", "outcome"):
        old, new = getattr(before, name), getattr(after, name)
        assert (new - old).abs().max() < 0.02 * old.abs().max(), name
    old, new = (model.start(z).env.frame for model in (trained, published))
    assert (new - old).square().mean() < 1e-4


def test_a_weight_beyond_half_precision_is_not_published(args, tmp_path):
    model, meta = load_world_model(args.runs[1] / "best.safetensors")
    model.done_calibration.data[0] = 1e6
    save_world_model(args.runs[1] / "best.safetensors", model, meta)
    with pytest.raises(BadCheckpoint, match="done_calibration"):
        publish.main(args)
    assert not args.out_dir.exists()


def test_what_does_not_belong_together_is_not_shipped(args):
    with pytest.raises(UsageError, match="no runs were given"):
        publish.main(replace(args, runs=()))
    with pytest.raises(UsageError, match="is a report card of another world model"):
        publish.main(replace(args, runs=args.runs[:1]))
    (args.report_dir / "report.html").unlink()
    with pytest.raises(UsageError, match="report.html is missing"):
        publish.main(args)
    (args.runs[0] / "progress.csv").unlink()
    with pytest.raises(UsageError, match="progress.csv is missing"):
        publish.main(replace(args, report_dir=None))
    with pytest.raises((BadCheckpoint, FileNotFoundError, UsageError)):
        publish.main(replace(args, runs=args.runs[1:], checkpoint="none.safetensors", report_dir=None))
    assert not args.out_dir.exists()
