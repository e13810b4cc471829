"""Runs the jobs of a batch on this machine, with the command that a batch file has."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.child_processes import pass_on, start_child
from common.errors import UsageError
from common.stopping import saving_on_stop, uninterrupted
from slurm.batch_file import Batch

OF_A_JOB = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
"""What names the Slurm job that this process may run in; its own jobs are none of Slurm's."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.05


def run_here(batch: Batch) -> int:
    """Runs the jobs, as many at a time as the array allows, and waits for them. Returns this process's id,
    which names their output. A stop is passed on to them as SIGTERM.

    Raises:
        UsageError: one of them failed, or this machine has fewer GPUs than a job asks for.
    """
    gpus = visible_gpus(os.environ) if batch.launch.gpus else []
    if len(gpus) < batch.launch.gpus:
        raise UsageError(f"--gpus is {batch.launch.gpus}, and this machine has {len(gpus)}: ask for fewer")
    commands = batch.commands()
    codes = _run_all(batch, commands, [environment_of(batch, i, gpus) for i in range(len(commands))])
    failed = [i for i, code in enumerate(codes) if code]
    if failed:
        output = output_of(batch, failed[0])
        last = output.read_text().strip().splitlines()[-1:]
        raise UsageError(f"{len(failed)} of {len(codes)} jobs failed; see {output} {' '.join(last)}")
    return os.getpid()


def _run_all(batch: Batch, commands: Sequence, environments: Sequence[Mapping]) -> list[int]:
    """Exit codes of the jobs, in their order."""
    most = batch.launch.at_a_time or len(commands)
    started: list[subprocess.Popen] = []
    place = f"the jobs were asked to save; their output is in {batch.directory}"
    with saving_on_stop(lambda: pass_on(started, place, signal.SIGTERM)):
        while len(started) < len(commands) or _running(started):
            if len(started) < len(commands) and _running(started) < most:
                with uninterrupted():
                    i = len(started)
                    started.append(_start(batch, i, commands[i], environments[i]))
            else:
                time.sleep(POLL_SECONDS)
    return [process.returncode for process in started]


def _running(started: Sequence[subprocess.Popen]) -> int:
    return sum(process.poll() is None for process in started)


def _start(batch: Batch, i: int, words: Sequence[str], environment: Mapping) -> subprocess.Popen:
    limits = str(batch.launch.max_requeues), str(batch.launch.cpus)
    command = [sys.executable, "-u", "-m", "slurm.run", *limits, *words]
    with open(output_of(batch, i), "a") as output:
        return start_child(command, stdout=output, stderr=subprocess.STDOUT, env=environment)


def output_of(batch: Batch, i: int) -> Path:
    """File of a job's output."""
    return batch.directory / f"{os.getpid()}_{i}.out"


def environment_of(batch: Batch, i: int, gpus: Sequence[str]) -> dict[str, str]:
    """Environment of job i: its GPUs are the next ones in turn, so that jobs at the same time share as few as
    they can.
    """
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_JOB}
    number = batch.launch.gpus
    own = [gpus[(i * number + k) % len(gpus)] for k in range(number)]
    return kept | {VISIBLE: ",".join(own)}


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Names of this machine's GPUs, without those that CUDA_VISIBLE_DEVICES hides."""
    from torch.cuda import device_count  # torch takes seconds to import

    count = device_count()
    listed = environment.get(VISIBLE)
    return (listed.split(",") if listed else [str(i) for i in range(count)])[:count]
