"""File locks: one process at a time works on a run or shard, and a lock ends with its process."""

import fcntl
import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

NAMELESS_SECONDS = 0.5
"""Wait for a holder that has not written its name: it may only be removing what killed processes left."""


class Locked(Exception):
    """Another process holds the lock; the message names it."""


_held: WeakValueDictionary[tuple[int, int], IO] = WeakValueDictionary()
"""Locks that this process holds, by device and inode; it may acquire them again."""


def hold(path: Path) -> IO:
    """Locks a file, creating it if missing, for as long as the returned handle (or the process) lives.

    The file may be renamed meanwhile. File systems without locks only cause a warning.

    Raises:
        Locked: another process holds the lock.
    """
    while True:
        file = open(path, "a+")  # noqa: SIM115  # the lock lives as long as the file is open
        identity = _identity(os.fstat(file.fileno()))
        own = _held.get(identity)
        if own is not None and not own.closed:
            return own
        _lock(file, path)
        if _stands(path, identity):  # else its last holder removed it after we had opened it
            break
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    _held[identity] = file
    return file


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the lock while the body runs, then deletes the file."""
    file = hold(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def try_lock(handle: int) -> bool:
    """Locks an open file; False if another process holds it. File systems without locks count as success."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Deletes those files that no process has locked, which killed processes left behind.

    Does nothing on file systems without locks.
    """
    for path in paths:
        try:
            with open(path, "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except OSError:  # locked, removed by another process meanwhile, or no locks
            continue


def _lock(file: IO, path: Path) -> None:
    until = time.monotonic() + NAMELESS_SECONDS
    try:
        while not _taken(file, last=time.monotonic() >= until):
            time.sleep(0.01)
    except OSError as error:  # some network file systems
        logging.warning(
            "%s cannot be locked (%s): take care not to start the same command twice", path, error.strerror
        )


def _taken(file: IO, last: bool) -> bool:
    """Whether the lock could be taken. Raises Locked if not and its holder has a name, or at the last try."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read()
        if holder or last:
            raise Locked(holder or "another process") from error
        return False
    return True


def _stands(path: Path, identity: tuple[int, int]) -> bool:
    try:
        return _identity(path.stat()) == identity
    except FileNotFoundError:
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
