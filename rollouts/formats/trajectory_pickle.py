"""The pickle format of DecisionTransformerInterpretability (.pkl, .gz, .xz), read without running anything.

A pickle is a program. This reader knows numpy arrays and plain containers and refuses any other name, before
it is imported or called. Layout: {"data": {observations (T, E, H, W, C), actions, rewards, dones, truncated
(T, E), ...}, "metadata"}, for E environments stepped together.
"""

import gzip
import itertools
import lzma
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.core import multiarray, numeric

from rollouts.formats.episodes import BadRecording, Episode, ForeignGame, Recording, foreign_episode

OPENERS = {".pkl": open, ".gz": gzip.open, ".xz": lzma.open}
"""How files are opened, by suffix."""
COLUMNS = ("observations", "actions", "rewards", "dones", "truncated")


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as protocol 2 keeps them. Raises UnpicklingError for any other encoding."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _array_of(kind: type, shape, dtype) -> np.ndarray:
    """An empty array, which its pickle then fills. Raises UnpicklingError for another class."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("an array of another class than numpy's")
    return multiarray._reconstruct(np.ndarray, (0,), b"b")


class _Sealed:
    """A function that a pickle may call but not change: it has no attributes to set."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args):
        return self._function(*args)

    def __setstate__(self, state):
        raise pickle.UnpicklingError("it changes a function")


_NUMPY = {
    "multiarray._reconstruct": _Sealed(_array_of),
    "multiarray.scalar": _Sealed(multiarray.scalar),
    "numeric._frombuffer": _Sealed(numeric._frombuffer),
}
KNOWN = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _Sealed(_latin1),
    ("__builtin__", "bytes"): _Sealed(lambda: b""),  # how protocol 2 writes no bytes
    ("collections", "OrderedDict"): OrderedDict,
} | {
    (f"numpy.{core}.{name.split('.')[0]}", name.split(".")[1]): function
    for core in ("core", "_core")
    for name, function in _NUMPY.items()
}
"""All that a pickle may name."""


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays, numbers, text and plain containers. Raises UnpicklingError for all else."""

    def find_class(self, module: str, name: str):
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not plain data")
        return KNOWN[module, name]

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_pickle(path: Path, game: ForeignGame) -> Recording:
    """Reads a trajectory pickle. The format is one object, so all of it is in memory.

    Args:
        path: the file.
        game: what the file does not say.

    Raises:
        BadRecording: the file is damaged, is no such recording, or holds more than plain data.
    """
    data = _load(Path(path))
    columns = {name: _column(data, name, path) for name in COLUMNS}
    shapes = {name: column.shape[:2] for name, column in columns.items()}
    obs = columns["observations"]
    if len(set(shapes.values())) != 1 or obs.ndim != 5 or not obs.size:
        raise BadRecording(f"{path} is no trajectory file: its columns have the shapes {shapes}")
    if not (np.all(obs >= 0) and np.all(obs <= 255) and np.all(obs == np.floor(obs))):
        raise BadRecording(
            f"the observations of {path} are no whole numbers from 0 to 255; a store holds such"
        )
    actions = columns["actions"]
    if actions.dtype.kind not in "iu" or actions.min() < 0:
        raise BadRecording(f"the actions of {path} are not numbered from 0; a store holds such")
    manifest = game.manifest(obs.shape[2:], game.num_actions or int(actions.max()) + 1)
    ends = (columns["dones"] | columns["truncated"]).astype(bool)
    pieces = [piece for env in range(obs.shape[1]) for piece in _pieces(ends[:, env], env)]
    return Recording(manifest, len(pieces), _episodes(columns, pieces, manifest))


def _load(path: Path) -> dict:
    """The entry `data` of a file. Raises BadRecording."""
    if path.suffix not in OPENERS:
        raise BadRecording(f"{path} ends in none of {', '.join(OPENERS)}")
    try:
        with OPENERS[path.suffix](path, "rb") as file:
            content = RestrictedUnpickler(file).load()
    except FileNotFoundError as error:
        raise BadRecording(f"there is no file {path}") from error
    except Exception as error:  # a pickle can fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadRecording(f"{path} cannot be read as plain data: {reason}") from error
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise BadRecording(f"{path} is no trajectory file: it lacks the entry 'data'")
    return data


def _column(data: dict, name: str, path: Path) -> np.ndarray:
    column = data.get(name)
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "biuf" or column.ndim < 2:
        raise BadRecording(f"{path} is no trajectory file: {name} is no array (T, E, ...) of numbers")
    return column


def _pieces(ends: np.ndarray, env: int) -> Iterator[tuple[int, slice]]:
    """Episodes of one environment, as (environment, steps); ends [T] marks their last steps."""
    edges = [0, *(np.flatnonzero(ends) + 1), len(ends)]
    for begin, end in itertools.pairwise(edges):
        if end > begin:
            yield env, slice(int(begin), int(end))


def _episodes(columns: dict, pieces: list, manifest: dict) -> Iterator[Episode]:
    for number, (env, steps) in enumerate(pieces):
        one = {name: column[steps, env] for name, column in columns.items()}
        outcome = {
            "obs": one["observations"].astype(np.uint8),
            "action": one["actions"].astype(np.uint8),
            "reward": one["rewards"].astype(np.float32),
            "terminated": one["dones"].astype(bool),
            "truncated": one["truncated"].astype(bool),
        }
        yield foreign_episode(manifest, number, None, outcome)
