"""Stable directions are recovered from resampled levels, arbitrary ones are not, and labels say which is
which.
"""

import numpy as np
import pytest

from common.runs import UsageError
from interpret.directions.fitting import sample_of
from interpret.directions.ica import fit_ica
from interpret.directions.pca import fit_pca
from interpret.directions.stability import (
    labels,
    matched_cosines,
    stability,
    standardised_metric,
    whitened_metric,
    with_stability,
)
from tests.helpers.planted_directions import PlantedAgent, independent, levels, states_of


def test_planted_independent_sources_are_stable():
    x = states_of(PlantedAgent(3), independent(3))
    found = stability(lambda x, groups, seed: fit_ica(x, groups, 3, seed), x, levels())
    assert found.cosines.shape == (20, 3)
    assert found.stable.all()
    assert found.median.min() > 0.95


def test_an_arbitrary_rotation_is_labelled_unstable():
    """Equal variances: which principal components come out is chance. The first one stands out and is found
    again.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(levels()), 24))
    x[:, 1:4] += 2 * x[:, :1]
    found = stability(lambda x, groups, seed: fit_pca(x, groups, 4), x, levels())
    assert found.stable.tolist() == [True, False, False, False]
    assert "pc_0: median |cosine| 1.00, stable" in str(found)
    assert str(found).count("unstable") == 3
    directions = fit_pca(x, levels(), 4)
    assert labels(directions)[0] == "pc_0 (untested)"
    assert labels(with_stability(directions, found)) == [
        "pc_0",
        "pc_1 (unstable)",
        "pc_2 (unstable)",
        "pc_3 (unstable)",
    ]
    with pytest.raises(ValueError, match="other directions"):
        with_stability(fit_pca(x, levels(), 3), found)


def test_levels_are_drawn_whole_and_seeds_differ():
    x = states_of(PlantedAgent(2), independent(2))
    seen = []

    def fit(x, groups, seed):
        seen.append((seed, np.unique(groups, return_counts=True)))
        return fit_pca(x, groups, 2)

    stability(fit, x, levels(), seed=5)
    (first, (_, whole)), *draws = seen
    assert first == 5
    assert (whole == 40).all()
    assert [seed for seed, _ in draws] == list(range(6, 26))
    for _, (drawn, counts) in draws:
        assert (counts % 40 == 0).all()
        assert counts.sum() == len(x)
        assert 60 < len(drawn) < 100


def test_directions_of_one_odd_level_do_not_count_as_stable():
    """The mutant that draws states, not levels, calls this stable: every such draw holds the odd level."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(levels()), 6))
    x[levels() == 7] += 40 * rng.normal(size=6)
    by_level = stability(lambda x, groups, seed: fit_pca(x, groups, 1), x, levels())
    by_state = stability(lambda x, groups, seed: fit_pca(x, groups, 1), x, np.arange(len(x)))
    assert by_state.median[0] > 0.99
    assert by_level.cosines.min() < 0.9


def test_too_few_levels_or_draws_are_refused():
    x = states_of(PlantedAgent(3), independent(3))

    def fit(x, groups, seed):
        return fit_pca(x, groups, 6)

    with pytest.raises(UsageError, match="19 draws cannot tell stability"):
        stability(fit, x, levels(), draws=19)
    with pytest.raises(UsageError, match="needs 24 levels, and there are 22"):
        stability(fit, x, levels() % 22)


def test_matching_is_one_to_one_and_ignores_order_and_sign():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 3))
    np.testing.assert_allclose(matched_cosines(a, -a[:, [2, 0, 1]] * 5, np.eye(6)), 1)
    twice = matched_cosines(a[:, [0, 0]], a[:, [0, 1]], np.eye(6))
    assert twice.max() == pytest.approx(1)
    assert twice.min() < 0.9
    assert (matched_cosines(a, a[:, :2], np.eye(6)) < 1e-12).sum() == 1  # and one is left without


def test_cosines_are_those_of_whitened_and_of_standardised_features():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 4)) @ rng.normal(size=(4, 4)) * [1, 10, 100, 0.1]
    a = rng.normal(size=(4, 2)) * [[1], [10], [100], [0.1]]
    b = rng.normal(size=(4, 2)) * [[1], [10], [100], [0.1]]
    covariance = sample_of(x, np.zeros(len(x))).covariance
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    for metric, change in (
        (whitened_metric, root),
        (standardised_metric, np.diag(1 / np.sqrt(np.diag(covariance)))),
    ):
        u = change @ a
        v = change @ b
        cosines = np.abs((u / np.linalg.norm(u, axis=0)).T @ (v / np.linalg.norm(v, axis=0)))
        best = max((cosines[0, 0], cosines[1, 1]), (cosines[0, 1], cosines[1, 0]), key=sum)
        np.testing.assert_allclose(matched_cosines(a, b, metric(covariance)), best, rtol=1e-6)
