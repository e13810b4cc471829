"""The bootstrap by level: against a plain loop over levels, with its coverage, and one set of resamples."""

import numpy as np
import pytest

from common.stats import (
    FEWEST_CLUSTERS,
    Estimate,
    cluster_bootstrap,
    estimate,
    estimates,
    json_estimate,
    json_mean,
    level_counts,
    level_resamples,
    level_weights,
    mean,
    mean_by_level,
    percentile_interval,
    ratio,
    sign_flip_test,
)


def test_it_is_the_bootstrap_over_levels():
    """Against a plain loop that draws whole levels and averages their episodes."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 30, 200)
    values = rng.normal(size=200) + levels / 10
    given = cluster_bootstrap(values, levels, resamples=4000)
    names = np.unique(levels)
    means = []
    for _ in range(4000):
        drawn = np.concatenate([values[levels == level] for level in rng.choice(names, len(names))])
        means.append(drawn.mean())
    np.testing.assert_allclose(
        [given.mean, given.low, given.high], [values.mean(), *np.quantile(means, [0.025, 0.975])], atol=0.04
    )
    assert (given.n, given.clusters) == (200, len(names))


def test_repeats_of_a_level_are_no_new_evidence():
    rng = np.random.default_rng(1)
    once = rng.random(40)
    repeated = np.repeat(once, 25)
    level = np.repeat(np.arange(40), 25)
    narrow = cluster_bootstrap(repeated, np.arange(1000))
    honest = cluster_bootstrap(repeated, level)
    alone = cluster_bootstrap(once, np.arange(40))
    assert honest.high - honest.low == pytest.approx(alone.high - alone.low, rel=0.15)
    assert honest.high - honest.low > 3 * (narrow.high - narrow.low)


def test_it_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        level_effect = rng.normal(size=50)
        level = np.repeat(np.arange(50), 4)
        interval = cluster_bootstrap(
            level_effect[level] + rng.normal(size=200), level, seed=trial, resamples=400
        )
        hits += interval.low <= 0 <= interval.high
    assert 0.90 <= hits / 300 <= 0.98


def test_it_is_seeded():
    values, levels = np.random.default_rng(3).normal(size=(2, 50))
    assert (
        cluster_bootstrap(values, levels)
        == cluster_bootstrap(values, levels)
        != cluster_bootstrap(values, levels, seed=1)
    )


@pytest.mark.parametrize("levels", [FEWEST_CLUSTERS - 1, FEWEST_CLUSTERS])
def test_there_is_no_interval_over_fewer_than_five_levels(levels):
    values, level = np.arange(10.0), np.arange(10) % levels
    found, as_json = cluster_bootstrap(values, level), json_mean(values, level)
    assert (found.mean, as_json["mean"], as_json["clusters"]) == (4.5, 4.5, levels)
    if levels < FEWEST_CLUSTERS:
        assert np.isnan(found[1:3]).all()
        assert as_json["low"] is as_json["high"] is None
    else:
        assert as_json["low"] == found.low < 4.5 < found.high == as_json["high"]
    assert json_mean(np.append(values, np.nan), np.append(level, 99)) == as_json
    assert json_mean(np.full(3, np.nan), np.arange(3)) is None


def test_an_estimate_over_few_clusters_is_a_number_alone():
    statistic = np.arange(11.0)
    assert np.isnan(estimate(statistic, 4)[1:]).all()
    assert str(estimate(statistic, 4)) == "0.00"
    assert estimate(statistic, 5) == estimate(statistic)
    assert json_estimate(statistic, 7, 4) == {"value": 0.0, "low": None, "high": None, "n": 7}


def test_an_interval_over_few_levels_holds_the_truth_much_less_often_than_it_says():
    """Why there is none: the coverage over 4 levels is 80%."""
    values = np.random.default_rng(4).normal(size=(1000, 4))
    weights = level_weights(np.arange(4), 400)
    bounds = [percentile_interval(mean(weights, row)) for row in values]
    hits = sum(low <= 0 <= high for low, high in bounds)
    assert 0.75 < hits / 1000 < 0.85


def test_nothing_cannot_be_averaged():
    with pytest.raises(ValueError, match="zero episodes"):
        cluster_bootstrap(np.zeros(0), np.zeros(0))


@pytest.fixture
def clustered():
    """Values [300] that differ between 40 levels and hardly within them, and the level of each."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 40, 300)
    return rng.normal(size=40)[levels] + 0.1 * rng.normal(size=300), levels


def test_every_route_to_the_interval_of_a_mean_gives_the_same_numbers(clustered):
    values, levels = clustered
    expected = cluster_bootstrap(values, levels)[:3]
    assert estimate(mean(level_weights(levels), values)) == pytest.approx(expected)
    assert estimate(mean_by_level(values, levels)) == pytest.approx(expected)
    assert estimates(mean_by_level(values[:, None], levels))[0] == pytest.approx(expected)


def test_resampling_single_observations_underestimates_the_interval(clustered):
    values, levels = clustered
    by_level, by_row = (estimate(mean(level_weights(of), values)) for of in (levels, np.arange(300)))
    assert by_row.high - by_row.low < 0.6 * (by_level.high - by_level.low)


def test_weights_draw_whole_levels_and_the_first_row_is_the_data():
    levels = np.array([3, 3, 8, 8, 8, 1])
    weights = level_weights(levels, 50)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[1:, [0, 2, 5]].sum(1) == 3).all()


def test_the_random_stream_of_the_resamples_is_that_of_published_numbers():
    """The counts are numpy's multinomial from the seed, all at once or one after the other."""
    rng = np.random.default_rng([5, 3])
    one_by_one = [rng.multinomial(4, np.full(4, 1 / 4)) for _ in range(6)]
    assert (level_counts(4, 6, seed=[5, 3])[1:] == one_by_one).all()
    assert (level_counts(4, 6, seed=[5, 3]) != level_counts(4, 6, seed=[5, 4])).any()


def test_row_resamples_repeat_all_rows_of_a_level_drawn_twice():
    levels = np.array([7, 2, 7, 2, 9])
    rng = np.random.default_rng(4)
    rows_of = [[1, 3], [0, 2], [4]]
    for rows in level_resamples(levels, 5, seed=4):
        drawn = rng.integers(3, size=3)
        assert rows.tolist() == [row for level in drawn for row in rows_of[level]]


def test_no_observations_are_refused():
    with pytest.raises(ValueError, match="at least one observation, found zero"):
        level_weights(np.zeros(0))


def test_ratios_are_weighted_sums_over_weighted_sums():
    weights = np.array([[1.0, 1, 1], [0, 2, 1], [0, 0, 0]])
    quotient = ratio(weights, np.array([1.0, 2, 3]), np.array([2, 2, 0]))
    assert quotient[:2].tolist() == [3 / 4, 1.0]
    assert np.isnan(quotient[2])


def test_a_numerator_without_a_denominator_does_not_count():
    assert ratio(np.ones((1, 2)), np.array([1.0, np.nan]), np.array([2, 0])).tolist() == [0.5]


def test_ratios_take_observations_along_any_axis():
    rng = np.random.default_rng(1)
    weights = level_weights(np.arange(6), 9)
    numerator = rng.random((6, 4, 2))
    expected = ratio(weights, numerator, np.ones((6, 1, 1)))
    assert expected.shape == (10, 4, 2)
    moved = ratio(weights, np.moveaxis(numerator, 0, -1), np.ones(6), axis=-1)
    assert moved == pytest.approx(expected)


def test_percentiles_leave_undefined_resamples_out():
    statistic = np.arange(22.0).reshape(11, 2)
    statistic[[2, 5], 1] = np.nan, np.inf
    low, high = percentile_interval(statistic)
    assert (low[0], high[0]) == tuple(np.quantile(statistic[1:, 0], [0.025, 0.975]))
    finite = statistic[1:, 1][np.isfinite(statistic[1:, 1])]
    assert (low[1], high[1]) == tuple(np.quantile(finite, [0.025, 0.975]))
    assert np.isnan(percentile_interval(np.array([1.0, np.nan]))).all()


def test_an_estimate_reads_as_a_number_with_its_interval():
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert str(Estimate(np.nan, 0, 1)) == "undefined"
    assert estimate(np.array([1.0, np.nan, 2, 2])) == (1.0, 2.0, 2.0)


def test_json_has_none_where_a_number_is_undefined():
    assert json_estimate(np.array([np.inf, np.nan]), 3) == {"value": None, "low": None, "high": None, "n": 3}


def test_the_sign_flip_test_flips_whole_levels():
    """One level that repeats a difference a hundred times is one coin toss, not a hundred."""
    differences = np.ones((1, 100))
    assert sign_flip_test(differences, np.zeros(100))[0] == 1
    assert sign_flip_test(differences, np.arange(100))[0] < 0.01
