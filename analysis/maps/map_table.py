"""A map as a Parquet table, one row per point, that map viewers open as it is."""

from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from common.checkpoints import write_atomically

FIRST = ("episode", "t", "source", "x", "y")
"""The columns that every map has; labels follow."""


def write_map(path: Path, source: np.ndarray, points: np.ndarray, labels: dict[str, np.ndarray]) -> None:
    """One row per point [n, 2]: source [n] says "real" or "simulated"; labels [n] must hold episode and t."""
    columns = {
        "episode": labels["episode"],
        "t": labels["t"],
        "source": source,
        "x": points[:, 0],
        "y": points[:, 1],
    }
    columns |= {name: values for name, values in labels.items() if name not in columns}
    table = pyarrow.table({name: _column(values) for name, values in columns.items()})
    write_atomically(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def _column(values: np.ndarray):
    values = np.asarray(values)
    if values.dtype.kind in "US":
        return pyarrow.array(values.tolist()).dictionary_encode()
    return pyarrow.array(np.ascontiguousarray(values))
