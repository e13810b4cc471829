"""Commands that a script runs in processes of their own, and to which it passes a stop on."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence

from common.stopping import SIGNALS, asked_by, saving_on_stop, stop_by, uninterrupted


def run_command(command: Sequence[str], place: str, **streams) -> int:
    """Runs a command and returns its exit code; passes a stop on to it and waits for its end.

    Args:
        command: the words of the command.
        place: where its work is kept, for the message of a stop.
        streams: stdout and stderr of the command, as subprocess takes them.

    Raises:
        Stopped: the command was stopped by a signal.
    """
    started: list[subprocess.Popen] = []
    with saving_on_stop(lambda: pass_on(started, place)):
        with uninterrupted():
            started.append(start_child(command, **streams))
        code = started[0].wait()
        number = code - 128 if code > 128 else -code
        if number in SIGNALS:
            stop_by(number)
    return code


def start_child(command: Sequence[str], **options) -> subprocess.Popen:
    """Starts a command in a process group of its own, so that a Ctrl-C in a terminal reaches it once; it is
    asked to stop if this process dies. Takes subprocess's options.
    """
    return subprocess.Popen(command, process_group=0, preexec_fn=stop_with_parent, **options)


def pass_on(started: Sequence[subprocess.Popen], place: str, number: int | None = None) -> str:
    """Passes a stop on to processes, as the signal `number` or the one that was heard, and waits for their
    end. Returns `place`.
    """
    for process in started:
        process.send_signal(number or asked_by() or signal.SIGINT)  # none to a process that has ended
    for process in started:
        process.wait()
    return place


def stop_with_parent() -> None:
    """Asks Linux to send this process a SIGTERM when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
