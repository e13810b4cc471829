"""Arrays inside an HTML file: packed into one buffer, compressed with gzip, written as base64.

The page decodes them with DecompressionStream, to the same bits.
"""

import base64
import gzip
from collections.abc import Mapping

import numpy as np

DTYPES = ("int8", "uint8", "int16", "int32", "float32")
"""Types that the page has typed arrays for."""


def layout(arrays: Mapping[str, np.ndarray]) -> list[dict]:
    """Name, dtype and shape of every array, in the order in which `pack` writes them.

    Raises ValueError for a dtype that is not of DTYPES.
    """
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise ValueError(f"{name} is {array.dtype}; pages hold {', '.join(DTYPES)}")
    return [
        {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
        for name, array in arrays.items()
    ]


def pack(arrays: Mapping[str, np.ndarray]) -> str:
    """All arrays, one after the other, as base64 text."""
    whole = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return base64.b64encode(gzip.compress(whole, 6, mtime=0)).decode()
