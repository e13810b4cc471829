"""Publishes a world model, in half precision, with its report card and the logs and configurations of its
training runs.

Publish it, run analysis.report_card on the published file, and publish again with --report_dir: a checkpoint
always gives the same file.

python -m generative.publish --help
"""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    runs: tuple[Path, ...]
    """Directories of training runs (from train_gen_model.py), each started from the one before; the model of
    the last one is published.
    """
    out_dir: Path
    """Where to publish it; what was published there before is replaced."""
    checkpoint: str = "best.safetensors"
    """Which checkpoint of the last run."""
    report_dir: Path | None = None
    """Directory of a finished run of analysis.report_card on the published model; its report is published
    too.
    """
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.publish import check_records, copy_all
from common.checkpoints import load_checkpoint, save_checkpoint, write_json
from common.csv_log import read_log
from common.runs import UsageError, file_id
from generative.model.world_model_file import load_world_model

RECORDS = ("config.json", "manifest.json", "progress.csv")


def save_half(source: Path, path: Path) -> dict:
    """Writes a world model's checkpoint with its weights rounded to float16, and returns its description.

    Loading it gives float32 weights again. Raises BadCheckpoint where a weight does not fit.
    """
    tensors, meta = load_checkpoint(source)
    half = {name: x.half() if x.is_floating_point() else x for name, x in tensors.items()}
    save_checkpoint(path, half, meta)
    return load_world_model(path)[1]


def stages_of(run: Path) -> list[dict]:
    """Batches and seconds of each stage of a training run, from its log."""
    stages, before = [], {"batch": 0, "wall_time": 0}
    last = {row["stage"]: row for row in read_log(run / "progress.csv") if "stage" in row}
    for stage, row in last.items():
        batches, seconds = (float(row[name]) - float(before[name]) for name in ("batch", "wall_time"))
        stages.append({"stage": stage, "batches": int(batches), "seconds": round(seconds)})
        before = row
    return stages


def report_of(report_dir: Path | None, model_id: str) -> dict[str, Path]:
    """The files of a report card. Raises UsageError where they are missing or belong to another model."""
    if report_dir is None:
        return {}
    files = {name: report_dir / name for name in ("report.json", "report.html")}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise UsageError(f"{missing[0]} is missing: give --report_dir a finished run of analysis.report_card")
    if model_id not in files["report.json"].read_text():
        raise UsageError(
            f"{report_dir} is a report card of another world model, not of {model_id}; publish this one "
            "without --report_dir, run analysis.report_card on the published file, and publish again"
        )
    return files


def main(args: Args) -> None:
    if not args.runs:
        raise UsageError("no runs were given; list with --runs the run directories of train_gen_model.py")
    for run in args.runs:
        check_records(run, RECORDS)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        meta = save_half(args.runs[-1] / args.checkpoint, model)
        model_id = file_id(model)
        copies = {model.name: model} | report_of(args.report_dir, model_id)
        for i, run in enumerate(args.runs):
            copies |= {f"run_{i}/{name}": run / name for name in RECORDS}
        copy_all(copies, args.out_dir)
    batches = [int(read_log(run / "progress.csv")[-1]["batch"]) for run in args.runs[:-1]] + [meta["batches"]]
    write_json(
        args.out_dir / "provenance.json",
        {
            "id": model_id,
            "agent": meta["agent"]["id"],
            "data": meta["data"],
            "seed": meta["seed"],
            "batches_logged": batches,
            "stages": [stages_of(run) for run in args.runs],
            "env": meta["env"],
        },
    )
    logging.info(
        "%s: the world model %s after %s batches", args.out_dir, model_id, " + ".join(map(str, batches))
    )


if __name__ == "__main__":
    run_main(main, ARGS)
