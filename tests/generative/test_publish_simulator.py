"""Shipping a world model: what goes with it, and what is refused."""

import json
from dataclasses import replace

import pytest

from common.checkpoints import BadCheckpoint
from common.runs import UsageError, file_id
from generative import publish
from generative.model.world_model import load_world_model, save_world_model
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
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.json").write_text(
        json.dumps(
            {"manifest": {"inputs": {"world_model_file": file_id(tmp_path / "run1" / "best.safetensors")}}}
        )
    )
    (report / "report.html").write_text("<p>card</p>")
    return publish.Args((tmp_path / "run0", tmp_path / "run1"), tmp_path / "out", report_dir=report)


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
