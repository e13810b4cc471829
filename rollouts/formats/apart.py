"""Reads recordings of other projects in a process of its own, which damaged bytes may end or send round in
circles: the HDF5 library does either.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from rollouts.formats.episodes import BadRecording, Recording

SECONDS = 120.0
"""Processor time that one episode may take: 100,000 steps of 64 x 64 frames in MIDT take about 20 s."""


class ProcessEnded(BadRecording):
    """A recording sent the process that read it round in circles, or ended it."""


def read_apart(opened: Callable[[], Recording], name: str, seconds: float = SECONDS) -> Recording:
    """A recording whose episodes another process reads, one ahead of those that are taken.

    Args:
        opened: opens the recording, in that process.
        name: of the recording, for errors.
        seconds: of the processor, for opening it and for each episode; then the kernel ends the process.

    Raises:
        ProcessEnded: the process did not end by itself.
        Exception: whatever `opened` and the episodes raise.
    """
    items = _items(opened, name, seconds)
    manifest, num_episodes = next(items)
    return Recording(manifest, num_episodes, items)


def _items(opened: Callable[[], Recording], name: str, seconds: float) -> Iterator:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_all, args=(opened, receiver, sender, seconds), daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            kind, value = receiver.recv()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    except (EOFError, OSError):  # the second within a message
        process.join()
        raise ProcessEnded(_ending(name, -process.exitcode, seconds)) from None
    finally:
        process.kill()
        process.join()
        receiver.close()


def _ending(name: str, ended_by: int, seconds: float) -> str:
    if ended_by == signal.SIGPROF:
        return (
            f"{name} is damaged: an episode of it takes more than {seconds:g} s to read; nothing was written"
        )
    by = signal.Signals(ended_by).name if ended_by > 0 else f"exit status {-ended_by}"
    return f"reading {name} ended its process ({by}): it is damaged, or memory ran out; nothing was written"


def _send_all(
    opened: Callable[[], Recording], receiver: Connection, sender: Connection, seconds: float
) -> None:
    """Sends manifest and size, the episodes, and the end; or an error."""
    receiver.close()  # else it would not learn that no one listens
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        recording = opened()
        sender.send(("item", (recording.manifest, recording.num_episodes)))
        signal.setitimer(signal.ITIMER_PROF, seconds)
        for episode in recording.episodes:
            sender.send(("item", episode))
            signal.setitimer(signal.ITIMER_PROF, seconds)
        sender.send(("end", None))
    except BrokenPipeError:
        pass  # no one listens any more
    except BaseException as error:
        sender.send(("error", error))
