"""Intervals by level: right for independent levels, wide where episodes of a level agree, and right as often
as they claim.
"""

import numpy as np
import pytest

from common.stats import cluster_bootstrap


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


def test_nothing_cannot_be_averaged():
    with pytest.raises(ValueError, match="zero episodes"):
        cluster_bootstrap(np.zeros(0), np.zeros(0))
