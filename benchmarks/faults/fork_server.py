"""Runs scripts in forks of one process that has imported everything, so that a run costs only its work."""

import contextlib
import importlib
import os
import runpy
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from benchmarks.faults.injections import Injection, nothing
from common.stopping import SIGNALS as STOPPING
from common.stopping import end_on_signal

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300.0


@dataclass
class Ended:
    """How a run ended: exit code, or minus the signal; seconds by clock and of the processor; its words."""

    code: int
    seconds: float
    processor: float
    said: str


@dataclass
class Running:
    """A run in progress."""

    process: int
    began: float
    reader: int
    said: bytes = b""
    processor: float = 0.0

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        self._listen()
        process, status, used = os.wait4(self.process, os.WNOHANG)
        self.processor = used.ru_utime + used.ru_stime
        return os.waitstatus_to_exitcode(status) if process else None

    def wait(self, seconds: float = LIMIT_SECONDS, kill: bool = True) -> Ended | None:
        """How it ended; None if it still runs after that time and is not to be killed."""
        until = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                if not kill:
                    return None
                self.kill()
                until += LIMIT_SECONDS
            time.sleep(0.002)
        self._listen()
        with contextlib.suppress(ProcessLookupError):  # what it started ends with it
            os.killpg(self.process, signal.SIGKILL)
        os.close(self.reader)
        return Ended(code, time.monotonic() - self.began, self.processor, self.said.decode(errors="replace"))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.reader, 1 << 16):
                self.said += piece


def warm_up(modules: list[str]) -> None:
    """Imports modules once, for all later runs."""
    for name in modules:
        importlib.import_module(name)


def start(words: list[str], directory: Path, inject: Injection = nothing) -> Running:
    """Starts a script, `x.py` or `-m x` with its flags, in a fork with a process group of its own."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    began = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # until the fork no longer handles them as its parent
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        end_on_signal()
        _become(words, writer, directory, inject)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    with contextlib.suppress(OSError):  # the fork has done it, or ended
        os.setpgid(process, process)
    os.close(writer)
    return Running(process, began, reader)


def run(words: list[str], directory: Path, inject: Injection = nothing) -> Ended:
    """Runs a script to its end."""
    return start(words, directory, inject).wait()


def _become(words: list[str], writer: int, directory: Path, inject: Injection) -> None:
    """Runs the script in this process, which then exits."""
    code = 70
    try:
        for stream in (1, 2):
            os.dup2(writer, stream)
        sys.stdout, sys.stderr = map(_text, (1, 2))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        os.chdir(ROOT)
        inject(directory)
        code = _run(words)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _text(stream: int) -> TextIO:
    return open(stream, "w", buffering=1, closefd=False)


def _run(words: list[str]) -> int:
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [str(ROOT / words[0]), *words[1:]]
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0
