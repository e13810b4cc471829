"""Agreement of Jacobians with correlations: planted agreement is found, biased signs alone are not."""

import numpy as np
import pytest

from interpret.attribution.sign_agreement import (
    magnitude_agreement,
    relabellings,
    resampled_agreement,
    sign_agreement,
    signs,
)
from interpret.lagged import lagged_correlations
from interpret.lagged_resamples import episode_sums, resampled_correlations

L, K = 3, 8
ALL = np.ones((L, K, K), bool)
ORDERS = relabellings(K, 500)


def random_matrices(seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(L, K, K)) + shift


def test_planted_agreement_is_found_and_mutants_lose_it():
    jacobian = random_matrices(0)
    correlation = jacobian + 0.3 * random_matrices(1)
    a, b = signs(jacobian, ALL), signs(correlation, ALL)
    found = sign_agreement(a, b, ORDERS)
    assert (found.value > 0.8).all()
    assert (found.p < 0.01).all()
    assert found.n.tolist() == [K * (K - 1)] * L + [L * K * (K - 1)]
    for mutant in (a.transpose(0, 2, 1), np.roll(a, 1, 0), a[:, ::-1, ::-1]):
        assert sign_agreement(mutant, b, ORDERS).value[-1] < 0.65
    against = sign_agreement(-a, b, ORDERS)
    assert (against.value < 0.2).all()
    assert (against.p < 0.01).all()


def test_biased_signs_agree_often_and_are_no_evidence():
    """Nine in ten entries of both are positive: by chance four in five agree, not one half."""
    values, p = [], []
    for seed in range(20):
        a, b = (signs(random_matrices(2 * seed + i, 1.28), ALL) for i in (0, 1))
        found = sign_agreement(a, b, ORDERS[:99])
        values.append(found.value[-1])
        p.append(found.p[-1])
        assert abs(found.null_mean[-1] - found.value[-1]) < 0.12
        assert found.null_interval[-1, 0] <= found.null_mean[-1] <= found.null_interval[-1, 1]
    assert np.mean(values) > 0.75
    assert np.mean(np.array(p) < 0.05) <= 0.2


def test_zeros_and_what_is_not_significant_count_for_nothing():
    """The original system counted a zero as positive: where gradients were 0, it agreed with what rose."""
    jacobian = random_matrices(0)
    jacobian[0] = 0
    correlation = np.abs(random_matrices(1))
    found = sign_agreement(signs(jacobian, ALL), signs(correlation, ALL), ORDERS[:20])
    assert found.n[0] == 0
    assert np.isnan(found.value[0])
    assert np.isnan(found.p[0])
    marks = np.zeros((L, K, K), bool)
    marks[1, 0, 1] = marks[1, 2, 2] = True
    few = sign_agreement(signs(jacobian, marks), signs(correlation, ALL), ORDERS[:20])
    assert few.n.tolist() == [0, 1, 0, 1]
    assert few.value[1] == (jacobian[1, 0, 1] > 0)
    unknown = np.where(np.eye(K, dtype=bool), 1.0, np.nan)[None]
    assert not signs(unknown, np.ones((1, K, K), bool)).any()


def test_the_null_keeps_the_number_of_each_sign_and_breaks_pairs_only():
    a = signs(random_matrices(0, 0.5), ALL)
    for order in ORDERS[:10]:
        moved = a[:, order][:, :, order]
        for sign in (-1, 0, 1):
            np.testing.assert_array_equal((moved == sign).sum((1, 2)), (a == sign).sum((1, 2)))
        assert (np.sort(moved.sum(2)) == np.sort(a.sum(2))).all()
    assert len(np.unique(ORDERS, axis=0)) > 490
    assert not np.array_equal(relabellings(K, 5, seed=1), ORDERS[:5])


def test_magnitudes_are_compared_within_a_lag():
    falling = np.array([1.0, 0.1, 0.01])[:, None, None]
    apart = [falling * np.abs(random_matrices(seed)) for seed in (0, 1)]
    found = magnitude_agreement(*apart, ORDERS)
    assert abs(found.value[-1]) < 0.3  # both fall with the lag, and that alone is no agreement
    assert found.p[-1] > 0.01
    alike = magnitude_agreement(apart[0], apart[0] ** 3, ORDERS)
    np.testing.assert_allclose(alike.value, 1)
    assert (alike.p < 0.01).all()
    mutant = magnitude_agreement(apart[0].transpose(0, 2, 1), apart[0], ORDERS)
    assert (mutant.value < 0.5).all()
    diagonal = apart[0] + 1000 * np.eye(K)
    np.testing.assert_allclose(magnitude_agreement(diagonal, apart[1], ORDERS[:5]).value, found.value)


def test_an_interval_counts_the_entries_of_the_data():
    jacobian = np.stack([random_matrices(0), random_matrices(0), -random_matrices(0)])
    correlation = np.broadcast_to(random_matrices(0), jacobian.shape)
    counted = np.zeros((L, K, K), bool)
    counted[1, 0, 1] = counted[2, 0, 1] = True
    found = resampled_agreement(jacobian, correlation, counted)
    np.testing.assert_array_equal(found[:, 1:], [[1, 1, 1], [1, 1, 1], [0, 0, 0]])
    assert np.isnan(found[:, 0]).all()


def test_resampled_correlations_equal_those_of_the_drawn_episodes():
    rng = np.random.default_rng(0)
    length = rng.integers(3, 9, 40)
    scores = np.cumsum(rng.normal(size=(length.sum(), 3)), 0) + 50
    drawn = rng.integers(0, 40, 40)
    weights = np.stack([np.ones(40), np.bincount(drawn, minlength=40)])
    found = resampled_correlations(episode_sums(scores, length, 4), weights)
    rows = np.split(scores, np.cumsum(length)[:-1])
    for resample, episodes in zip(found, (np.arange(40), drawn)):
        mine = np.concatenate([rows[e] for e in episodes])
        expected = lagged_correlations(mine, length[episodes], 4, draws=20).correlation
        np.testing.assert_allclose(resample, expected, atol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_constant_score_has_no_correlation(scale):
    scores = np.stack([np.full(60, 3.7), scale * np.random.default_rng(0).normal(size=60)], 1)
    found = resampled_correlations(episode_sums(scores, np.full(10, 6), 2), np.ones((1, 10)))[0]
    assert np.isnan(found[:, 0, 1]).all()
    assert np.isfinite(found[:, 1, 1]).all()
