"""Latents are plausible in the typical shell of their prior, and whitened coordinates make them standard
normal.
"""

import numpy as np
import pytest
import torch

from common.runs import UsageError
from interpret.targets.latent_prior import SphericalPrior, recorded_prior, standard_prior

Z, SPLIT, LEVELS = 12, 5, 40


def planted(n: int = 4000):
    """Posteriors of a correlated Gaussian with small variance of their own, on LEVELS levels."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(Z, Z, generator=generator, dtype=torch.float64)
    mean = 3 + torch.randn(n, Z, generator=generator, dtype=torch.float64) @ mixing.T
    log_variance = torch.full_like(mean, 0.3).log()
    covariance = mixing @ mixing.T + 0.3 * torch.eye(Z, dtype=torch.float64)
    return mean.float(), log_variance.float(), np.arange(n) % LEVELS, covariance.float()


@pytest.fixture(scope="module")
def prior():
    mean, log_variance, levels, _ = planted()
    return recorded_prior(mean, log_variance, levels, SPLIT)


def test_whitening_is_undone_by_the_latent_of_it(prior):
    z = planted(20)[0]
    torch.testing.assert_close(prior.latent(prior.whiten(z)), z, rtol=1e-4, atol=1e-4)


def test_samples_have_mean_and_covariance_of_the_aggregate_posterior(prior):
    z = prior.sample(torch.randn(20_000, Z, generator=torch.Generator().manual_seed(1)))
    covariance = planted()[3]
    torch.testing.assert_close(z.mean(0), torch.full((Z,), 3.0), rtol=0, atol=0.35)
    assert (torch.cov(z.T) - covariance).norm() < 0.1 * covariance.norm()


def test_the_global_part_is_whitened_by_itself(prior):
    """What the tiles hold does not move the first coordinates."""
    z = planted(5)[0]
    other = torch.cat([z[:, :SPLIT], z[:, SPLIT:] + 7], 1)
    torch.testing.assert_close(prior.whiten(other)[:, :SPLIT], prior.whiten(z)[:, :SPLIT])


@pytest.mark.parametrize("kind", ["recorded", "standard"])
def test_percentiles_of_plausible_latents_are_uniform(kind, prior):
    one = prior if kind == "recorded" else standard_prior(Z, SPLIT)
    u = torch.randn(4000, Z, generator=torch.Generator().manual_seed(2))
    counts = torch.histc(one.percentile(u), 4, 0, 100)
    assert (counts / 4000 - 0.25).abs().max() < 0.06


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_the_mean_is_as_implausible_as_a_point_far_outside(prior, scale):
    u = scale * torch.ones(1, Z)
    assert prior.percentile(u) > 99
    assert prior.penalty(u) > 2


def test_the_penalty_is_that_of_either_part(prior):
    u = torch.zeros(3, Z)
    u[0, 0], u[0, SPLIT] = prior.centre
    u[1, 0], u[1, SPLIT] = prior.centre + prior.spread * torch.tensor([2.0, 0.0])
    u[2, 0], u[2, SPLIT] = prior.centre + prior.spread * torch.tensor([0.0, -1.0])
    torch.testing.assert_close(prior.penalty(u), torch.tensor([0.0, 2.0, 0.5]), rtol=1e-4, atol=1e-4)


def test_the_shell_is_that_of_levels_that_were_not_fit():
    """With as many moments as dimensions a fit is too narrow for other moments; the shell says so."""
    mean, log_variance, levels, _ = planted(32)
    shell = recorded_prior(mean, log_variance - 5, levels, SPLIT).centre
    assert shell[1] > 1.2 * (Z - SPLIT) ** 0.5


def test_recorded_moments_of_too_few_levels_are_refused():
    mean, log_variance, levels, _ = planted(30)
    with pytest.raises(UsageError, match=r"3 levels.*--prior standard"):
        recorded_prior(mean, log_variance, levels % 3, SPLIT)


def test_spherical_latents_are_projected_back_and_have_no_percentile():
    prior = SphericalPrior()
    u = 2.5 * torch.randn(6, Z, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(prior.latent(u).norm(dim=1), torch.ones(6))
    torch.testing.assert_close(prior.project(u).norm(dim=1), torch.full((6,), Z**0.5))
    torch.testing.assert_close(prior.whiten(prior.latent(u)), prior.project(u))
    assert prior.percentile(u).isnan().all()
    assert not prior.penalty(u).any()
