"""Aggregate posteriors agree with sampling and with the definition, and are at no distance from the prior
itself.
"""

import numpy as np
import pytest

from interpret.posterior import aggregate_posterior


def test_the_aggregate_is_that_of_draws_and_zero_for_the_prior_itself():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(300, 3)) * [0, 1, 2] + [0, 0, 1]
    log_variance = np.log(rng.uniform(0.2, 1, (300, 3)))
    found = aggregate_posterior(mean, log_variance)
    z = (mean + np.exp(log_variance / 2) * rng.normal(size=(2000, 300, 3))).reshape(-1, 3)
    np.testing.assert_allclose(found.mean, z.mean(0), atol=0.01)
    np.testing.assert_allclose(found.variance, z.var(0), rtol=0.01)
    np.testing.assert_allclose(found.kurtosis, ((z - z.mean(0)) ** 4).mean(0) / z.var(0) ** 2 - 3, atol=0.03)
    log_ratio = -0.5 * log_variance - 0.5 * (
        (z.reshape(2000, 300, 3) - mean) ** 2 / np.exp(log_variance) - z.reshape(2000, 300, 3) ** 2
    )
    np.testing.assert_allclose(found.kl, log_ratio.mean((0, 1)), rtol=0.02)  # the definition, by drawing
    assert found.active.tolist() == [False, True, True]
    assert (found.marginal_kl[1:] < found.kl[1:]).all()
    prior = aggregate_posterior(np.zeros((50, 4)), np.zeros((50, 4)))
    for name in ("kl", "mean", "kurtosis", "of_means", "marginal_kl"):
        assert np.abs(getattr(prior, name)).max() < 1e-12
    points = aggregate_posterior(z[:5000], None)
    assert np.isnan(points.kl).all()
    assert points.variance == pytest.approx(z[:5000].var(0))
