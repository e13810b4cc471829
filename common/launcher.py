"""Flags that send a script to a cluster instead of running it here; `slurm/` submits what they describe.

    python record.py --exp_name coinrun ... --launcher slurm --partition gpu --array 8

They go with every script. Words that are not the launcher's are the script's own, and are checked before
anything is submitted.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.errors import UsageError
from common.flags import boolean_flags, flag_names, given_flags, spelled
from common.shared_flags import WRITTEN

FLAG = "--launcher"
LAUNCHING = "Sends a script to a cluster instead of running it here."
TASK_FLAG = "--job"
"""Flag of the scripts whose work several jobs can share (common/shared_flags.py)."""

CLUSTER_FLAGS = ("partition", "account", "time", "mem", "after", "save_seconds", "max_requeues")
"""Flags without effect on jobs that run on this machine."""
DISTRIBUTED = ("train", "train_gen_model", "train_dt")
"""Scripts that train with several processes."""

_ANY = 2**31


@dataclass
class Launch:
    """Where and how jobs run."""

    launcher: Literal["slurm", "sbatch", "local"] = "slurm"
    """slurm: submit with submitit; sbatch: write a plain batch file and submit it; local: run the same jobs
    on this machine, to try them.
    """
    partition: str | None = None
    """Slurm partition; default: the cluster's."""
    account: str | None = None
    """Slurm account that is charged; default: yours."""
    time: str | None = None
    """Time limit of each job: minutes, H:MM:SS or D-HH:MM:SS. A job that reaches it saves its state and
    queues again. Default: twice the estimate, or the partition's limit where there is none.
    """
    mem: str | None = None
    """Memory of each job, such as 16G; default: twice the estimate, or the partition's."""
    gpus: int = 0
    """GPUs of each job."""
    cpus: int = 2
    """CPU cores of each job and process."""
    processes: int = 1
    """Processes of train.py, train_gen_model.py or train_dt.py that train together in each job, on one node
    (torchrun); where --gpus are asked for, at most one for each.
    """
    array: str | None = None
    """Number of jobs that share the work of a script with --job, such as 8; 100%10 runs ten at a time."""
    sweep: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: none)")] = ()
    """A flag of the script and its values, one job for each: --sweep seed 0 1 2."""
    after: Annotated[tuple[int, ...], tyro.conf.arg(help_behavior_hint="(default: none)")] = ()
    """Ids of jobs that must have succeeded before these begin."""
    job_name: str | None = None
    """Name of the jobs; default: the script's."""
    job_dir: Path = Path("logs/slurm")
    """Directory for batch files and the jobs' output; all nodes must see it."""
    save_seconds: int = 120
    """Seconds before the time limit at which a job is asked to save its state."""
    max_requeues: int = 100
    """How often a job may queue again."""
    dry_run: bool = False
    """Print the batch file and an estimate of time, memory and disk; submit nothing."""

    def check(self) -> None:
        """Raises UsageError for flags that cannot be satisfied."""
        if self.array and not re.fullmatch(r"[1-9]\d*(%[1-9]\d*)?", self.array):
            raise UsageError(
                f"--array is {self.array}: give a number of jobs, such as 8, or 100%10 for ten at a time"
            )
        for name in ("cpus", "processes"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is {getattr(self, name)}: give 1 or more")
        for name in ("gpus", "save_seconds", "max_requeues"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name} is {getattr(self, name)}: give 0 or more")
        if min(self.after, default=1) < 1:
            raise UsageError(f"--after {' '.join(map(str, self.after))}: give ids of jobs, which are above 0")
        if 0 < self.gpus < self.processes:
            raise UsageError(
                f"--processes is {self.processes} and --gpus is {self.gpus}: give each process a GPU"
            )
        for name in CLUSTER_FLAGS if self.launcher == "local" else ():
            if getattr(self, name) != getattr(Launch, name):
                raise UsageError(f"--{name} has no effect with --launcher local: leave it out")
        if self.array and self.sweep:
            raise UsageError("--array shares one command's work, and --sweep runs several commands: give one")
        if len(self.sweep) == 1:
            raise UsageError(f"--sweep {self.sweep[0]} has no values: give some, such as --sweep seed 0 1 2")

    @property
    def num_jobs(self) -> int:
        """How many jobs the flags ask for."""
        return int(self.array.partition("%")[0]) if self.array else max(len(self.sweep) - 1, 1)

    @property
    def at_a_time(self) -> int | None:
        """How many of an array's jobs may run at once; None for any number."""
        return int(self.array.partition("%")[2]) if "%" in (self.array or "") else None

    def task_words(self) -> list[list[str]]:
        """Words that each job adds to the script's own."""
        if self.array:
            return [[TASK_FLAG, str(i), str(self.num_jobs)] for i in range(self.num_jobs)]
        return [[f"--{self.sweep[0]}", value] for value in self.sweep[1:]] or [[]]


def split_launcher(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The script's own words, and the launcher's; None where the script is to run here."""
    if not any(spelled(word.partition("=")[0]) == FLAG for word in words):
        return list(words), None
    boolean = boolean_flags(Launch)
    arity = {f"--{one.name}": _arity(one.default) for one in fields(Launch)} | {"--no_dry_run": 0}
    own, launcher, left = [], [], list(words)
    while left:
        word = left.pop(0)
        flag, equals, _ = word.partition("=")
        if spelled(flag) not in arity:
            own.append(word)
            continue
        launcher.append(word)
        wanted = 0 if equals else arity[spelled(flag)]
        if not equals and spelled(flag) in boolean and left and left[0].capitalize() in ("True", "False"):
            wanted = 1
        while wanted and left and not left[0].startswith("--"):
            launcher.append(left.pop(0))
            wanted -= 1
    return own, launcher


def _arity(default) -> int:
    """How many words follow the flag of that default at most."""
    return _ANY if isinstance(default, tuple) else int(not isinstance(default, bool))


def check_script(launch: Launch, script: Sequence[str]) -> None:
    """Raises UsageError for several processes of a script that does not train with them.

    script: its path, or -m and its module.
    """
    if launch.processes > 1 and Path(script[-1]).name.removesuffix(".py") not in DISTRIBUTED:
        able = ", ".join(f"{name}.py" for name in DISTRIBUTED)
        raise UsageError(f"--processes is for {able}: leave it out")


def commands(args_type: type, launch: Launch, words: Sequence[str]) -> list[list[str]]:
    """The script's words for each job. Raises UsageError where it has no flag to share its work by."""
    known = flag_names(args_type)
    if launch.array and TASK_FLAG not in known:
        raise UsageError(
            "the work of this script cannot be shared by --array: it has no --job; leave --array out, or"
            " run it several times with --sweep"
        )
    if launch.sweep and f"--{launch.sweep[0]}" not in known:
        raise UsageError(f"--sweep {launch.sweep[0]}: this script has no flag --{launch.sweep[0]}")
    return [[*words, *more] for more in launch.task_words()]


def read_and_written(args_type: type, jobs: Sequence, words: Sequence[str]) -> tuple[dict, list[str]]:
    """Paths that the words of a script name to be read, and paths that it writes to, defaults included.

    Args:
        args_type: the script's flags.
        jobs: parsed flags of each job.
        words: flags of one job; the others give the same flags.

    Returns:
        {flag: paths}, and paths.
    """
    given = given_flags(args_type, words)
    read: dict[str, dict[str, None]] = {}
    written: dict[str, None] = {}
    for flags in jobs:
        for name, path in _paths(flags):
            if name in WRITTEN:
                written[path] = None
            elif name in given:
                read.setdefault(f"--{name}", {})[path] = None
    return {flag: list(paths) for flag, paths in read.items()}, list(written)


def _paths(flags) -> Iterator[tuple[str, str]]:
    """Names and values of the flags that are paths, those of nested groups included."""
    for name, value in vars(flags).items():
        if is_dataclass(value):
            yield from _paths(value)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path):
                yield name, str(one)
