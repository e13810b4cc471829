"""Reads inputs in a forked process that may not run, write or open anything else, nor take much memory."""

import contextlib
import faulthandler
import json
import os
import random
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.injections import Counter
from common.checkpoints import BadCheckpoint
from common.runs import UsageError
from envs.vecenv import BadState
from rollouts.formats.apart import ProcessEnded

MEMORY = 2**30
"""Bytes that reading an input may take."""
SECONDS = 20
"""Seconds of the processor that reading an input may take."""
REFUSALS = (UsageError, BadCheckpoint, BadState)
RUNNING = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "os.kill",
)
"""Audit events of running code, which no reader causes."""
APART = ("os.fork", "os.kill")
"""Those of a reader that has a process of its own."""


class Forbidden(BaseException):
    """Reading did something that no reader may do."""


class Reader(NamedTuple):
    """A reader under test.

    Attributes:
        name: what it reads.
        make: given an empty directory and a generator, writes one input; whether it has to be refused.
        read: reads that input.
        apart: whether it reads in a process of its own, which may do nothing more than any other.
    """

    name: str
    make: Callable[[Path, random.Random], bool]
    read: Callable[[Path], object]
    apart: bool = False


def fuzz(reader: Reader, place: Path, first: int, count: int, seed: int) -> dict:
    """Reads inputs first .. first + count - 1, which depend on their number and the seed alone.

    Returns:
        Counts: inputs, refused, ended (refused because it ended the process of a reader apart), read; and
        failures, a line each.
    """
    counts = {"inputs": 0, "refused": 0, "ended": 0, "read": 0, "failures": []}
    done = Counter()
    while (before := done.value) < count:
        _in_fork(reader, place, first, count, seed, done, counts)
        if done.value == before:
            raise RuntimeError(f"the process that reads {reader.name} ends before it reads anything")
    return counts


def _in_fork(
    reader: Reader, place: Path, first: int, count: int, seed: int, done: Counter, counts: dict
) -> None:
    """One process: until all inputs are read, or one ends it."""
    receiver, sender = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(receiver)
        _read_all(reader, place, first, count, seed, done, sender)
    os.close(sender)
    with os.fdopen(receiver) as lines:
        for line in lines:
            outcome, said = json.loads(line)
            counts["inputs"] += 1
            if outcome == "failures":
                counts["failures"].append(said)
            else:
                counts[outcome] += 1
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code:
        counts["inputs"] += 1
        counts["failures"].append(f"input {first + done.value - 1} ended the process with {code}")


def _read_all(
    reader: Reader, place: Path, first: int, count: int, seed: int, done: Counter, sender: int
) -> None:
    with contextlib.suppress(BaseException):
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        faulthandler.disable()
        watch = _Watch(place, APART if reader.apart else ())
        while done.value < count:
            number = first + done.add() - 1
            outcome = _read_one(reader, place, random.Random(f"{reader.name} {seed} {number}"), watch, number)
            os.write(sender, (json.dumps(outcome) + "\n").encode())
        os._exit(0)
    os._exit(71)


def _read_one(
    reader: Reader, place: Path, draw: random.Random, watch: "_Watch", number: int
) -> tuple[str, str]:
    try:
        must_refuse = reader.make(place, draw)
        with watch:
            reader.read(place)
    except REFUSALS as error:
        if "\n" in str(error):
            return "failures", f"input {number}: not one line"
        return "ended" if isinstance(error, ProcessEnded) else "refused", ""
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return "failures", f"input {number}: {type(error).__name__}: {str(error)[:200]} ({where})"
    return ("failures", f"input {number}: read, though it leads out") if must_refuse else ("read", "")


class _Watch:
    """While entered: limits of memory and time, and an error for whatever no reader may do."""

    def __init__(self, place: Path, allowed: tuple[str, ...]):
        self.place = str(place)
        self.allowed = allowed
        self.process = os.getpid()
        self.on = False
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        used = max(used, _data_size())
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGPROF, self._late)
        sys.addaudithook(self._check)

    def __enter__(self):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        self.on = True

    def __exit__(self, *exception):
        self.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _late(self, number: int, frame) -> None:
        raise Forbidden(f"more than {SECONDS} seconds")

    def _check(self, event: str, args: tuple) -> None:
        if not self.on or (event in self.allowed and os.getpid() == self.process):
            return
        if event.startswith(RUNNING):
            self._forbid(f"{event} {args}")
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path = os.fsdecode(args[0])
            own = path.startswith((self.place, sys.prefix, sys.base_prefix, "/proc/", "/sys/", "/dev/"))
            if not own and not path.endswith((".py", ".pyc")):
                self._forbid(f"opens {path}")

    def _forbid(self, what: str) -> None:
        self.on = False
        raise Forbidden(what)


def _data_size() -> int:
    """Bytes of private memory that this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
