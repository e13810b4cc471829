"""Steps of an analysis: each precompute has a directory named after what it was made from, does nothing the second time, and is what plots read.

`<out_dir>/<name>_precomp/<key>/` holds arrays by `artefacts.part`, directions, numbers.json, and done.json once it is whole; `latest` beside it
points to the last one finished.
"""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.checkpoints import BadCheckpoint, load_checkpoint, write_json
from common.descriptions import read_json
from common.precision import Precision
from common.runs import Run, UsageError, open_run, read_config
from interpret.directions import Directions, load_directions, save_directions

LATEST = "latest"
ABANDONED_SECONDS = 60.0
"""A link that has waited so long to be renamed belongs to a process that was killed."""


def open_step(
    out_dir: Path, name: str, version: int, settings: dict, inputs: dict[str, str], new: bool = False, precision: Precision | None = None
) -> Run:
    """The run of a step, found again where the same was asked of the same inputs, else begun.

    version: of the step's definitions, raised when its numbers would come out otherwise. settings: parameters that say what is made.
    inputs: ids of what it is made from. new: make it again even where it is done. precision: of the networks that it runs, if any.
    """
    config = {"version": version} | settings
    return open_run(Path(out_dir) / f"{name}_precomp", name, config, new, inputs, precision)


def fitted(run: Run, name: str, fit: Callable[[], Directions]) -> Directions:
    """Directions of a run: read where they are there, else fit and written."""
    path = run.dir / f"{name}.safetensors"
    if not path.exists():
        save_directions(path, fit())
    return load_directions(path)


def json_part(run: Run, name: str, compute: Callable[[], dict | list]):
    """A part of a run that is no array: read where it is there, else computed and written."""
    path = run.dir / f"{name}.json"
    if not path.exists():
        write_json(path, compute())
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged; delete it and run the same command again") from error


def finish_step(run: Run, numbers: dict) -> None:
    """Writes numbers.json, marks the run as whole, and points `latest` to it."""
    write_json(run.dir / "numbers.json", numbers)
    run.finish({})
    point_latest(run)


def point_latest(run: Run) -> None:
    """Lets `latest` point to a run that is done."""
    making = run.dir.with_name(f".{LATEST}.{os.getpid()}")
    for left in run.dir.parent.glob(f".{LATEST}.*"):
        if left == making or time.time() - left.lstat().st_mtime > ABANDONED_SECONDS:
            left.unlink(missing_ok=True)
    making.symlink_to(run.dir.name)
    os.replace(making, run.dir.with_name(LATEST))


def find_step(out_dir: Path, name: str, version: int, command: str, chosen: Path | None = None) -> Path:
    """The directory of the latest run of a step, or `chosen`. command: what makes it, for the message.

    Raises UsageError where there is none, it is not whole, or another version made it.
    """
    directory = Path(chosen or Path(out_dir) / f"{name}_precomp" / LATEST).resolve()
    if not (directory / "done.json").exists():
        raise UsageError(f"no finished artefacts at {directory}; make them with: {command}")
    made_by = re.fullmatch(r"(.+)_[0-9a-f]{12}(_\d+)?", directory.name)  # a copy may have any name
    if made_by and made_by[1] != name:
        raise UsageError(f"{directory} holds what the step {made_by[1]} made, not {name}; make that with: {command}")
    made = read_config(directory).get("version")
    if made != version:
        raise UsageError(f"{directory} is stale: it was made by version {made} of the step, and this one reads {version}; make it again with: {command}")
    return directory


def read_part(directory: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one part of a finished step. Raises UsageError where they are missing or damaged."""
    try:
        tensors = load_checkpoint(directory / f"{name}.safetensors")[0]
    except BadCheckpoint as error:
        raise UsageError(f"{directory} lacks what the plot needs ({error}); make it again with --new") from error
    return {key: value.numpy() for key, value in tensors.items()}


def read_labels(directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """The part `labels`, whose arrays are called <sample>.<label>: {sample: {label: [n]}}. Raises UsageError as `read_part` does."""
    samples: dict[str, dict[str, np.ndarray]] = {}
    for name, column in read_part(directory, "labels").items():
        sample, label = name.split(".")
        samples.setdefault(sample, {})[label] = column
    return samples


def read_numbers(directory: Path) -> dict:
    """What numbers.json says. Raises UsageError where it is missing or damaged."""
    if not (directory / "numbers.json").exists():
        raise UsageError(f"{directory / 'numbers.json'} is missing; make it again with --new")
    return read_json(directory / "numbers.json", "make it again with --new")
