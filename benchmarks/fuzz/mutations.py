"""Random changes of bytes, of JSON-like values and of HDF5 files, from harmless to hostile."""

import json
import os
import random
from pathlib import Path

import h5py
import numpy as np

DEEP, DIGITS = "@deep@", "@digits@"
"""Placeholders of what json.dumps cannot write: a list 2,000 deep, and a number of 5,000 digits."""
NASTY = (
    None,
    [],
    {},
    "",
    "x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a\0b",
    "\ud800",
    "x" * 5000,
    -1,
    0,
    1,
    7,
    2.5,
    True,
    2**31,
    2**63,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    [1, 2, 3],
    [[1]],
    {"a": 1},
    [2**20, 2**20, 3],
    ["object"],
    DEEP,
    DIGITS,
)


def change_bytes(whole: bytes, draw: random.Random) -> bytes:
    """A copy with one to four bytes flipped, overwritten, cut, repeated, moved or put in."""
    data = bytearray(whole)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        size = min(draw.choice((1, 1, 2, 4, 8, 64, 1024)), len(data) - at)
        kind = draw.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at : at + size] = draw.randbytes(size)
        elif kind == 2:
            data[at : at + size] = draw.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
        elif kind == 3:
            del data[at : len(data) if draw.random() < 0.3 else at + size]
        elif kind == 4:
            data[at:at] = data[draw.randrange(len(data) + 1) :][:size]
        else:
            data[at:at] = draw.randbytes(size)
    return bytes(data)


def change_value(value, draw: random.Random):
    """A copy of a JSON-like value with one entry replaced, left out, renamed or added."""
    value = json.loads(json.dumps(value))
    paths = list(_paths(value))
    if not paths:
        return draw.choice(NASTY)
    holder, key = draw.choice(paths)
    kind = draw.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[draw.choice(("x", "", "../x", "__class__"))] = draw.choice(NASTY)
    elif kind == 2 and isinstance(holder[key], int) and not isinstance(holder[key], bool):
        holder[key] += draw.choice((-1, 1, 255, -(2**31), 2**31, 2**62))
    else:
        holder[key] = draw.choice(NASTY)
    return value


def _paths(value):
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _paths(value[key])


def json_text(value) -> str:
    """JSON with the placeholders replaced by what they stand for."""
    text = json.dumps(value)
    return text.replace(f'"{DEEP}"', "[" * 2000 + "]" * 2000).replace(f'"{DIGITS}"', "9" * 5000)


YAML_BOMBS = (
    "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else '1, 2, 3, 4, 5, 6, 7, 8, 9'}]\n"
        for i in range(12)
    ),
    "a: &a [*a]\n",
    "a: &a {b: *a}\n",
    "!!python/object/apply:os.system [touch fuzzed]\n",
    "a: !!python/name:os.system\n",
    "a: !!binary aGVsbG8=\n",
    "? [a, b]\n: c\n",
    "a: 1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1\n",
    "a: 2001-12-14t21:59:43.10-05:00\n",
    "a: 2001-99-99\n",
    "{" * 1000,
    "- " * 1000,
)


def change_hdf5(path: Path, names: list[str], outside: Path, draw: random.Random) -> bool:
    """Replaces one dataset of a file by another one, or by a way out of the file.

    Args:
        path: the file, changed in place.
        names: of datasets that may be replaced.
        outside: an HDF5 file elsewhere with the dataset `secret`.
        draw: chooses.

    Returns:
        Whether a reader has to refuse the file, because the dataset leads out of it.
    """
    with h5py.File(path, "r+", libver="latest") as file:
        name = draw.choice(names)
        old = file[name]
        shape, dtype = old.shape, old.dtype
        del old, file[name]
        links = (_external_link, _soft_link)
        out = draw.choice((*links, _external_bytes, _virtual) if shape else links)
        if draw.random() < 0.4:
            out(file, name, shape, dtype, outside)
            return True
        _put_other(file, name, shape, dtype, draw)
        return False


def _external_link(file, name, shape, dtype, outside) -> None:
    file[name] = h5py.ExternalLink(str(outside), "secret")


def _soft_link(file, name, shape, dtype, outside) -> None:
    file[name] = h5py.SoftLink(f"/{name}")


def _external_bytes(file, name, shape, dtype, outside) -> None:
    plain = dtype if dtype.kind in "biuf" else np.dtype("u1")
    size = max(1, int(np.prod(shape)) * plain.itemsize)
    file.create_dataset(name, shape, plain, external=[(os.fsencode(outside), 0, size)])


def _virtual(file, name, shape, dtype, outside) -> None:
    plain = dtype if dtype.kind in "biuf" else np.dtype("u1")
    layout = h5py.VirtualLayout(shape or (1,), plain)
    layout[...] = h5py.VirtualSource(str(outside), "secret", shape or (1,))
    file.create_virtual_dataset(name, layout)


def _put_other(file, name, shape, dtype, draw: random.Random) -> None:
    """A group, nothing, or a dataset of another type, shape or size."""
    kind = draw.randrange(6)
    if kind == 0:
        file.create_group(name)
    elif kind == 1:
        other = draw.choice(("f8", "i8", "u1", "S3", "c8", "f2", "bool", "i1"))
        file.create_dataset(name, shape, other)
    elif kind == 2:
        file.create_dataset(name, draw.choice(((), (0,), (1,), (3, 0, 2), (7, 7), (2, 2, 2, 2))), dtype)
    elif kind == 3:
        length = draw.choice((10**4, 10**7, 10**10, 2**40))
        plain = dtype if dtype.kind in "biuf" else np.dtype("u1")
        chunks = (min(length, 1000), *shape[1:])
        file.create_dataset(name, (length, *shape[1:]), plain, chunks=chunks, compression="gzip")
    elif kind == 4 and dtype.kind in "biuf":
        odd = np.full(shape, draw.choice((0, 1, 255, np.nan, np.inf, -1, 1e30)))
        with np.errstate(invalid="ignore", over="ignore"):
            file.create_dataset(name, data=odd.astype(dtype))
