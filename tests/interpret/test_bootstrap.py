"""Intervals by level, and a line through points whose errors are known from repeated draws."""

import numpy as np
import pytest

from common.stats import cluster_bootstrap
from interpret.bootstrap import Estimate, estimate, level_weights, line, mean, ratio

ONE = np.ones((1, 400))


def noisy(slope: float, error: float, shared: float, draws: int = 5, n: int = 400, seed: int = 0):
    """x and y [n, draws] of points on a line y = 0.1 + slope x, with errors of which a part is common to
    both.
    """
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n, 1))
    common = rng.normal(size=(n, draws))
    x, y = (
        error * (shared * common + (1 - shared**2) ** 0.5 * rng.normal(size=(n, draws))) for _ in range(2)
    )
    return true + x, 0.1 + slope * true + y


@pytest.mark.parametrize("shared", [0.0, 0.9])
@pytest.mark.parametrize("slope", [1.0, 0.3, 0.0])
def test_the_line_is_that_of_the_true_places_though_errors_are_large_and_shared(slope, shared):
    x, y = noisy(slope, 2.0, shared)
    fitted = line(ONE, x, y)
    assert fitted.slope[0] == pytest.approx(slope, abs=0.12)
    assert fitted.intercept[0] == pytest.approx(0.1, abs=0.1)
    assert fitted.reliability[0] == pytest.approx(1 / (1 + 4 / 5), abs=0.06)
    if (slope, shared) in (
        (1.0, 0.0),
        (0.0, 0.9),
    ):  # errors in x flatten an ordinary fit, shared ones tilt it
        assert abs(np.polyfit(x.mean(1), y.mean(1), 1)[0] - slope) > 0.3
    if slope == 1:
        assert fitted.correlation[0] == pytest.approx(1, abs=0.1)


def test_a_shuffled_pairing_has_slope_zero():
    x, y = noisy(1.0, 0.5, 0.0)
    assert abs(line(ONE, x, np.random.default_rng(1).permutation(y)).slope[0]) < 0.15


def test_without_repeats_the_line_is_the_ordinary_one_and_hopeless_errors_are_said_so():
    x, y = noisy(0.7, 1.0, 0.0, draws=1)
    fitted = line(ONE, x, y)
    slope, intercept = np.polyfit(x[:, 0], y[:, 0], 1)
    assert (fitted.slope[0], fitted.intercept[0]) == pytest.approx((slope, intercept))
    noise = np.random.default_rng(0).normal(size=(2, 6, 3))
    hopeless = line(np.ones((1, 6)), noise[0] - noise[0].mean(1, keepdims=True), noise[1])
    assert np.isnan(hopeless.slope[0])
    assert np.isnan(hopeless.correlation[0])


def test_intervals_of_means_are_those_of_the_cluster_bootstrap():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 40, 300)
    values = rng.normal(size=40)[levels] + 0.1 * rng.normal(size=300)
    found = estimate(mean(level_weights(levels), values))
    known = cluster_bootstrap(values, levels)
    assert found == pytest.approx((known.mean, known.low, known.high))
    by_row = estimate(mean(level_weights(np.arange(300)), values))
    assert by_row.high - by_row.low < 0.6 * (found.high - found.low)  # steps of one level are not independent


def test_ratios_and_undefined_numbers():
    weights = np.array([[1.0, 1, 1], [0, 2, 1], [0, 0, 0]])
    found = ratio(weights, np.array([1.0, 2, 3]), np.array([2, 2, 0]))
    assert found[:2].tolist() == [1.5, 7 / 4]
    assert np.isnan(found[2])
    assert ratio(weights, np.ones((3, 4, 2)), np.ones((3, 4, 2))).shape == (3, 4, 2)
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert str(Estimate(np.nan, 0, 1)) == "undefined"
    kept = estimate(np.array([1.0, np.nan, 2, 2]))
    assert kept == (1.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="zero moments"):
        level_weights(np.zeros(0))
