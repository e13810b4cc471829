"""Batched ridge probes equal scikit-learn's one by one, never predict layouts they were fit on, and skip
unknown rows.
"""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score

from interpret.probing.decoding import (
    AUROC_BINS,
    control_labels,
    decoding_scores,
    gain_over_best,
    group_resamples,
)
from interpret.probing.ridge import (
    PENALTIES,
    cross_validate,
    fit_ridge,
    fold_sums,
    ridge_path,
    squared_errors,
)

N = 1500
D = 6
GROUPS = 30


@pytest.fixture(scope="module")
def made():
    """x [N, D] of unequal scales, y [N, 4]: two numbers (one known in half of the rows), a truth value, and
    noise; layouts and folds.
    """
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(GROUPS), N // GROUPS)
    x = (rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) * np.exp(rng.normal(size=D)) + 5).astype(
        np.float32
    )
    z = (x - x.mean(0)) / x.std(0)
    number = z[:, 0] - 2 * z[:, 1] + 0.5 * rng.normal(size=N)
    y = np.stack(
        [number, z[:, 2] + rng.normal(size=N), z[:, 3] + 0.5 * rng.normal(size=N) > 0, rng.normal(size=N)], 1
    ).astype(np.float32)
    y[rng.random(N) < 0.5, 1] = np.nan
    return x, y, groups, groups % 3


def test_every_penalty_and_concept_is_what_scikit_learn_finds_alone(made):
    x, y, _, folds = made
    z = ((x - x.mean(0)) / x.std(0)).astype(np.float64)
    parts = fold_sums(z, y, folds)
    train = np.array([[1, 1, 0]])
    test = np.array([[0, 0, 1]])
    found = ridge_path(parts.pooled(train))
    wrong = squared_errors(found, parts.pooled(test))
    for p in (0, 3, len(PENALTIES) - 1):
        for k in range(4):
            rows = np.isfinite(y[:, k])
            fit_on = rows & (folds < 2)
            tested = rows & (folds == 2)
            alone = Ridge(PENALTIES[p]).fit(z[fit_on], y[fit_on, k])
            np.testing.assert_allclose(found.weights[p, 0, k], alone.coef_, rtol=1e-5, atol=1e-7)
            assert found.offset[p, 0, k] == pytest.approx(alone.intercept_, rel=1e-5, abs=1e-7)
            assert wrong[p, 0, k] == pytest.approx(
                np.square(alone.predict(z[tested]) - y[tested, k]).sum(), rel=1e-4
            )


def test_weights_count_rows_as_often_as_they_say(made):
    x, y, _, _ = made
    weights = np.random.default_rng(1).integers(0, 3, N)
    penalty = np.full(4, PENALTIES[2])
    again = np.repeat(np.arange(N), weights)
    z = (x - x.mean(0)) / x.std(0)  # so that both standardise alike
    twice = fit_ridge(z, y, penalty, weights)
    weighted = fit_ridge(z, y, penalty)
    truth = ridge_path(fold_sums(z, y, np.zeros(N, int), weights))
    repeated = ridge_path(fold_sums(z[again], y[again], np.zeros(len(again), int)))
    np.testing.assert_allclose(truth.weights, repeated.weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(twice.weights, truth.weights[2, 0], rtol=1e-3, atol=1e-4)
    assert np.abs(weighted.weights - twice.weights).max() > 1e-3


def test_predictions_come_from_probes_of_other_layouts_only(made):
    """A mutant that sees all layouts would read labels that are random by layout."""
    x, _, groups, folds = made
    rng = np.random.default_rng(2)
    marker = np.eye(GROUPS, dtype=np.float32)[groups]  # says the layout outright
    y = rng.normal(size=GROUPS)[groups][:, None].astype(np.float32)
    read = cross_validate(np.concatenate([x, marker], 1), y, folds).predictions
    classes = np.array([False])
    draws = group_resamples(groups)
    assert decoding_scores(y, classes, read, groups, draws)[0, 0] < 0.1
    seen = cross_validate(np.concatenate([x, marker], 1), y, np.arange(N) % 3).predictions
    assert decoding_scores(y, classes, seen, groups, draws)[0, 0] > 0.9


def test_reading_is_right_in_raw_units_and_constant_features_do_no_harm(made):
    x, y, groups, folds = made
    wide = np.concatenate([x, np.full((N, 1), 3, np.float32)], 1)
    read = cross_validate(wide, y, folds)
    assert np.isfinite(read.predictions).all()
    assert read.probes.weights[:, -1] == pytest.approx(0)
    again = fit_ridge(wide, y, read.probes.penalty)
    whole = [wide @ probes.weights.T + probes.offset for probes in (read.probes, again)]
    np.testing.assert_allclose(*whole, rtol=1e-3, atol=1e-3)
    number = decoding_scores(
        y, np.array([False, False, True, False]), read.predictions, groups, group_resamples(groups)
    )[0]
    assert number[0] > 0.9
    assert number[2] > 0.9
    assert number[3] < 0.05
    assert read.probes.penalty[3] > read.probes.penalty[0]  # noise is shrunk away


def test_least_squares_tells_classes_apart_as_well_as_logistic_regression(made):
    x, y, _groups, folds = made
    z = (x - x.mean(0)) / x.std(0)
    mine = cross_validate(x, y, folds).predictions[:, 2]
    theirs = np.empty(N)
    for fold in range(3):
        theirs[folds == fold] = (
            LogisticRegression()
            .fit(z[folds != fold], y[folds != fold, 2])
            .decision_function(z[folds == fold])
        )
    assert roc_auc_score(y[:, 2], mine) == pytest.approx(roc_auc_score(y[:, 2], theirs), abs=0.01)


def test_auroc_and_r2_equal_scikit_learns_in_every_resample(made):
    _, y, groups, _ = made
    rng = np.random.default_rng(3)
    classes = np.array([False, False, True, False])
    draws = group_resamples(groups)
    read = (np.nan_to_num(y) + rng.normal(size=y.shape)).astype(np.float32)
    found = decoding_scores(y, classes, read, groups, draws)
    for r in (0, 1, 77):
        weights = draws[r][groups]
        for k in range(4):
            kept = np.isfinite(y[:, k]) & (weights > 0)
            metric = roc_auc_score if classes[k] else r2_score
            assert found[r, k] == pytest.approx(
                metric(y[kept, k], read[kept, k], sample_weight=weights[kept]), abs=0.5 / AUROC_BINS
            )
    ties = decoding_scores(y, classes, np.zeros_like(read), groups, draws)[0]
    assert ties[2] == 0.5


def test_the_best_baseline_is_subtracted_in_every_resample():
    draws = np.array([[0.9, 0.4], [0.8, 0.5]])
    baselines = np.array([[[0.5, 0.6], [0.7, 0.1]], [[0.6, 0.2], [0.6, 0.2]]])
    gain, best = gain_over_best(draws, baselines)
    np.testing.assert_allclose(gain, [[0.3, -0.2], [0.1, 0.3]])
    assert best.tolist() == [1, 0]


def test_a_control_task_has_one_value_by_layout_and_can_be_memorised(made):
    x, y, groups, _folds = made
    made_up = control_labels(y, groups, 0)
    for k in range(4):
        known = np.isfinite(y[:, k])
        assert np.array_equal(np.isfinite(made_up[:, k]), known)
        assert all(len(np.unique(made_up[known & (groups == g), k])) == 1 for g in range(GROUPS))
        assert set(made_up[known, k]) <= set(y[known, k])
    assert not np.array_equal(made_up, control_labels(y, groups, 1), equal_nan=True)
    marker = np.eye(GROUPS, dtype=np.float32)[groups]
    memorised = decoding_scores(
        made_up,
        np.array([False] * 4),
        cross_validate(marker, made_up, np.arange(N) % 3).predictions,
        groups,
        group_resamples(groups),
    )[0]
    honest = decoding_scores(
        made_up,
        np.array([False] * 4),
        cross_validate(x, made_up, np.arange(N) % 3).predictions,
        groups,
        group_resamples(groups),
    )[0]
    assert memorised[0] > 0.9 > 0.3 > honest[0]
