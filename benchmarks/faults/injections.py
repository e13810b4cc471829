"""Faults that a forked process inflicts on itself, at a chosen operation on the files of one directory.

Operations are counted by an audit hook: files opened for writing, renames, removals, new directories and
links. The hook is called before the operation, so a kill at the next one is a kill after this one.
"""

import errno
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

OPERATIONS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
CREATING = ("open", "os.mkdir", "os.link", "os.symlink")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
Injection = Callable[[Path], None]
"""Called in the forked process with the directory whose files count."""


class Counter:
    """A number that a parent shares with the processes it forks."""

    def __init__(self):
        self._shared = mmap.mmap(-1, 8)

    def add(self) -> int:
        value = self.value + 1
        self._shared[:8] = struct.pack("q", value)
        return value

    @property
    def value(self) -> int:
        return struct.unpack("q", self._shared[:8])[0]


def changes_files(event: str, args: tuple, directory: str) -> bool:
    """Whether an audit event is about to change a file below a directory."""
    if event == "open":
        path, mode, flags = args
        named = isinstance(path, str | bytes | os.PathLike)
        writes = bool(flags & WRITING) if isinstance(flags, int) else any(c in (mode or "") for c in "wxa+")
        return named and writes and os.fsdecode(path).startswith(directory)
    return event in OPERATIONS and any(
        isinstance(arg, str | bytes | os.PathLike) and os.fsdecode(arg).startswith(directory) for arg in args
    )


def on_operation(directory: Path, act: Callable[[int], None], events: tuple[str, ...] = ()) -> None:
    """Calls `act` with the number of each operation, of any kind or of some, from 1, just before it."""
    count = 0
    inside = str(directory)

    def hook(event: str, args: tuple) -> None:
        nonlocal count
        if changes_files(event, args, inside) and (not events or event in events):
            count += 1
            act(count)

    sys.addaudithook(hook)


def nothing(directory: Path) -> None:
    """No fault."""


def counting(counter: Counter) -> Injection:
    """No fault: counts the operations."""
    return lambda directory: on_operation(directory, lambda _: counter.add())


def kill_at(operation: int) -> Injection:
    """SIGKILL of the whole process group just before an operation."""

    def act(number: int) -> None:
        if number == operation:
            os.killpg(0, signal.SIGKILL)

    return lambda directory: on_operation(directory, act)


def kill_after(seconds: float) -> Injection:
    """The end, without any handler, after a number of seconds of the processor."""

    def inject(directory: Path) -> None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)

    return inject


def torn_write(operation: int, size: int) -> Injection:
    """From an operation on, the first file that grows beyond `size` bytes kills the process in mid-write."""

    def inject(directory: Path) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        full_write(operation, size)(directory)

    return inject


def failing(operation: int, code: int, events: tuple[str, ...] = ()) -> Injection:
    """Every operation, of any kind or of some, from this one on fails with an error number."""

    def act(number: int) -> None:
        if number >= operation:
            raise OSError(code, os.strerror(code))

    return lambda directory: on_operation(directory, act, events)


def full_disk(operation: int) -> Injection:
    """No space for anything new from an operation on."""
    return failing(operation, errno.ENOSPC, CREATING)


def full_write(operation: int, size: int) -> Injection:
    """From an operation on, a write that makes a file larger than `size` bytes fails in the middle."""

    def act(number: int) -> None:
        if number == operation:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return lambda directory: on_operation(directory, act)


def read_only(directory: Path) -> None:
    """Every operation fails, as in a directory that may not be written."""
    failing(1, errno.EACCES)(directory)


def jumping_clock(seed: int) -> Injection:
    """Wall clock and monotonic clock jump by up to a day at every call; the monotonic one only forwards."""

    def inject(directory: Path) -> None:
        draw = random.Random(seed)
        wall, steady = time.time, time.monotonic
        ahead = 0.0

        def monotonic() -> float:
            nonlocal ahead
            ahead += draw.uniform(0, 100)
            return steady() + ahead

        time.time = lambda: wall() + draw.uniform(-86_400, 86_400)
        time.monotonic = monotonic

    return inject
