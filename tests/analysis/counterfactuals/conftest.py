"""A small store of real CoinRun with its agent, and directions of its hidden state."""

from pathlib import Path

import pytest
import torch

from common.runs import file_id
from interpret.directions.directions import Directions, save_directions
from tests.helpers.coinrun_store import WIDTH, write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def directions(world) -> Path:
    """Three units of the state."""
    path = world.store.path.parent / "axes.safetensors"
    axes = torch.eye(WIDTH)[:3]
    facts = {"method": "units", "agent": file_id(world.agent_file)}
    made = Directions(axes, torch.zeros(3), axes.T, torch.zeros(WIDTH), ("a", "b", "c"), facts)
    save_directions(path, made)
    return path
