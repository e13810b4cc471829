"""Tests of mean Jacobians equal brute-force sign flips and subsets, and find planted effects alone."""

import numpy as np
import pytest

from common.runs import UsageError
from common.stats import sign_flip_test
from interpret.attribution.mean_jacobians import (
    difference_p,
    extreme_samples,
    group_sums,
    limit_norms,
    mean_jacobian,
    sign_flip_p,
)
from interpret.lagged import discoveries

N, L, K = 200, 3, 4


def drawn(seed: int = 0, tails: float = 3.0) -> np.ndarray:
    """Heavy-tailed Jacobians [N, L, K, K] of mean 0."""
    return np.random.default_rng(seed).standard_t(tails, size=(N, L, K, K))


EVERY = np.ones(N, bool)
ALONE = np.arange(N)


def test_p_values_are_those_of_random_sign_flips():
    jacobian = drawn(tails=5.0) + 0.15
    groups = np.arange(N) // 2
    p = sign_flip_p(group_sums(jacobian, groups))
    flips = sign_flip_test(jacobian.reshape(N, -1).T, groups, 20_000).reshape(L, K, K)
    np.testing.assert_allclose(p, flips, atol=0.04)
    assert (sign_flip_p(np.zeros((30, 2))) == 1).all()


def test_a_planted_effect_is_found_at_its_lag_and_entry_and_no_other():
    jacobian = drawn()
    jacobian[:, 2, 0, 3] += 1.0
    found = mean_jacobian(jacobian, ALONE, EVERY)
    marks = discoveries(found.p, 0.1)
    assert marks[2, 0, 3]
    assert marks.sum() <= 3
    assert found.low[2, 0, 3] > 0
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()
    assert np.isnan(found.p[0]).all()
    np.testing.assert_allclose(found.mean, jacobian.mean(0))


def test_without_any_effect_false_discoveries_are_rare():
    marks = [discoveries(mean_jacobian(drawn(seed), ALONE, EVERY, 10).p, 0.1).any() for seed in range(40)]
    assert np.mean(marks) < 0.2


def test_samples_of_one_group_are_not_independent():
    repeated = np.repeat(drawn()[:40], 5, 0)
    groups = np.repeat(np.arange(40), 5)
    alone, together = (mean_jacobian(repeated, g, EVERY, 200) for g in (ALONE, groups))
    assert together.groups == 40
    assert together.samples == 200
    assert np.nanmean(together.p) > np.nanmean(alone.p) + 0.1
    width = [(found.high - found.low).mean() for found in (together, alone)]
    assert width[0] > 1.8 * width[1]


def test_a_subset_is_its_own_members_and_differs_from_the_others():
    """Defect 18 of the original system: it took the first samples instead of the cluster's members."""
    jacobian = drawn()
    member = np.arange(N) >= N - 60  # none of the first samples
    jacobian[member, 1, 2, 0] += 2
    jacobian[~member, 1, 2, 0] -= 2 * 60 / 140
    mine = mean_jacobian(jacobian, ALONE, member)
    np.testing.assert_allclose(mine.mean, jacobian[-60:].mean(0))
    assert discoveries(mine.differs, 0.1)[1, 2, 0]
    assert not discoveries(mean_jacobian(jacobian, ALONE, EVERY).p, 0.1)[1, 2, 0]
    first = mean_jacobian(jacobian, ALONE, EVERY & (np.arange(N) < 60))  # the defect
    assert abs(first.mean[1, 2, 0] - mine.mean[1, 2, 0]) > 2
    rng = np.random.default_rng(0)
    shuffled = [
        discoveries(difference_p(jacobian, rng.permutation(member))[1:], 0.1).any() for _ in range(20)
    ]
    assert np.mean(shuffled) < 0.3


def test_the_difference_is_tested_against_random_subsets():
    jacobian = drawn(tails=8.0)
    member = np.arange(N) % 3 == 0
    rng = np.random.default_rng(1)
    means = np.stack([jacobian[rng.permutation(member)].mean(0) for _ in range(4000)])
    overall = jacobian.mean(0)
    beyond = (np.abs(means - overall) >= np.abs(jacobian[member].mean(0) - overall)).mean(0)
    np.testing.assert_allclose(difference_p(jacobian, member), beyond, atol=0.05)
    assert np.isnan(difference_p(jacobian, EVERY)).all()


def test_intervals_cover_the_mean_and_depend_on_the_seed():
    found = [mean_jacobian(drawn(seed, 8.0), ALONE, EVERY, 200) for seed in range(8)]
    inside = np.mean([(one.low <= 0) & (one.high >= 0) for one in found])
    assert 0.9 < inside < 0.99
    other = mean_jacobian(drawn(0, 8.0), ALONE, EVERY, 200, seed=1)
    assert not np.array_equal(other.low, found[0].low)
    np.testing.assert_array_equal(other.p, found[0].p)


def test_too_few_groups_are_refused():
    with pytest.raises(UsageError, match="19 start episodes are too few for a mean Jacobian: 20 or more"):
        mean_jacobian(drawn(), ALONE % 19, EVERY)


def test_norms_are_limited_lag_by_lag_and_signs_kept():
    jacobian = drawn()
    jacobian[7, 1] *= 1000
    limited = limit_norms(jacobian, 0.95)
    norms = np.linalg.norm(jacobian, axis=(2, 3))
    small = norms <= np.quantile(norms, 0.95, axis=0)
    np.testing.assert_array_equal(limited[small], jacobian[small])
    limits = np.quantile(norms, 0.95, axis=0)
    np.testing.assert_allclose(
        np.linalg.norm(limited, axis=(2, 3))[~small], np.broadcast_to(limits, (N, L))[~small]
    )
    np.testing.assert_array_equal(np.sign(limited), np.sign(jacobian))
    np.testing.assert_allclose(limit_norms(jacobian, 1.0), jacobian)
    assert (limit_norms(np.zeros((5, 1, 2, 2)), 0.5) == 0).all()


def test_extreme_samples_are_beyond_their_scores_own_quantiles():
    scores = np.random.default_rng(0).normal(size=(500, 3)) * [1, 10, 100]
    found = extreme_samples(scores, 0.02)
    assert found["low"].sum(0).tolist() == found["high"].sum(0).tolist() == [10, 10, 10]
    for k in range(3):
        assert scores[found["low"][:, k], k].max() < scores[~found["low"][:, k], k].min()
        assert scores[found["high"][:, k], k].min() > scores[~found["high"][:, k], k].max()
