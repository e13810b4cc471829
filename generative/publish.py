"""Publishes a world model with its report card and the logs and configurations of its training runs.

python -m generative.publish --help
"""

import logging
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
    """Directory of a finished run of analysis.report_card on that checkpoint; its report is published too."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.publish import check_records, copy_all
from common.checkpoints import write_json
from common.csv_log import read_log
from common.runs import UsageError, file_id
from generative.model.world_model import load_world_model

RECORDS = ("config.json", "manifest.json", "progress.csv")


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
            f"{report_dir} is a report card of another world model, not of {model_id}; run "
            "analysis.report_card on this one"
        )
    return files


def main(args: Args) -> None:
    if not args.runs:
        raise UsageError("no runs were given; list with --runs the run directories of train_gen_model.py")
    for run in args.runs:
        check_records(run, RECORDS)
    model = args.runs[-1] / args.checkpoint
    meta = load_world_model(model)[1]
    model_id = file_id(model)
    copies = {"model.safetensors": model} | report_of(args.report_dir, model_id)
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
            "env": meta["env"],
        },
    )
    logging.info(
        "%s: the world model %s after %s batches", args.out_dir, model_id, " + ".join(map(str, batches))
    )


if __name__ == "__main__":
    run_main(main, ARGS)
