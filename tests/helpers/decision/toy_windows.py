"""Windows of the toy world, its agent and an untrained world model of it, for the tests of the model and of
its losses.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from generative.model.world_model import WorldModel
from generative.training.teacher_forcing import draw_noise
from tests.helpers.toy_world import toy_agent, toy_config, toy_episode, with_agent, write_toy_store

K = 3
STEPS = 6
LENGTH = K + STEPS - 1


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


@pytest.fixture(scope="module")
def labelled(segment):
    """The same windows with labels: a place of every frame, on a walk of small steps, and kinds of tiles."""
    rng = torch.Generator().manual_seed(3)
    steps = 1.6 * torch.rand(*segment.mask.shape, 2, generator=rng, dtype=torch.float64) - 0.8
    steps[:, ::3] = steps[:, ::3].round()  # some on the edges of tiles
    position = (40 + steps.cumsum(0)) * segment.mask[..., None]
    tiles = torch.randint(0, 10, (*segment.mask.shape, 15, 15), generator=rng).to(torch.uint8)
    return replace(segment, extra=segment.extra | {"position": position, "tiles": tiles})


@pytest.fixture
def model():
    torch.manual_seed(1)
    model = WorldModel(toy_config())
    torch.nn.init.normal_(
        model.outcome_head.out.weight, std=0.3
    )  # it starts at zero, where a shifted target would not show
    torch.nn.init.normal_(model.done_calibration, std=0.1)
    return model


def noise_for(model, segment, seed=0):
    return draw_noise(model.config, STEPS, segment.mask.shape[1], torch.Generator().manual_seed(seed))
