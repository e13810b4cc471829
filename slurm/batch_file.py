"""Batch files: what sbatch is given for a script and its launcher's flags."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from common.launcher import TASK_FLAG, Launch

INDEX = "SLURM_ARRAY_TASK_ID"


@dataclass(frozen=True)
class Batch:
    """One job, or an array of jobs.

    Attributes:
        name: of the jobs.
        script: what python is given, without the words that differ between the jobs of an array.
        launch: resources and limits, resolved.
        directory: for batch file and output, absolute.
    """

    name: str
    script: tuple[str, ...]
    launch: Launch
    directory: Path

    def commands(self) -> list[tuple[str, ...]]:
        """What python is given in each job."""
        return [(*self.program(), *more) for more in self.launch.task_words()]

    def program(self) -> tuple[str, ...]:
        """What python is given: the script, or torchrun and the script for several processes."""
        if self.launch.processes == 1:
            return self.script
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
        return (*torchrun, str(self.launch.processes), *self.script)


def options(batch: Batch) -> dict[str, str | int | bool]:
    """Options of sbatch by name, without `array` and `output`, which submitit writes itself."""
    launch = batch.launch
    given = {
        "account": launch.account,
        "cpus-per-task": launch.cpus * launch.processes,
        "dependency": ":".join(["afterok", *map(str, launch.after)]) if launch.after else None,
        "gpus-per-node": launch.gpus or None,
        "job-name": batch.name,
        "kill-on-invalid-dep": "yes" if launch.after else None,
        "mem": launch.mem,
        "nodes": 1,
        "ntasks": 1,
        "open-mode": "append",
        "partition": launch.partition,
        "requeue": True,
        "signal": f"USR1@{launch.save_seconds}",
        "time": launch.time,
    }
    return {name: value for name, value in given.items() if value is not None}


def srun_options(batch: Batch) -> list[str]:
    """Options that srun needs itself: since Slurm 22.05 it does not take the number of cores from sbatch."""
    return [f"--cpus-per-task={options(batch)['cpus-per-task']}"]


def output_pattern(batch: Batch) -> str:
    """File of a job's output, with sbatch's placeholders."""
    return str(batch.directory / ("%A_%a.out" if is_array(batch.launch) else "%j.out"))


def is_array(launch: Launch) -> bool:
    """Whether there are several jobs, or an array was asked for."""
    return bool(launch.array or launch.sweep)


def array_range(launch: Launch) -> str:
    """The option `array` of sbatch."""
    at_a_time = f"%{launch.at_a_time}" if launch.at_a_time else ""
    return f"0-{launch.num_jobs - 1}{at_a_time}"


def batch_text(batch: Batch) -> str:
    """The batch file."""
    found = options(batch) | {"output": output_pattern(batch)}
    if is_array(batch.launch):
        found["array"] = array_range(batch.launch)
    lines = [
        f"#SBATCH --{name}" if value is True else f"#SBATCH --{name}={shlex.quote(str(value))}"
        for name, value in sorted(found.items())
    ]
    limits = str(batch.launch.max_requeues), str(batch.launch.cpus)
    run = [sys.executable, "-m", "slurm.run", *limits, *batch.program()]
    srun = ["srun", "--unbuffered", *srun_options(batch)]
    command = " ".join([*map(shlex.quote, [*srun, *run]), *_task_words(batch.launch)])
    return "\n".join(["#!/bin/bash", *lines, "", *_values(batch.launch), command, ""])


def _task_words(launch: Launch) -> list[str]:
    """The words that differ between the jobs of an array, in terms of the shell."""
    if launch.array:
        return [TASK_FLAG, f'"${INDEX}"', str(launch.num_jobs)]
    return [f"--{launch.sweep[0]}", f'"${{VALUES[${INDEX}]}}"'] if launch.sweep else []


def _values(launch: Launch) -> list[str]:
    """The shell's list of a sweep's values."""
    return [f"VALUES=({shlex.join(launch.sweep[1:])})"] if launch.sweep else []
