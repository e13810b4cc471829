"""Run directories: what was asked, with what versions, and whether it is done; the same command finds its run again."""

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
from common.stopping import report_on_stop

_ANOTHER = "delete that run or start another with --new"
NOT_IDENTITY = ("device", "gpu_device", "precision", "num_threads", "log_level", "out_dir", "new", "track")
"""Config fields that say where and how a run is made, not what it makes; they do not enter its key."""
PACKAGES = ("torch", "numpy", "procgen-mirror", "gym3", "safetensors")


def plain(config) -> dict:
    """A dataclass (or dict) as plain JSON values, nested dataclasses and paths included."""

    def default(value):
        return vars(value) if dataclasses.is_dataclass(value) else str(value)

    return json.loads(json.dumps(config, default=default))


def identity(config):
    """What a config asks for beyond the defaults: a new field with a default leaves the identity of old runs as it was."""
    if dataclasses.is_dataclass(config):
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        return {k: identity(v) for k, v in vars(config).items() if k not in NOT_IDENTITY and v != defaults[k]}
    if isinstance(config, dict):
        return {k: identity(v) for k, v in config.items() if k not in NOT_IDENTITY}
    return [identity(v) for v in config] if isinstance(config, (list, tuple)) else config


def key_of(config) -> str:
    """A short stable hash of a config's identity."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True, default=str).encode()).hexdigest()[:12]


def agrees(old, new) -> bool:
    """Whether two plain configs say the same wherever both say something (a default may have changed since)."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(agrees(old[k], new[k]) for k in old.keys() & new.keys() - set(NOT_IDENTITY))
    return old == new


def file_id(path: Path) -> str:
    """The identity of an input file: the start of the hash of its bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def git_state() -> dict:
    """The commit that the code stands at and whether the tree differs from it; unknown outside a checkout."""

    def git(*words):
        return subprocess.run(("git", *words), capture_output=True, text=True, cwd=Path(__file__).parent)

    commit = git("rev-parse", "HEAD")
    if commit.returncode:
        return {"commit": "unknown", "dirty": None}
    return {"commit": commit.stdout.strip(), "dirty": bool(git("status", "--porcelain").stdout.strip())}


def manifest(inputs: dict[str, str] | None = None, precision: str | None = None) -> dict:
    """Versions, commit, machine type and threads, the precision that networks run in (None: none runs), and the ids of what the run reads."""
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
    """A directory that holds config.json, manifest.json, and done.json once everything in it is whole.

    lock: while it lives, no other process opens the run; None for a run that was done when it was opened. precision: bf16 or fp32, what its
    networks run in from its first step to its last; None where it runs none.
    """

    dir: Path
    resumed: bool
    lock: IO | None = None
    precision: str | None = None

    @property
    def done(self) -> bool:
        return (self.dir / "done.json").exists()

    def finish(self, summary: dict) -> None:
        write_json(self.dir / "done.json", summary)


def read_config(run: Path) -> dict:
    """A run's config.json. Raises UsageError when it is damaged."""
    return read_json(run / "config.json", _ANOTHER)


def open_run(
    parent: Path, name: str, config, new: bool = False, inputs: dict[str, str] | None = None, precision: Precision | None = None
) -> Run:
    """Finds the latest run of this config under `parent`, or starts one in `parent/<name>_<key>[_n]`. Says which, and where it lies.

    Args:
        new: start another even where one is there.
        inputs: ids of what is read; they are part of the key.
        precision: of the networks that run; None where none does. A run begun elsewhere keeps its own unless another is asked for by name,
            which is another run.

    Raises:
        UsageError: another process works at the run.
    """
    stem = f"{name}_{key_of({'config': config, 'inputs': inputs or {}})}"
    taken = _numbered(parent, stem)
    begun = [path for _, path in taken if (path / "config.json").exists()]  # a kill may have left a directory without one
    alike = [] if new else [path for path in begun if agrees(read_config(path), plain(config))]
    if precision:
        alike = [path for path in alike if precision.fits(_recorded_precision(path))]
    if alike:
        run = _reopen(alike[-1], precision)
        if not run.done:
            report_on_stop(partial(_kept, run.dir))
        return run
    directory = parent / (f"{stem}_{taken[-1][0] + 1}" if taken else stem)
    begun_in = precision.name if precision else None
    lock = _begin(directory, config, inputs, begun_in)
    if lock is None:
        return open_run(parent, name, config, new, inputs, precision)
    logging.info("writing to %s%s", directory, f", in {begun_in}" if begun_in else "")
    report_on_stop(partial(_kept, directory))
    return Run(directory, False, lock, begun_in)


def _reopen(directory: Path, precision: Precision | None) -> Run:
    """A run that is there, locked unless it is done, in the precision that it was begun in."""
    run, recorded = Run(directory, resumed=True), _recorded_precision(directory) if precision else None
    if run.done:
        logging.info("%s is done; --new makes another", directory)
        return dataclasses.replace(run, precision=recorded or (precision and precision.name))
    run = dataclasses.replace(run, lock=_claim(directory), precision=precision.keep(recorded, directory) if precision else None)
    logging.info("resuming %s%s", directory, f", in {run.precision}" if run.precision else "")
    return run


def _recorded_precision(run: Path) -> str | None:
    """The precision that a run's manifest names; None where it names none, as older ones do."""
    if not (run / "manifest.json").exists():
        raise UsageError(f"{run / 'manifest.json'} is missing; {_ANOTHER}")
    return read_json(run / "manifest.json", _ANOTHER).get("precision")


def _kept(directory: Path) -> str:
    """What a stop says of a run: where its finished files are, if it has any."""
    return "" if is_empty(directory) else f"what was finished is in {directory}"


def _numbered(parent: Path, stem: str) -> list[tuple[int, Path]]:
    """The directories <stem>, <stem>_2, <stem>_3, ... that are there, with their numbers and in that order."""
    found = ((re.fullmatch(rf"{re.escape(stem)}(?:_(\d+))?", path.name), path) for path in parent.glob(f"{stem}*"))
    return sorted((int(match[1] or 1), path) for match, path in found if match)


def _begin(directory: Path, config, inputs: dict[str, str] | None, precision: str | None) -> IO | None:
    """Makes the run's directory, which appears whole and locked; None where another process was quicker. Gives the lock."""
    first_made = first_missing(directory)
    making = directory.with_name(f".{directory.name}.{os.getpid()}")  # named after the process, so that two do not meet there
    _remove_unfinished(directory)
    try:
        making.mkdir(parents=True, exist_ok=True)
        lock = _claim(making)
        write_json(making / "manifest.json", manifest(inputs, precision))
        write_json(making / "config.json", plain(config))
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise UsageError(f"cannot make the run directory {directory}: {error.strerror}; choose another place") from error
    try:
        making.rename(directory)
    except OSError as error:
        shutil.rmtree(making)
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return None
    remember(directory, first_made)
    return lock


def _remove_unfinished(directory: Path) -> None:
    """Removes what processes that were killed while they made this run's directory left of it."""
    for left in directory.parent.glob(f".{glob.escape(directory.name)}.*"):
        if (left / "lock").exists() and not _lives_here(left.suffix[1:]):  # its process may be about to lock it
            with suppress(Locked, OSError):  # another process is at it, or has just put it in its place
                lock = hold(left / "lock")
                shutil.rmtree(left)
                lock.close()


def _lives_here(process: str) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _claim(directory: Path) -> IO:
    """The run's lock. Raises UsageError while another process has it."""
    try:
        return hold(directory / "lock")
    except Locked as holder:
        way_out = "wait for it, or stop it and run this command again, or start another run with --new"
        raise UsageError(f"{directory} is being written by {holder}: {way_out}") from holder


def choose_device(device: str, gpu_device: int = 0) -> torch.device:
    """auto takes a GPU where there is one; gpu or cuda insists on it; cpu."""
    if device not in ("auto", "gpu", "cuda", "cpu"):
        raise UsageError(f"unknown device {device!r}; choose auto, gpu or cpu")
    if device in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UsageError("no GPU is available here; use --device cpu or --device auto")
    return torch.device(f"cuda:{gpu_device}" if device != "cpu" and torch.cuda.is_available() else "cpu")
