"""Datasets of HDF5 files from elsewhere: only what lies in the file itself, and no more than it can hold.

HDF5 can link to other files, keep a dataset's bytes in any other file, or declare sizes that the file does
not have; all of these are refused before anything is read.
"""

import h5py
import numpy as np

from common.integrity import machine_memory

MOST_COMPRESSED = 2**15
"""A file's largest possible gain: zstd keeps 128 KiB of one value in 4 bytes, deflate gains 1,032-fold."""
SMALL = 2**20
"""Sizes up to a MiB are not held against the file's."""


def plain_item(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """The group or dataset at a path, reached by hard links alone, of which there is no loop.

    Raises:
        KeyError: there is none.
        ValueError: a part of the path is a link to elsewhere.
    """
    item = group
    for part in name.split("/"):
        link = item.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name} is a link to elsewhere, not data of this file")
        item = item[part]
    return item


def plain_dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """The dataset at a path, whose bytes are all in this file and which is no larger than they can be.

    Raises:
        KeyError: there is none.
        ValueError: it is no such dataset.
    """
    dataset = plain_item(group, name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is no dataset")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} keeps its data in other files")
    declared = _bytes(dataset)
    most = max(SMALL, MOST_COMPRESSED * dataset.file.id.get_filesize())
    if declared > min(most, machine_memory() // 2):
        raise ValueError(f"{name} declares {declared:,} bytes, which this file cannot hold")
    return dataset


def read(group: h5py.Group, name: str) -> np.ndarray:
    """All of a plain dataset. Raises as `plain_dataset`."""
    return plain_dataset(group, name)[()]


def _bytes(dataset: h5py.Dataset) -> int:
    """Bytes of a dataset or, if that is more, of one of its chunks, which are decompressed whole."""
    shape = dataset.shape or ()
    sizes = [int(np.prod(shape, dtype=object)) if shape else 1]
    if dataset.chunks:
        sizes.append(int(np.prod(dataset.chunks, dtype=object)))
    return max(sizes) * dataset.dtype.itemsize
