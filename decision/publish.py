"""Publishes a Decision Transformer or clone in half precision, with the log, configuration and evaluations of
its training run. The encoder stays in the file of the agent that it is from.

python -m decision.publish --help
"""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    run: Path
    """Directory of a finished run of train_dt.py with state_embedding agent."""
    agent_file: Path
    """The agent whose encoder it has; found later by its path from --out_dir."""
    out_dir: Path
    """Where to publish it; what was published there before is replaced."""
    checkpoint: str = "best.safetensors"
    """Which checkpoint of the run."""
    scores: tuple[Path, ...] = ()
    """Reports of evaluate_dt.py on the published model, which are copied."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.publish import check_records, copy_all
from common.checkpoints import load_checkpoint, save_checkpoint, write_json
from common.csv_log import read_log
from common.descriptions import read_json
from common.runs import UsageError, file_id
from decision.model_file import ENCODER, load_dt

RECORDS = ("config.json", "manifest.json", "progress.csv")
MODEL = "model.safetensors"


def save_without_encoder(source: Path, agent_file: Path, path: Path, folder: Path) -> dict:
    """Writes a checkpoint's weights as float16 without those of the agent's encoder, whose file the
    description names as seen from `folder`, where the file is to be; returns the description.

    Raises:
        UsageError: the features are not those of this agent.
        BadCheckpoint: the checkpoint does not load.
    """
    tensors, meta = load_checkpoint(source)
    agent = meta.get("agent")
    if not agent or agent["id"] != file_id(agent_file):
        of = f"of agent {agent['id']}" if agent else "of no agent"
        raise UsageError(f"{source} has features {of}, and --agent_file is agent {file_id(agent_file)}")
    kept = {name: x for name, x in tensors.items() if not name.startswith(f"model/{ENCODER}")}
    half = {name: x.half() if x.is_floating_point() else x for name, x in kept.items()}
    described = meta | {"agent": agent | {"file": os.path.relpath(agent_file, folder)}}
    save_checkpoint(path, half, described)
    return described


def check_scores(paths: tuple[Path, ...], model_id: str) -> None:
    """Raises UsageError for a report of another model."""
    for path in paths:
        scored = read_json(path, "evaluate again")["manifest"]["inputs"]
        if model_id not in scored.values():
            raise UsageError(f"{path} is of another model than {model_id}: run evaluate_dt.py on this one")


def main(args: Args) -> None:
    check_records(args.run, RECORDS)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / MODEL
        meta = save_without_encoder(args.run / args.checkpoint, args.agent_file, model, args.out_dir)
        model_id = file_id(model)
        check_scores(args.scores, model_id)
        copies = {MODEL: model} | {name: args.run / name for name in RECORDS}
        copy_all(copies | {path.name: path for path in args.scores}, args.out_dir)
    load_dt(args.out_dir / MODEL)
    last = read_log(args.run / "progress.csv")[-1]
    provenance = {"id": model_id, "model_type": meta["model"]["model_type"], "agent": meta["agent"]["id"]}
    provenance |= {name: meta[name] for name in ("data", "seed", "batches", "env", "returns")}
    provenance |= {"batches_logged": int(last["batch"]), "seconds": round(float(last["wall_time"]))}
    write_json(args.out_dir / "provenance.json", provenance)
    logging.info("%s: %s %s", args.out_dir, meta["model"]["model_type"], model_id)


if __name__ == "__main__":
    run_main(main, ARGS)
