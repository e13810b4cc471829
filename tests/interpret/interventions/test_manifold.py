"""Manifold checks against direct computations, and on states that are surely on it or off it."""

import numpy as np
import pytest

from interpret.interventions.manifold import RealStates, manifold_checks

RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(3, 6)) * 0.2
T, N = 8, 150


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(size=(*shape, 3)) @ MIXING + 0.001 * RNG.normal(size=(*shape, 6))


@pytest.fixture(scope="module")
def real() -> RealStates:
    return RealStates(draw(4000))


def test_real_states_lie_within_their_own_percentiles(real):
    states = draw(T, N)
    found = manifold_checks(real, states, states, np.ones((T, N), bool))
    assert all(share < 0.03 for share in found["share_beyond"].values())
    assert not found["descriptive_only"]
    assert found["drift"] == [0] * T
    assert found["reconverged"] == 0


def test_states_off_the_manifold_are_beyond(real):
    states = draw(T, N)
    found = manifold_checks(real, 6 * states, states, np.ones((T, N), bool))
    assert min(found["share_beyond"].values()) > 0.5
    assert found["descriptive_only"]
    assert found["reconverged"] is None


def test_distances_are_those_of_direct_computation(real):
    states = draw(40)
    white = (states - real.mean) @ real.whitening
    found = real.distances(states)
    np.testing.assert_allclose(found["mahalanobis"], np.sqrt((white**2).sum(1)))
    nearest = [min(np.linalg.norm(one - other) for other in real.points) for one in white]
    np.testing.assert_allclose(found["nearest"], nearest, atol=1e-6)
    assert np.cov(((draw(20_000) - real.mean) @ real.whitening).T) == pytest.approx(np.eye(3), abs=0.15)


def test_drift_of_unrelated_states_is_about_one(real):
    assert real.drift(draw(3000), draw(3000)).mean() == pytest.approx(1, abs=0.1)


def test_steps_that_do_not_run_count_for_nothing(real):
    control = draw(T, N)
    arm = control.copy()
    arm[:3] += 0.5
    running = np.ones((T, N), bool)
    running[5:] = False
    arm[5:] = np.nan
    arm[:3, 10:] = control[:3, 10:]
    running[:3, :10] = False
    found = manifold_checks(real, arm, control, running)
    assert found["drift"] == [0] * 5 + [None] * 3
    assert found["reconverged"] == 0


def test_an_edit_for_three_steps_reconverges_after_three(real):
    control = draw(T, N)
    arm = control.copy()
    arm[:3] += 0.5
    found = manifold_checks(real, arm, control, np.ones((T, N), bool))
    assert found["reconverged"] == 3
    beyond = manifold_checks(real, 10 * arm, control, np.ones((T, N), bool))["out_of_range"]
    assert beyond[4] == pytest.approx((np.abs(10 * arm[4]) > 1).mean())
