"""Steps of an analysis: each precompute script writes one directory per combination of inputs and settings.

`<out_dir>/<name>_precomp/<key>/` holds arrays (`artefacts.cached_part`), directions, numbers.json, and
done.json once the step is finished; the link `latest` next to it points to the last finished run. The same
command resumes an unfinished run and does nothing for a finished one. Plots read these directories.
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
from common.runs import Run, UsageError, check_finished, open_run, read_config
from common.shared_flags import ALONE, Job
from interpret.directions.directions import Directions, load_directions, save_directions

LATEST = "latest"
ABANDONED_SECONDS = 60.0
"""Age from which on a temporary link belongs to a process that was killed."""


def open_step(
    out_dir: Path,
    name: str,
    version: int,
    settings: dict,
    inputs: dict[str, str],
    new: bool = False,
    precision: Precision | None = None,
    job: Job = ALONE,
) -> Run:
    """The run of a step with these settings and inputs: an existing one, or a new one.

    Args:
        out_dir: directory of all artefacts.
        name: of the step.
        version: of the step's definitions, raised when its numbers change.
        settings: parameters that determine the result.
        inputs: ids of what the step reads.
        new: recompute a finished step.
        precision: of the networks that the step runs, if any.
        job: of several that share the work of the step.
    """
    config = {"version": version} | settings
    return open_run(Path(out_dir) / f"{name}_precomp", name, config, new, inputs, precision, job)


def cached_directions(run: Run, name: str, fit: Callable[[], Directions]) -> Directions:
    """Directions of a run: read if the file exists, else fit and written."""
    path = run.dir / f"{name}.safetensors"
    if not path.exists():
        save_directions(path, fit())
    return load_directions(path)


def cached_json(run: Run, name: str, compute: Callable[[], dict | list]):
    """JSON content of a run: read if the file exists, else computed and written."""
    path = run.dir / f"{name}.json"
    if not path.exists():
        write_json(path, compute())
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged; delete it and run the same command again") from error


def finish_step(run: Run, numbers: dict) -> None:
    """Writes numbers.json, marks the run as finished, and points `latest` to it."""
    write_json(run.dir / "numbers.json", numbers)
    run.finish({})
    point_latest(run)


def point_latest(run: Run) -> None:
    """Points the link `latest` to a finished run."""
    temporary = run.dir.with_name(f".{LATEST}.{os.getpid()}")
    for link in run.dir.parent.glob(f".{LATEST}.*"):
        if link == temporary or time.time() - link.lstat().st_mtime > ABANDONED_SECONDS:
            link.unlink(missing_ok=True)
    temporary.symlink_to(run.dir.name)
    os.replace(temporary, run.dir.with_name(LATEST))


def find_step(out_dir: Path, name: str, version: int, command: str, chosen: Path | None = None) -> Path:
    """Directory of the latest run of a step, or `chosen`.

    Args:
        out_dir: directory of all artefacts.
        name: of the step.
        version: that the caller reads.
        command: computes the step, for error messages.
        chosen: directory given by the user.

    Raises:
        UsageError: there is no finished run, or it is of another step or version.
    """
    directory = Path(chosen or Path(out_dir) / f"{name}_precomp" / LATEST).resolve()
    if not (directory / "done.json").exists():
        raise UsageError(f"no finished artefacts at {directory}; compute them with: {command}")
    key = re.fullmatch(r"(.+)_[0-9a-f]{12}(_\d+)?", directory.name)  # a copy may have any name
    if key and key[1] != name:
        raise UsageError(
            f"{directory} holds artefacts of the step {key[1]}, not {name}; compute these with: {command}"
        )
    check_finished(directory)
    found = read_config(directory).get("version")
    if found != version:
        raise UsageError(
            f"{directory} is stale: it is of version {found} of the step, and version {version} is needed; "
            f"recompute it with: {command}"
        )
    return directory


def read_part(directory: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one part of a finished step. Raises UsageError if they are missing or damaged."""
    try:
        tensors = load_checkpoint(directory / f"{name}.safetensors")[0]
    except BadCheckpoint as error:
        raise UsageError(f"{directory} lacks a part ({error}); recompute it with --new") from error
    return {key: value.numpy() for key, value in tensors.items()}


def read_labels(directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """The part `labels`, with arrays named <sample>.<label>, as {sample: {label: [n]}}; see `read_part`."""
    samples: dict[str, dict[str, np.ndarray]] = {}
    for name, column in read_part(directory, "labels").items():
        sample, label = name.split(".")
        samples.setdefault(sample, {})[label] = column
    return samples


def read_numbers(directory: Path) -> dict:
    """Content of numbers.json. Raises UsageError if it is missing or damaged."""
    if not (directory / "numbers.json").exists():
        raise UsageError(f"{directory / 'numbers.json'} is missing; recompute the step with --new")
    return read_json(directory / "numbers.json", "recompute the step with --new")
