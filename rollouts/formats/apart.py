"""Reads recordings of other projects in a process of its own, which damaged bytes may end or send round in
circles: the HDF5 library does either.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from common.child_processes import stop_with_parent
from rollouts.formats.episodes import BadRecording, Recording

SECONDS = 120.0
"""Time that is waited for one episode: 100,000 steps of 64 x 64 frames in MIDT take about 20 s."""
WAITS = 100
"""Parts in which that time is waited: while both processes are suspended, it is no more than one of them."""


class ProcessEnded(BadRecording):
    """A recording sent the process that read it round in circles, or ended it."""


def read_apart(opened: Callable[[], Recording], name: str, seconds: float = SECONDS) -> Recording:
    """A recording whose episodes another process reads, one ahead of those that are taken.

    Args:
        opened: opens the recording, in that process.
        name: of the recording, for errors.
        seconds: that opening it may take, and each episode after it was asked for.

    Raises:
        ProcessEnded: the process did not answer in time, or did not end by itself.
        Exception: whatever `opened` and the episodes raise.
    """
    items = _items(opened, name, seconds)
    manifest, num_episodes = next(items)
    return Recording(manifest, num_episodes, items)


def _items(opened: Callable[[], Recording], name: str, seconds: float) -> Iterator:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_all, args=(opened, receiver, sender), daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            kind, value = _received(receiver, process, name, seconds)
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        process.kill()
        process.join()
        receiver.close()


def _received(receiver: Connection, process: BaseProcess, name: str, seconds: float) -> tuple[str, object]:
    """The next message of the process. Raises ProcessEnded if there is none."""
    if not any(receiver.poll(seconds / WAITS) for _ in range(WAITS)):
        raise ProcessEnded(
            f"{name} is damaged: an episode of it takes more than {seconds:g} s to read; nothing was written"
        )
    try:
        return receiver.recv()
    except (EOFError, OSError):  # the second within a message
        process.join()
        raise ProcessEnded(_ending(name, -process.exitcode)) from None


def _ending(name: str, ended_by: int) -> str:
    by = signal.Signals(ended_by).name if ended_by > 0 else f"exit status {-ended_by}"
    return f"reading {name} ended its process ({by}): it is damaged, or memory ran out; nothing was written"


def _send_all(opened: Callable[[], Recording], receiver: Connection, sender: Connection) -> None:
    """Sends manifest and size, the episodes, and the end; or an error."""
    receiver.close()  # else it would not learn that no one listens
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stop_with_parent()
    try:
        recording = opened()
        sender.send(("item", (recording.manifest, recording.num_episodes)))
        for episode in recording.episodes:
            sender.send(("item", episode))
        sender.send(("end", None))
    except BrokenPipeError:
        pass  # no one listens any more
    except BaseException as error:
        sender.send(("error", error))
