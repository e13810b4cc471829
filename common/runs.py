"""Run directories: resolved config, versions and completion marker; the same command finds its run again."""

import dataclasses
import errno
import glob
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO

import torch

from common.checkpoints import write_json
from common.descriptions import read_json
from common.errors import UsageError
from common.fresh import first_missing, is_empty, remember
from common.locks import Locked, hold
from common.precision import Precision
from common.shared_flags import ALONE, Job
from common.stopping import report_on_stop

_ANOTHER = "delete that run or start another with --new"
NOT_IDENTITY = ("device", "precision", "num_threads", "log_level", "out_dir", "new", "track", "job")
"""Config fields that do not affect results and so are not part of a run's key."""
CHECKSUMS = "checksums.json"
"""In a finished run, the ids of its other JSON files."""
PACKAGES = ("torch", "numpy", "procgen-mirror", "gym3", "safetensors")


def plain(config) -> dict:
    """A dataclass or dict as plain JSON values, nested dataclasses and paths included."""

    def default(value):
        return vars(value) if dataclasses.is_dataclass(value) else str(value)

    return json.loads(json.dumps(config, default=default))


def identity(config):
    """The entries of a config that differ from its defaults, so that new fields leave existing keys
    unchanged.
    """
    if dataclasses.is_dataclass(config):
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        return {k: identity(v) for k, v in vars(config).items() if k not in NOT_IDENTITY and v != defaults[k]}
    if isinstance(config, dict):
        return {k: identity(v) for k, v in config.items() if k not in NOT_IDENTITY}
    return [identity(v) for v in config] if isinstance(config, (list, tuple)) else config


def key_of(config) -> str:
    """Short hash of a config's identity."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True, default=str).encode()).hexdigest()[:12]


def agrees(old, new) -> bool:
    """Whether two plain configs agree on all shared entries (defaults may have changed meanwhile)."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(agrees(old[k], new[k]) for k in old.keys() & new.keys() - set(NOT_IDENTITY))
    return old == new


def file_id(path: Path) -> str:
    """Id of a file: the first 16 hex digits of its SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def git_state() -> dict:
    """The current git commit and whether the tree is dirty; "unknown" outside a checkout."""

    def git(*words):
        return subprocess.run(("git", *words), capture_output=True, text=True, cwd=Path(__file__).parent)

    commit = git("rev-parse", "HEAD")
    if commit.returncode:
        return {"commit": "unknown", "dirty": None}
    return {"commit": commit.stdout.strip(), "dirty": bool(git("status", "--porcelain").stdout.strip())}


def manifest(inputs: dict[str, str] | None = None, precision: str | None = None) -> dict:
    """Versions, commit, machine, threads, precision (None if no network runs) and ids of the inputs."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "git": git_state(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        **({"precision": precision} if precision else {}),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "inputs": inputs or {},
    }


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory: config.json, manifest.json, and done.json once it is complete.

    Attributes:
        dir: the directory.
        resumed: whether the run existed before.
        lock: excludes other processes while it lives; None for a completed run.
        precision: bf16 or fp32, in which all of the run's networks run; None if none does.
    """

    dir: Path
    resumed: bool
    lock: IO | None = None
    precision: str | None = None

    @property
    def done(self) -> bool:
        return (self.dir / "done.json").exists()

    def finish(self, summary: dict) -> None:
        """Writes checksums of the run's JSON files, then done.json."""
        write_json(self.dir / CHECKSUMS, _json_ids(self.dir))
        write_json(self.dir / "done.json", summary)


def _json_ids(run: Path) -> dict[str, str]:
    """{name: id} of the JSON files of a run, aside from the two that mark it as finished."""
    files = sorted(path for path in run.glob("*.json") if path.name not in (CHECKSUMS, "done.json"))
    return {path.name: file_id(path) for path in files}


def check_finished(run: Path) -> None:
    """Raises UsageError if a JSON file of a finished run has changed since. Runs from before there were
    checksums are not checked.
    """
    if (run / CHECKSUMS).exists():
        stated = read_json(run / CHECKSUMS, _ANOTHER)
        found = _json_ids(run)
        changed = sorted(name for name, id_ in stated.items() if found.get(name) != id_)
        if changed:
            raise UsageError(f"{run / changed[0]} is damaged: it does not match its checksum; {_ANOTHER}")


def read_config(run: Path) -> dict:
    """Reads a run's config.json. Raises UsageError if it is damaged."""
    return read_json(run / "config.json", _ANOTHER)


def open_run(
    parent: Path,
    name: str,
    config,
    new: bool = False,
    inputs: dict[str, str] | None = None,
    precision: Precision | None = None,
    job: Job = ALONE,
) -> Run:
    """Finds the latest run of this config under `parent`, or creates `parent/<name>_<key>[_n]`; logs which.

    Args:
        parent: directory of the runs.
        name: prefix of the directory name.
        config: resolved config; its identity is part of the key.
        new: create another run even if one exists.
        inputs: {name: id} of the inputs; part of the key.
        precision: of the networks that run, or None. A run begun in another precision keeps its own if `auto`
            was requested; otherwise a new run is created.
        job: of several that work on the run; each excludes only a second one with the same share.

    Raises:
        UsageError: another process works on the run, or on this job's share of it.
    """
    stem = f"{name}_{key_of({'config': config, 'inputs': inputs or {}})}"
    taken = _numbered(parent, stem)
    # a kill may have left a directory without one
    begun = [path for _, path in taken if (path / "config.json").exists()]
    alike = [] if new else [path for path in begun if agrees(read_config(path), plain(config))]
    if precision:
        alike = [path for path in alike if precision.fits(_recorded_precision(path))]
    if alike:
        run = _reopen(alike[-1], precision, job)
        if not run.done:
            report_on_stop(partial(_kept, run.dir))
        return run
    directory = parent / (f"{stem}_{taken[-1][0] + 1}" if taken else stem)
    begun_in = precision.name if precision else None
    lock = _begin(directory, config, inputs, begun_in, job)
    if lock is None:
        return open_run(parent, name, config, new, inputs, precision, job)
    logging.info("writing to %s%s", directory, f", in {begun_in}" if begun_in else "")
    report_on_stop(partial(_kept, directory))
    return Run(directory, False, lock, begun_in)


def _reopen(directory: Path, precision: Precision | None, job: Job) -> Run:
    """Opens an existing run in its recorded precision; locks it unless it is complete."""
    run = Run(directory, resumed=True)
    recorded = _recorded_precision(directory) if precision else None
    if run.done:
        logging.info("%s is done; --new makes another", directory)
        return dataclasses.replace(run, precision=recorded or (precision and precision.name))
    run = dataclasses.replace(
        run, lock=_claim(directory, job), precision=precision.keep(recorded, directory) if precision else None
    )
    logging.info("resuming %s%s", directory, f", in {run.precision}" if run.precision else "")
    return run


def _recorded_precision(run: Path) -> str | None:
    """Precision recorded in a run's manifest; None if it records none."""
    if not (run / "manifest.json").exists():
        raise UsageError(f"{run / 'manifest.json'} is missing; {_ANOTHER}")
    return read_json(run / "manifest.json", _ANOTHER).get("precision")


def _kept(directory: Path) -> str:
    """Message of an interrupted run: where its finished files are, if any."""
    return "" if is_empty(directory) else f"what was finished is in {directory}"


def _numbered(parent: Path, stem: str) -> list[tuple[int, Path]]:
    """Existing directories <stem>, <stem>_2, <stem>_3, ... with their numbers, in order."""
    found = (
        (re.fullmatch(rf"{re.escape(stem)}(?:_(\d+))?", path.name), path) for path in parent.glob(f"{stem}*")
    )
    return sorted((int(match[1] or 1), path) for match, path in found if match)


def _begin(
    directory: Path, config, inputs: dict[str, str] | None, precision: str | None, job: Job
) -> IO | None:
    """Creates the run directory, complete and locked. Returns the lock; None if another process was first."""
    first_made = first_missing(directory)
    # named after the process, so that two do not meet there
    making = directory.with_name(f".{directory.name}.{os.getpid()}")
    _remove_unfinished(directory)
    try:
        lock = _make_locked(making, job)
        write_json(making / "manifest.json", manifest(inputs, precision))
        write_json(making / "config.json", plain(config))
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise UsageError(
            f"cannot make the run directory {directory}: {error.strerror}; choose another place"
        ) from error
    try:
        making.rename(directory)
    except OSError as error:
        shutil.rmtree(making)
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return None
    if job.count == 1:  # else others may have begun to work there
        remember(directory, first_made)
    return lock


def _make_locked(making: Path, job: Job) -> IO:
    """Creates a directory and locks it."""
    while True:
        making.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # a process elsewhere took it, still empty, for abandoned
            return _claim(making, job)


def _remove_unfinished(directory: Path) -> None:
    """Deletes what killed processes left while they created this run directory."""
    for left in directory.parent.glob(f".{glob.escape(directory.name)}.*"):
        if _lives_here(left.suffix[1:]):
            continue
        with suppress(Locked, OSError):  # another process is at it, or has just put it in its place
            if locks := list(left.glob("lock*")):
                lock = hold(locks[0])
                shutil.rmtree(left)
                lock.close()
            else:
                left.rmdir()


def _lives_here(process: str) -> bool:
    """Whether a process with that id runs on this machine."""
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _claim(directory: Path, job: Job) -> IO:
    """Locks a run, or a job's share of it. Raises UsageError if another process holds it."""
    try:
        return hold(directory / job.lock_name)
    except Locked as holder:
        remedy = "wait for it, or stop it and run this command again, or start another run with --new"
        raise UsageError(f"{directory} is being written by {holder}: {remedy}") from holder


def choose_device(device: str) -> torch.device:
    """Resolves --device: auto (a GPU if there is one), cpu, gpu or cuda (the first GPU), or a GPU's number.

    Raises:
        UsageError: the name is unknown, or this machine has no such GPU.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if device not in ("auto", "gpu", "cuda") and not device.isdecimal():
        raise UsageError(f"unknown device {device!r}; choose auto, cpu, gpu, or the number of a GPU")
    number = int(device) if device.isdecimal() else 0
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= count:
        raise UsageError(
            f"--device {device} asks for GPU {number}, and this machine has {count or 'none'}; use"
            " --device auto"
        )
    return torch.device(f"cuda:{number}")
