"""Windows of the toy world, its agent and an untrained world model of it, for the tests of the model and of
its losses.
"""

import numpy as np
import pytest
import torch

from generative.model.world_model import WorldModel
from generative.training.teacher_forcing import draw_noise
from tests.helpers.toy_world import toy_agent, toy_config, toy_episode, with_agent, write_toy_store

K = 3
STEPS = 6
LENGTH = K + STEPS - 1
OVERSHOOTING_STEPS = 3
OVERSHOOTING_RUNS = 2
ROLLOUT_STEPS = 4
EXTRA_STARTS = 2


@pytest.fixture(scope="module")
def agent():
    return toy_agent()


@pytest.fixture(scope="module")
def store(tmp_path_factory, agent):
    rng = np.random.default_rng(0)
    episodes = [with_agent(toy_episode(rng, 16), agent) for _ in range(250)]
    return write_toy_store(tmp_path_factory.mktemp("toy") / "store", episodes, agent)


@pytest.fixture(scope="module")
def segment(store):
    """Windows of every kind: full, ending inside, and ending right after the first simulated frame."""
    windows = store.windows(LENGTH, min_steps=K)
    lengths = np.minimum(store.episodes["length"][windows.table[:, 0]] - windows.table[:, 1], LENGTH)
    ended = store.episodes["end"][windows.table[:, 0]] == "terminated"
    chosen = [np.flatnonzero((lengths == length) & ended)[0] for length in range(K, LENGTH + 1)]
    found = windows.batch(np.array([*chosen, *np.flatnonzero(lengths == LENGTH)[5:9]]))
    found.extra["weight"] = torch.linspace(0.1, 2.0, found.mask.shape[1])
    return found


@pytest.fixture
def model():
    torch.manual_seed(1)
    model = WorldModel(toy_config())
    torch.nn.init.normal_(
        model.outcome_head[-1].weight, std=0.3
    )  # it starts at zero, where a shifted target would not show
    torch.nn.init.normal_(model.done_calibration, std=0.1)
    return model


def noise_for(model, segment, seed=0, overshooting=(OVERSHOOTING_STEPS, OVERSHOOTING_RUNS)):
    return draw_noise(
        model.config,
        STEPS,
        segment.mask.shape[1],
        torch.Generator().manual_seed(seed),
        *overshooting,
        EXTRA_STARTS,
    )
