"""Runs a script inside a Slurm job; a job that is to end early saves its state and queues again.

    python -m slurm.run 100 2 record.py --exp_name coinrun ...   # at most 100 times; 2 threads

Slurm sends SIGUSR1 shortly before the time limit (`--signal`), and SIGTERM when it preempts, requeues or
cancels a job. Either is passed on as SIGTERM, on which every script saves and ends; run again, it goes on to
the same bits. Whether to queue again is read from the job's state in Slurm and not guessed from the clock, so
short jobs are not taken for timed-out ones (submitit issue 1656), commands requeue on time-outs as well
(1732), and a cancelled job stays cancelled.

A word with an asterisk stands for the file it matches when the job begins; of several, for the last when
numbers in names are compared as numbers: results of earlier jobs have names that are not known before.
"""

import glob
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STOPS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGCONT)
RUNNING = "RUNNING"
SECONDS = (60.0, 10.0)
"""Longest waits for an answer of Slurm's: the first, and that of a second try."""

NO_ANSWER = (
    "Slurm's scontrol did not answer, so whether job {} queues again is not known; what it saved is kept, and"
    " the same command goes on from there"
)


class Failed(RuntimeError):
    """The script failed."""

    def __init__(self, code: int):
        super().__init__(f"the script ended with exit code {code}; its output says why")
        self.code = code


@dataclass(frozen=True)
class Command:
    """A script with its flags, as a function without arguments that submitit can run.

    Attributes:
        words: what python is given.
        max_requeues: how often the job may queue again.
        threads: of PyTorch and NumPy in each process, unless OMP_NUM_THREADS is set.
    """

    words: tuple[str, ...]
    max_requeues: int
    threads: int

    def __call__(self) -> None:
        run(self)


def run(command: Command) -> None:
    """Runs a script to its end.

    Raises:
        Failed: it failed.
        SystemExit: the job was asked to stop; it queues again unless it was cancelled.
    """
    words = [resolve(word) for word in command.words]
    print("$ python", *words, flush=True)
    environment = {"OMP_NUM_THREADS": str(command.threads)} | os.environ
    started: list[subprocess.Popen] = []
    asked: list[int] = []

    def stop(number: int, frame) -> None:
        if number != signal.SIGCONT and not asked:
            asked.append(number)
            _end(started)

    for number in STOPS:
        signal.signal(number, stop)
    started.append(subprocess.Popen([sys.executable, *words], env=environment, preexec_fn=_ignore_usr1))
    if asked:  # while it was started
        _end(started)
    code = started[0].wait()
    if code == 0:
        return
    code = 128 - code if code < 0 else code
    if asked:
        queue_again(os.environ, command.max_requeues)
        raise SystemExit(code)
    raise Failed(code)


def _end(started: Sequence[subprocess.Popen]) -> None:
    for process in started:
        process.send_signal(signal.SIGTERM)


def _ignore_usr1() -> None:
    """Slurm signals every process of a job; scripts, and torchrun, hear of it by SIGTERM."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def resolve(word: str) -> str:
    """The file that a word with an asterisk matches, or the word itself. Raises Failed if there is none.

    Of several folders the one in which such a file was written last counts, as of several runs; in it, the
    file that is last when numbers are read as numbers.
    """
    if "*" not in word:
        return word
    found = glob.glob(word)
    if not found:
        print(f"error: no file matches {word}: the job that makes it has not run here", file=sys.stderr)
        raise Failed(1)
    newest = max(found, key=lambda name: (os.stat(name).st_mtime, _natural(name)))
    return max((name for name in found if os.path.dirname(name) == os.path.dirname(newest)), key=_natural)


def _natural(name: str) -> list:
    """Sorting key in which numbers count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def queue_again(environment: Mapping[str, str], max_requeues: int) -> None:
    """Asks Slurm to run this job again, unless Slurm has decided on it already: it was cancelled or requeued.

    environment: of the job.
    """
    job = job_id(environment)
    if job is None:
        return
    state = job_state(job)
    if state is None:
        print(f"error: {NO_ANSWER.format(job)}", flush=True)
    elif state != RUNNING:
        print(f"job {job} is {state}: left to Slurm", flush=True)
    elif int(environment.get("SLURM_RESTART_COUNT", 0)) >= max_requeues:
        print(f"error: job {job} has queued again {max_requeues} times (--max_requeues)", flush=True)
    else:
        done = scontrol("requeue", job)
        failed = f"error: {NO_ANSWER.format(job)}" if done is None else f"job {job} cannot queue again"
        print(f"job {job} queues again" if done and not done.returncode else failed, flush=True)


def job_id(environment: Mapping[str, str]) -> str | None:
    """Id of the job, with the task of an array; None outside of Slurm."""
    task = environment.get("SLURM_ARRAY_TASK_ID")
    if task is not None:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{task}"
    return environment.get("SLURM_JOB_ID")


def job_state(job: str) -> str | None:
    """State of a job by Slurm's name, such as RUNNING; None without an answer."""
    shown = scontrol("show", "job", "--oneliner", job)
    if shown is None:
        return None
    found = re.search(r"\bJobState=(\w+)", shown.stdout)
    return found[1] if found else "unknown"


def scontrol(*words: str) -> subprocess.CompletedProcess | None:
    """Asks Slurm, twice if it must; None where it does not answer in time, or scontrol is missing."""
    for seconds in SECONDS:
        try:
            return subprocess.run(["scontrol", *words], stdout=subprocess.PIPE, text=True, timeout=seconds)
        except (subprocess.TimeoutExpired, OSError):
            continue
    return None


def main(words: Sequence[str]) -> None:
    max_requeues, threads, *script = words
    try:
        run(Command(tuple(script), int(max_requeues), int(threads)))
    except Failed as failure:
        sys.exit(failure.code)


if __name__ == "__main__":
    main(sys.argv[1:])
