"""A straight line through points whose errors are estimated from repeated draws."""

import numpy as np
import pytest

from interpret.errors_in_variables import fit_line

ONE = np.ones((1, 400))


def noisy(slope: float, error: float, shared: float, draws: int = 5, n: int = 400, seed: int = 0):
    """Points x and y [n, draws] on the line y = 0.1 + slope x, with errors that are partly shared by x and
    y.
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
def test_the_fit_recovers_the_error_free_line_despite_large_and_shared_errors(slope, shared):
    x, y = noisy(slope, 2.0, shared)
    fitted = fit_line(ONE, x, y)
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
    assert abs(fit_line(ONE, x, np.random.default_rng(1).permutation(y)).slope[0]) < 0.15


def test_without_repeats_the_fit_is_ordinary_least_squares_and_pure_noise_has_no_slope():
    x, y = noisy(0.7, 1.0, 0.0, draws=1)
    fitted = fit_line(ONE, x, y)
    slope, intercept = np.polyfit(x[:, 0], y[:, 0], 1)
    assert (fitted.slope[0], fitted.intercept[0]) == pytest.approx((slope, intercept))
    noise = np.random.default_rng(0).normal(size=(2, 6, 3))
    pure_noise = fit_line(np.ones((1, 6)), noise[0] - noise[0].mean(1, keepdims=True), noise[1])
    assert np.isnan(pure_noise.slope[0])
    assert np.isnan(pure_noise.correlation[0])
