"""Feeds every reader of files with damaged and forged ones: each must be read, or refused in one line."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    readers: tuple[str, ...] = ()
    """Readers to feed, by name; default: all. Rows of others in the output are kept."""
    inputs: int = 10_000
    """Inputs per reader."""
    seed: int = 0
    """Chooses the inputs."""
    work_dir: Path = Path("results/fuzz")
    """A directory for inputs, which is emptied first."""
    out_file: Path = Path("docs/results/fuzz.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import time

import torch

from benchmarks.fuzz import networks, stores
from benchmarks.fuzz.guard import Reader, fuzz
from common.checkpoints import write_json
from common.runs import UsageError, manifest


def all_readers(seeds: Path) -> dict[str, Reader]:
    """Every reader by name; sound files are made in an empty directory."""
    return {reader.name: reader for reader in [*stores.readers(seeds), *networks.readers(seeds)]}


def main(args: Args) -> None:
    torch.set_num_threads(1)
    place = args.work_dir.resolve()
    shutil.rmtree(place, ignore_errors=True)
    listed = all_readers(place / "seeds")
    if unknown := [name for name in args.readers if name not in listed]:
        raise UsageError(f"no reader {unknown[0]!r}; choose from: {', '.join(listed)}")
    failed = []
    for name in args.readers or listed:
        began = time.monotonic()
        counts = fuzz(listed[name], place / "input", 0, args.inputs, args.seed)
        failed += [f"{name}: {failure}" for failure in counts["failures"]]
        row = {key: value for key, value in counts.items() if key != "failures"}
        row["failures"] = len(counts["failures"])
        logging.info("%s: %s, %.0f s", name, json.dumps(row), time.monotonic() - began)
        write(args.out_file, name, row)
    for failure in failed[:50]:
        logging.warning("%s", failure)
    if failed:
        raise UsageError(f"{len(failed)} inputs were neither read nor refused in one line")


def write(out_file: Path, name: str, row: dict) -> None:
    """Replaces a reader's row of the output file."""
    rows = json.loads(out_file.read_text())["readers"] if out_file.exists() else {}
    rows[name] = row
    total = {key: sum(one[key] for one in rows.values()) for key in row}
    made = {key: value for key, value in manifest().items() if key != "command"}
    write_json(out_file, {"readers": rows, "all": total, "manifest": made})


if __name__ == "__main__":
    run_main(main, ARGS)
