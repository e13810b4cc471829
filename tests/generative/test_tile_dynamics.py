"""Tiles that are known stay, others come from the sample; the posterior sees the true code and the prior does
not.
"""

import pytest
import torch

from generative.model.tile_dynamics import BORDER, CLOSED, TileDynamics
from tests.helpers.toy_world import toy_config

K = 6


@pytest.fixture
def dynamics():
    torch.manual_seed(0)
    return TileDynamics(toy_config()).requires_grad_(False)


@pytest.fixture
def window():
    """Codes and known flags [4, h + 2, w + 2, K + 1] of which every other column is known."""
    rows, columns = (n + 2 * BORDER for n in toy_config().view_shape)
    codes = 2 * torch.rand(4, rows, columns, K, generator=torch.Generator().manual_seed(1)) - 1
    known = (torch.arange(columns) % 2).float()[None, None, :, None].expand(4, rows, columns, 1)
    return torch.cat([codes * known, known], -1)


@pytest.fixture
def vector():
    return torch.tanh(torch.randn(4, 32, generator=torch.Generator().manual_seed(2)))


def one_class(config, index: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.full((4, config.num_tiles), index), config.classes).float()


def with_gate(dynamics, gate: float):
    dynamics.gate_head.weight[:] = 0
    dynamics.gate_head.bias[:] = gate
    return dynamics


def test_known_tiles_stay_where_the_gate_is_shut_and_unknown_ones_come_from_the_sample(
    dynamics, window, vector
):
    tiles = with_gate(dynamics, -100.0)(window, vector)
    before, known = tiles.before[..., :K], tiles.before[..., K] > 0
    one, other = (dynamics.apply_sample(tiles, one_class(dynamics.config, i)) for i in (0, 1))
    assert known.any()
    assert not known.all()
    assert torch.equal(one[known][:, :K], before[known])
    assert (one[~known] != other[~known])[:, :K].all()
    assert one[..., K].eq(1).all()  # and all are known after it
    changing = with_gate(dynamics, 100.0).apply_sample(tiles, one_class(dynamics.config, 0))
    assert (changing[known][:, :K] != before[known]).all()
    assert changing[..., :K].abs().max() <= 1


def test_the_window_is_the_view_and_a_border_that_is_read_and_not_written(dynamics, window, vector):
    tiles = dynamics(window, vector)
    assert dynamics.window_shape == window.shape[1:3]
    assert torch.equal(tiles.before, window[:, BORDER:-BORDER, BORDER:-BORDER])
    outside = window.clone()
    outside[:, 0] += 1
    moved = dynamics(outside, vector)
    assert torch.equal(moved.before, tiles.before)
    assert not torch.allclose(moved.features[:, 0], tiles.features[:, 0])
    assert not torch.allclose(dynamics(window, -vector).features, tiles.features)


def test_the_posterior_reads_the_true_code_of_its_tile_and_the_prior_none(dynamics, window, vector):
    config = dynamics.config
    tiles = dynamics(window, vector)
    codes = torch.zeros(4, *config.view_shape, K)
    changed = codes.clone()
    changed[:, 2, 3] = 1
    one, other = (dynamics.posterior(tiles, x) for x in (codes, changed))
    at = 2 * config.view_shape[1] + 3
    assert (one[:, at] != other[:, at]).any(-1).all()
    assert torch.equal(one[:, :at], other[:, :at])
    assert torch.equal(one[:, at + 1 :], other[:, at + 1 :])
    prior = dynamics.prior(tiles)
    assert prior.shape == one.shape == (4, *config.stoch_shape)
    for logits in (prior, one):
        torch.testing.assert_close(logits.exp().sum(-1), torch.ones(logits.shape[:-1]))
        assert logits.exp().min() >= config.uniform_mix / config.classes - 1e-6


def test_an_open_gate_has_a_gradient_to_what_was_known(dynamics, window, vector):
    for gate, reached in ((-100.0, 1.0), (100.0, 0.0)):
        tiles = with_gate(dynamics, gate)(window, vector)
        before = tiles.before.clone().requires_grad_()
        after = dynamics.apply_sample(tiles._replace(before=before), one_class(dynamics.config, 0))
        gradient = torch.autograd.grad(after[..., :K].sum(), before)[0][..., :K]
        known = tiles.before[..., K] > 0
        torch.testing.assert_close(gradient[known], torch.full_like(gradient[known], reached))
        assert not gradient[~known].any()


def test_few_changed_tiles_are_what_all_of_them_would_be(dynamics, window, vector):
    dynamics.gate_head.weight *= 5
    dynamics.gate_head.bias[:] = CLOSED
    tiles = dynamics(window, vector)
    sample = one_class(dynamics.config, 1)
    sparse = dynamics.apply_sample(tiles, sample)
    dense = dynamics.apply_sample(tiles, sample.clone().requires_grad_()).detach()
    torch.testing.assert_close(sparse, dense)
    known = tiles.before[..., K] > 0
    stayed = (sparse[..., :K] == tiles.before[..., :K]).all(-1)
    assert torch.equal(stayed, (dense[..., :K] == tiles.before[..., :K]).all(-1))
    assert stayed[known].any()
    assert not stayed[known].all()
    relaxed = dynamics.apply_sample(tiles, sample, "relaxed")
    assert (relaxed[known] != tiles.before[known])[:, :K].all()
    assert not torch.allclose(relaxed[known], dense[known])
    torch.testing.assert_close(relaxed[~known], dense[~known])
