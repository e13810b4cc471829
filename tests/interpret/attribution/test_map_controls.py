"""Controls for attribution maps: priors that do not look at the agent, and weights that are unlearned."""

import numpy as np
import torch

from interpret.attribution.frame_functions import agent_value
from interpret.attribution.frame_gradients import randomised_agent
from interpret.attribution.map_controls import (
    cascading_randomisation,
    centre_prior,
    edge_maps,
    map_similarity,
)
from interpret.attribution.method_config import MethodConfig
from interpret.attribution.methods import METHODS
from tests.helpers.toy_world import toy_agent


def test_the_centre_prior_falls_off_from_the_player():
    maps = centre_prior(np.array([[2.5, 5.5], [6.5, 1.5]]), (8, 8))
    assert np.unravel_index(maps[0].argmax(), (8, 8)) == (2, 5)
    assert np.unravel_index(maps[1].argmax(), (8, 8)) == (6, 1)
    assert maps[0, 2, 5] > maps[0, 2, 3] > maps[0, 2, 0]


def test_edges_are_found_where_they_are():
    frames = torch.zeros(2, 8, 8, 3)
    frames[0, :, 4:] = 1.0
    frames[1, 3:] = 1.0
    maps = edge_maps(frames)
    assert (maps[0, :, [3, 4]] > 1).all()
    assert (maps[0, :, [0, 1, 6, 7]] == 0).all()
    assert (maps[1, [2, 3]] > 1).all()


def test_cascading_randomisation_ends_at_an_untrained_agent_and_keeps_the_original():
    agent = toy_agent()
    before = {name: weight.clone() for name, weight in agent.state_dict().items()}
    copies = dict(cascading_randomisation(agent, seed=3))
    assert next(iter(copies)) == "heads"
    fresh = randomised_agent(agent, 3).state_dict()
    last = list(copies.values())[-1].state_dict()
    assert all(torch.equal(last[name], fresh[name]) for name in fresh)
    assert all(torch.equal(agent.state_dict()[name], before[name]) for name in before)
    changed = [
        sum(not torch.equal(copy.state_dict()[name], before[name]) for name in before)
        for copy in copies.values()
    ]
    assert changed == sorted(set(changed))


def test_only_the_heads_are_fresh_at_first():
    agent = toy_agent()
    _, first = next(cascading_randomisation(agent, seed=3))
    different = [
        name
        for name, weight in agent.state_dict().items()
        if not torch.equal(weight, first.state_dict()[name])
    ]
    assert different
    assert all(name.startswith(("policy_head", "value_head")) for name in different)


def test_a_map_is_like_itself_whatever_its_sign_and_scale():
    a = np.random.default_rng(0).normal(size=(2, 8, 8))
    np.testing.assert_allclose(map_similarity(a, -3 * a), 1)
    assert abs(map_similarity(a, a[:, ::-1])[0]) < 0.5


def test_a_gradient_depends_on_the_weights_and_edges_do_not():
    """The check tells a method that explains the agent from one that describes the picture."""
    agent, hidden = toy_agent(), torch.zeros(4, 8)
    frames = torch.rand(4, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    untrained = list(cascading_randomisation(agent, 0))[-1][1]
    maps = [
        METHODS["gradient_norm"].compute(agent_value(one, hidden), frames, MethodConfig()).numpy()
        for one in (agent, untrained)
    ]
    assert map_similarity(*maps).mean() < 0.5
    edges = edge_maps(frames).numpy()
    assert map_similarity(edges, edges).mean() > 0.99
