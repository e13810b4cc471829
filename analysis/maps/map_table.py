"""A map as a Parquet table with one row per point, ready for map viewers."""

from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from common.checkpoints import write_atomically


def write_map(path: Path, source: np.ndarray, points: np.ndarray, labels: dict[str, np.ndarray]) -> None:
    """Writes columns episode, t, source, x and y, then the other labels.

    Args:
        path: of the table.
        source: "real" or "simulated" [n].
        points: coordinates [n, 2].
        labels: {name: [n]}, with at least episode and t.
    """
    columns = {"episode": labels["episode"], "t": labels["t"]}
    columns |= {"source": source, "x": points[:, 0], "y": points[:, 1]}
    columns |= {name: values for name, values in labels.items() if name not in columns}
    table = pyarrow.table({name: _column(values) for name, values in columns.items()})
    write_atomically(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def _column(values: np.ndarray) -> pyarrow.Array:
    values = np.asarray(values)
    if values.dtype.kind in "US":
        return pyarrow.array(values.tolist()).dictionary_encode()
    return pyarrow.array(np.ascontiguousarray(values))
