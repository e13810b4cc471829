"""A small store of real CoinRun with its agent, and directions that the agent's policy head reads."""

import pytest
import torch

from agents.actor_critic import load_agent
from common.runs import file_id
from interpret.directions.directions import Directions, save_directions
from tests.helpers.coinrun_store import WIDTH, write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def directions_file(world):
    """Six directions, fit on nothing."""
    agent, _ = load_agent(world.agent_file)
    write = torch.linalg.svd(agent.policy_head.weight.detach().double())[2].T[:, :6]
    names = [f"d{i}" for i in range(6)]
    facts = {"method": "pca", "agent": file_id(world.agent_file)}
    made = Directions(write.T, torch.zeros(6), write, torch.zeros(WIDTH), names, facts)
    save_directions(world.store.path.parent / "directions.safetensors", made)
    return world.store.path.parent / "directions.safetensors"
