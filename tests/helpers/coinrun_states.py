"""Reads CoinRun states for tests."""

import numpy as np

from envs.coinrun import COIN
from envs.procgen_body import State


def coin_cell(state: State) -> tuple[int, int]:
    """Row and column of the coin."""
    row, column = np.argwhere(state.grid == COIN)[0]
    return int(row), int(column)
