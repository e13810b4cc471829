"""Stores on any file system that fsspec knows, by URL: s3://bucket/name, gs://..., memory://name.

Only what stores need: small files are read and written whole, data files are fetched whole to the local disk.
A file appears under its name once it is complete: it is uploaded under another name first.
"""

import errno
import fnmatch
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import fsspec

from common.checkpoints import write_atomically
from common.errors import UsageError
from common.locks import held, remove_abandoned
from rollouts.urls import URL, is_elsewhere

CACHE_BYTES = 2**30
"""Local disk that the open files of a store elsewhere take at most; more than one file, if one is larger."""


class _Status(NamedTuple):
    st_size: int


class RemotePath:
    """The methods of pathlib.Path that stores use, for a path on a file system of fsspec."""

    def __init__(self, url: str):
        scheme, rest = URL.fullmatch(url).groups()
        if not rest:
            raise UsageError(f"{scheme}:// names no place there: give one, such as s3://bucket/name")
        if "::" in scheme:
            inner = scheme.rpartition("::")[2]
            raise UsageError(f"{scheme}://{rest} names several file systems: give {inner}://{rest}")
        root = "/" if scheme == "local" else ""
        self.url = f"{scheme}://{root}{rest.rstrip('/')}"
        with self._reached():
            self._files, self._path = fsspec.core.url_to_fs(self.url)
            self._files.invalidate_cache()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Makes one line of what a file system raises, each one its own errors; a full local disk stays."""
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            cause = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"{self.url} cannot be reached: {cause}") from error

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __eq__(self, other) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __lt__(self, other: "RemotePath") -> bool:
        return self.url < other.url

    def __reduce__(self):
        return RemotePath, (self.url,)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self.url.rpartition("/")[0])

    def exists(self) -> bool:
        with self._reached():
            return self._files.exists(self._path)

    def is_dir(self) -> bool:
        with self._reached():
            return self._files.isdir(self._path)

    def iterdir(self) -> Iterator["RemotePath"]:
        with self._reached():
            paths = self._files.ls(self._path, detail=False)
        return (self / path.rstrip("/").rpartition("/")[2] for path in paths)

    def glob(self, pattern: str) -> list["RemotePath"]:
        if not self.is_dir():
            return []
        return [path for path in self.iterdir() if fnmatch.fnmatch(path.name, pattern)]

    def stat(self) -> _Status:
        with self._reached():
            return _Status(self._files.size(self._path))

    def read_text(self) -> str:
        with self._reached():
            data = self._files.cat_file(self._path)
        return data.decode()

    def write_bytes(self, data: bytes) -> None:
        """Uploads under another name, then renames."""
        part = str(self.parent / f".{self.name}.{uuid.uuid4().hex}.part")  # others may write the same file
        with self._reached():
            self._files.makedirs(self._files._parent(self._path), exist_ok=True)
            self._files.pipe_file(self._files._strip_protocol(part), bytes(data))
            self._files.mv(self._files._strip_protocol(part), self._path)

    def fetch(self, target: Path) -> None:
        """Copies the file to the local disk."""
        with self._reached():
            self._files.get_file(self._path, str(target))


StorePath = Path | RemotePath


def store_path(path: StorePath | str) -> StorePath:
    """The path of a store: a Path, or a RemotePath of a URL, even of one that was made a Path before."""
    if isinstance(path, RemotePath):
        return path
    if is_elsewhere(path):
        return RemotePath(str(path))
    url = URL.fullmatch(str(path))
    return Path(f"/{url[2] or ''}") if url else Path(path)


def write_file(path: StorePath, data: bytes) -> None:
    """Writes a file that is complete or not there."""
    if isinstance(path, RemotePath):
        path.write_bytes(data)
    else:
        write_atomically(path, lambda temporary: temporary.write_bytes(data))


@contextmanager
def local_copy(path: StorePath) -> Iterator[Path]:
    """The file itself, or a copy on the local disk whose name goes when the body ends. Whoever has it open
    then keeps it; its space is free once nobody has.
    """
    if not isinstance(path, RemotePath):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="worldlens_") as folder:
        target = Path(folder) / path.name
        path.fetch(target)
        yield target


def copies_kept(path: StorePath, sizes: Sequence[int], most: int | None = None) -> int | None:
    """How many files of these sizes are open at a time, of a store elsewhere what fits into CACHE_BYTES.

    Args:
        path: the store.
        sizes: bytes of each file.
        most: files at most, wherever the store is; None for any number.
    """
    if isinstance(path, Path):
        return most
    fit = max(1, CACHE_BYTES // max(1, *sizes))
    return fit if most is None else min(most, fit)


def lock(path: StorePath):
    """A lock by that path while entered. Elsewhere than on a disk there is none: two writers of a shard do
    the work twice, and both write the same bits.
    """
    return nullcontext() if isinstance(path, RemotePath) else held(path)


def remove_abandoned_locks(folder: StorePath, pattern: str) -> None:
    """Deletes locks that killed processes left behind; elsewhere than on a disk there are none."""
    if isinstance(folder, Path):
        remove_abandoned(folder.glob(pattern))
