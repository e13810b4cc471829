"""New HDF5 files, written without a crash where the disk is full."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import h5py

from common.stopping import stop_if_asked, uninterrupted


class Disk(io.FileIO):
    """A file that HDF5 writes through. HDF5 crashes where it cannot close a file, so no write fails here:
    what does not fit is kept in memory, and `check` raises the error.

    Args:
        path: of the file, which is emptied.
    """

    def __init__(self, path: Path):
        super().__init__(path, "w+")
        self._error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raises the OSError of the first write that failed, or the stop that this process was asked for."""
        stop_if_asked()
        if self._error is not None:
            raise OSError(self._error.errno, self._error.strerror)

    def write(self, data) -> int:
        at, left = self.tell(), memoryview(data).cast("B")
        size = len(left)
        try:
            while len(left) and self._error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._error = error
        if len(left):
            self._kept.append((at + size - len(left), bytes(left)))
            self.seek(at + size)
        return size

    def readinto(self, buffer) -> int:
        view, at = memoryview(buffer).cast("B"), self.tell()
        super().readinto(view)
        for start, data in self._kept:
            first, end = max(start, at), min(start + len(data), at + len(view))
            if first < end:
                view[first - at : end - at] = data[first - start : end - start]
        self.seek(at + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return self.tell() if size is None else size


@contextlib.contextmanager
def new_hdf5(path: Path, **options) -> Iterator[tuple[h5py.File, Disk]]:
    """A new HDF5 file and the disk below it, on which `check` is to be called from time to time.

    Nothing else in the body is interrupted: what is raised within a write, HDF5 takes for its failure.

    Args:
        path: of the file.
        options: of h5py.File.

    Raises:
        OSError: on leaving, if a write failed.
    """
    with Disk(path) as disk, uninterrupted():
        with h5py.File(disk, "w", **options) as file:
            yield file, disk
        disk.check()
