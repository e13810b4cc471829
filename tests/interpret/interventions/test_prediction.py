"""Correlations of simulated with real effects, corrected for noise: a planted truth is found, and noise that
both worlds share does not count.
"""

import numpy as np
import pytest

from interpret.interventions.prediction import (
    agreement,
    noise_free_products,
    observed_products,
    one_step_agreement,
)

DIRECTIONS, POINTS = 120, 100


def planted(rho, noise, shared, seed, slope=0.5):
    """Effects [K, M] in two worlds. True effects correlate by rho; errors have standard deviation `noise` at
    each point, of which a share `shared` of the variance is common to both worlds.
    """
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(2, DIRECTIONS))
    real = true[0]
    simulated = slope * (rho * true[0] + np.sqrt(1 - rho**2) * true[1])
    common, own, other = noise * rng.normal(size=(3, DIRECTIONS, POINTS))
    errors = [np.sqrt(shared) * common + np.sqrt(1 - shared) * one for one in (own, other)]
    return real[:, None] + errors[0], simulated[:, None] + slope * errors[1]


def ones(real):
    return np.ones((1, real.shape[1])), np.ones((1, len(real)))


def over_seeds(rho, noise, shared, name):
    found = [
        agreement(*pair, *ones(pair[0]))[name][0]
        for pair in (planted(rho, noise, shared, seed) for seed in range(40))
    ]
    return np.mean(found)


@pytest.mark.parametrize("rho", [0.3, 0.8])
@pytest.mark.parametrize("noise", [1.0, 10.0])
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_the_corrected_correlation_is_the_true_one(rho, noise, shared):
    assert over_seeds(rho, noise, shared, "r_corrected") == pytest.approx(rho, abs=0.05)


def test_reliability_is_the_share_of_true_variance():
    assert over_seeds(0.8, 10.0, 0.0, "reliability_real") == pytest.approx(0.5, abs=0.04)
    assert over_seeds(0.8, 10.0, 0.0, "reliability_simulated") == pytest.approx(0.5, abs=0.04)
    assert over_seeds(0.8, 0.1, 0.0, "reliability_real") == pytest.approx(1.0, abs=0.01)


def test_noise_attenuates_the_raw_correlation_and_shared_noise_feigns_one():
    assert over_seeds(0.8, 10.0, 0.0, "r") == pytest.approx(0.8 * 0.5, abs=0.04)
    assert over_seeds(0.0, 10.0, 0.7, "r") > 0.3
    assert over_seeds(0.0, 10.0, 0.7, "r_corrected") == pytest.approx(0, abs=0.05)


def test_the_slope_is_that_of_the_true_effects():
    assert over_seeds(0.8, 10.0, 0.7, "slope") == pytest.approx(0.5 * 0.8, abs=0.04)


def test_products_equal_sums_over_pairs_of_different_points():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 6))
    weights, rows = rng.integers(0, 3, (4, 6)).astype(float), rng.integers(0, 3, (4, 5)).astype(float)
    for found, w, r in zip(noise_free_products(x, y, weights, rows), weights, rows):
        a, b = (one - r @ one / r.sum() for one in (x, y))
        total = sum(
            r[k] * w[i] * w[j] * a[k, i] * b[k, j]
            for k in range(5) for i in range(6) for j in range(6) if i != j
        )  # fmt: skip
        pairs = sum(w[i] * w[j] for i in range(6) for j in range(6) if i != j)
        assert found == pytest.approx(total / r.sum() / pairs)


def test_observed_products_are_covariances_of_means():
    x, y = np.random.default_rng(0).normal(size=(2, 7, 9))
    expected = np.cov(x.mean(1), y.mean(1), bias=True)[0, 1]
    assert observed_products(x, y, *ones(x))[0] == pytest.approx(expected)


def test_a_predictor_without_noise_is_corrected_for_the_other_s():
    found = []
    for seed in range(40):
        real, exact = planted(0.8, 10.0, 0.0, seed)
        found.append(one_step_agreement(real, exact.mean(1), *ones(real)))
        truth = planted(0.8, 0.0, 0.0, seed)[1].mean(1)
        found[-1] |= {"true": one_step_agreement(real, truth, *ones(real))["r_corrected"]}
    assert np.mean([one["true"] for one in found]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([one["r"] for one in found]) == pytest.approx(0.8 * 0.5, abs=0.04)


def test_a_world_without_true_variance_has_no_corrected_correlation():
    real, simulated = planted(0.8, 1.0, 0.0, 0)
    assert np.isnan(agreement(0 * real, simulated, *ones(real))["r_corrected"][0])


def test_same_sign_counts_directions():
    x = np.array([[1.0, 1], [1, 1], [-1, -1], [1, 1]])
    y = np.array([[2.0, 2], [-1, -1], [-3, -3], [1, 1]])
    assert agreement(x, y, *ones(x))["same_sign"][0] == pytest.approx(0.75)
