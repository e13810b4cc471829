"""Lagged correlations equal a brute-force loop, find planted lags, and call nothing a discovery that a null
explains.
"""

import numpy as np
import pytest

from common.runs import UsageError
from interpret.lagged import (
    NULLS,
    discoveries,
    hypothesis_mask,
    lagged_correlations,
    pairing_surrogate,
    shift_surrogate,
)

LAGS = 5


def lengths(episodes: int = 120, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(8, 40, episodes)


def slow(length, count: int = 3, seed: int = 1) -> np.ndarray:
    """Independent autoregressive scores [n, count] that start independently in every episode."""
    rng = np.random.default_rng(seed)
    out = rng.normal(size=(length.sum(), count))
    opens = np.zeros(len(out), bool)
    opens[np.cumsum(length) - length] = True
    for row in range(1, len(out)):
        if not opens[row]:
            out[row] += 0.9 * out[row - 1]
    return out


def steps(length) -> np.ndarray:
    return np.concatenate([np.arange(T) for T in length])


def by_hand(scores, length, lags, member):
    """Pairs picked one by one, and numpy's own correlation of each two columns."""
    first = np.cumsum(length) - length
    K = scores.shape[1]
    out = np.empty((lags + 1, K, K))
    for lag in range(lags + 1):
        rows = [at + t for at, T in zip(first, length) for t in range(T - lag) if member[at + t]]
        for i in range(K):
            for j in range(K):
                out[lag, i, j] = np.corrcoef(scores[rows, i], scores[np.add(rows, lag), j])[0, 1]
    return out


def test_correlations_equal_a_brute_force_loop():
    length = lengths(40)
    scores = slow(length) * [1, 100, 1e-3] + [0, 50, 7]
    member = np.random.default_rng(2).random(len(scores)) < 0.4
    for chosen in (np.ones(len(scores), bool), member):
        found = lagged_correlations(scores, length, LAGS, chosen, draws=20)
        np.testing.assert_allclose(found.correlation, by_hand(scores, length, LAGS, chosen), atol=1e-9)
    whole = lagged_correlations(scores, length, LAGS, draws=20)
    assert whole.pairs.tolist() == [int(np.maximum(length - lag, 0).sum()) for lag in range(LAGS + 1)]
    assert whole.episodes == 40
    assert np.allclose(np.diagonal(whole.correlation[0]), 1)


def test_a_correlation_depends_on_neither_offset_nor_scale_nor_the_number_of_scores():
    """Defect 17 of the original system: products were divided by the number of components, uncentred."""
    length = lengths(40)
    scores = slow(length)
    plain = lagged_correlations(scores, length, LAGS, draws=20).correlation
    moved = lagged_correlations(7 * scores + [30, -5, 1], length, LAGS, draws=20).correlation
    np.testing.assert_allclose(moved, plain, atol=1e-9)
    more = lagged_correlations(np.concatenate([scores, slow(length, seed=9)], 1), length, LAGS, draws=20)
    np.testing.assert_allclose(more.correlation[:, :3, :3], plain, atol=1e-9)
    assert np.abs(plain).max() <= 1 + 1e-9
    uncentred = (scores + 30).T @ (scores + 30) / 3
    assert np.abs(uncentred).max() > 1000


def test_a_null_correlates_the_rows_of_its_surrogate():
    length = lengths(30)
    scores = slow(length)
    for null, surrogate in NULLS.items():
        rng = np.random.default_rng([0, list(NULLS).index(null)])
        drawn = []
        for _ in range(20):
            rows = surrogate(length, rng)
            mine = np.full((LAGS + 1, 3, 3), np.nan)
            first = np.cumsum(length) - length
            for lag in range(LAGS + 1):
                early = np.array(
                    [
                        at + t
                        for at, T in zip(first, length)
                        for t in range(T - lag)
                        if rows[at + t + lag] >= 0
                    ]
                )
                mine[lag] = np.corrcoef(scores[early].T, scores[rows[early + lag]].T)[:3, 3:]
            drawn.append(mine)
        found = lagged_correlations(scores, length, LAGS, nulls=(null,), draws=20)
        np.testing.assert_allclose(found.mean[null], np.mean(drawn, 0), atol=1e-9)
        np.testing.assert_allclose(found.std[null], np.std(drawn, 0, ddof=1), atol=1e-9)


def test_a_planted_lag_is_found_with_its_direction():
    length = lengths()
    scores = slow(length, 4)
    first = np.repeat(np.cumsum(length) - length, length)
    t = steps(length)
    source = np.arange(len(scores)) - 3
    scores[:, 1] = (
        np.where(t >= 3, scores[source, 0], np.random.default_rng(4).normal(size=len(t))) + 0.3 * scores[:, 1]
    )
    found = lagged_correlations(scores, length, LAGS, draws=99)
    assert (source[t >= 3] >= first[t >= 3]).all()  # planted within episodes
    assert np.abs(found.correlation[:, 0, 1]).argmax() == 3
    assert found.correlation[3, 0, 1] > 0.8
    stands = discoveries(found.p, 0.05)
    assert stands[:, 0, 1].all()
    assert stands[1:, 1, 0].any()
    others = ~np.isin(np.arange(4), (0, 1))
    assert stands[:, others].mean() < 0.05
    assert stands[:, :, others].mean() < 0.05
    white = scores - 0.9 * np.where((t > 0)[:, None], np.roll(scores, 1, 0), 0)
    sharp = discoveries(lagged_correlations(white, length, LAGS, draws=99).p, 0.05)
    assert sharp[:, 0, 1].tolist() == [False, False, False, True, False, False]
    assert not sharp[1:, 1, 0].any()


def test_pairs_never_cross_the_end_of_an_episode():
    length = np.full(60, 10)
    scores = np.random.default_rng(0).normal(size=(600, 2))
    for begin in range(10, 600, 10):
        scores[begin : begin + 3, 1] = 5 * scores[begin - 3 : begin, 0]
    found = lagged_correlations(scores, length, 3, draws=20)
    assert abs(found.correlation[3, 0, 1]) < 0.12
    assert np.corrcoef(scores[:-3, 0], scores[3:, 1])[0, 1] > 0.4  # what a flat count would have claimed


def test_independent_scores_give_no_discoveries_though_permuting_steps_would():
    length = lengths(60)
    low = []
    claimed = []
    for seed in range(12):
        scores = slow(length, 3, seed)
        found = lagged_correlations(scores, length, LAGS, draws=60, seed=seed)
        low += (found.p[np.isfinite(found.p)] < 0.05).tolist()
        n = found.pairs[:, None, None]
        known = hypothesis_mask(LAGS + 1, 3)
        claimed += (np.abs(found.correlation * np.sqrt(n)) > 1.96)[
            known
        ].tolist()  # the null of steps in random order
        assert not discoveries(found.p, 0.05).any()
    assert np.mean(low) < 0.06
    assert np.mean(claimed) > 0.25


@pytest.mark.parametrize("null", NULLS)
def test_each_null_alone_keeps_its_level(null):
    length = lengths(60)
    low = []
    for seed in range(12):
        found = lagged_correlations(slow(length, 3, seed), length, LAGS, nulls=(null,), draws=60, seed=seed)
        low += found.p[np.isfinite(found.p)].tolist()
    assert 0.02 < np.mean(np.array(low) < 0.05) < 0.09
    assert 0.4 < np.median(low) < 0.6


def test_each_null_explains_what_it_keeps_and_only_both_together_are_safe():
    length = lengths()
    rng = np.random.default_rng(3)
    scores = slow(length, 2)
    t = steps(length)
    ramp = scores + np.exp(-t / 4)[:, None] * 6  # what every episode does at its beginning
    whole = (
        scores + np.repeat(4 * rng.normal(size=len(length)), length)[:, None]
    )  # what sets whole episodes apart
    for made, explains, fooled in ((ramp, "pairing", "shift"), (whole, "shift", "pairing")):
        assert not discoveries(
            lagged_correlations(made, length, LAGS, nulls=(explains,), draws=60).p, 0.05
        ).any()
        assert (
            discoveries(lagged_correlations(made, length, LAGS, nulls=(fooled,), draws=60).p, 0.05).sum() > 5
        )
        assert not discoveries(lagged_correlations(made, length, LAGS, draws=60).p, 0.05).any()


def test_a_correlation_between_two_nulls_is_not_significant():
    length = lengths(400)
    rng = np.random.default_rng(8)
    whole = np.repeat(rng.normal(size=len(length)), length)
    ramp = np.exp(-steps(length) / 6) * 4
    a, b = (rng.normal(size=len(ramp)) * 0.3 for _ in range(2))
    scores = np.stack(
        [whole + ramp + a, whole - ramp + b], 1
    )  # shift expects more than there is, pairing less
    both = lagged_correlations(scores, length, 1, draws=40)
    assert both.mean["pairing"][0, 0, 1] < both.correlation[0, 0, 1] < both.mean["shift"][0, 0, 1]
    assert all(
        lagged_correlations(scores, length, 1, nulls=(null,), draws=40).p[0, 0, 1] < 1e-6 for null in NULLS
    )
    assert both.p[0, 0, 1] == 1


def test_a_cluster_is_measured_on_its_own_members():
    length = lengths()
    scores = slow(length, 2)
    rng = np.random.default_rng(5)
    sign = rng.choice([-1, 1], len(length)).repeat(length)
    scores[:, 1] = sign * scores[:, 0] + 0.3 * scores[:, 1]
    for side in (-1, 1):
        found = lagged_correlations(scores, length, LAGS, sign == side, draws=60)
        assert side * found.correlation[0, 0, 1] > 0.8
        assert discoveries(found.p, 0.05)[0, 0, 1]
        assert found.episodes == len(np.unique(np.repeat(np.arange(len(length)), length)[sign == side]))
    assert abs(lagged_correlations(scores, length, LAGS, draws=20).correlation[0, 0, 1]) < 0.3
    count = (sign == 1).sum()
    # as many episodes, but not the group's own
    of_the_first = lagged_correlations(scores, length, LAGS, np.arange(len(sign)) < count, draws=20)
    assert of_the_first.correlation[0, 0, 1] < 0.4


def test_surrogates_are_a_circular_shift_and_another_episode_at_the_same_step():
    length = np.concatenate([lengths(50), [1, 1]])
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(52), length)
    t = steps(length)
    rows = shift_surrogate(length, rng)
    assert (episode[rows] == episode).all()
    assert len(np.unique(rows)) == len(rows)
    assert (rows != np.arange(len(rows)))[length[episode] > 1].all()
    turned = (t[rows] - t) % length[episode]
    assert all(len(set(turned[episode == e])) == 1 for e in range(52))
    rows = pairing_surrogate(length, rng)
    there = rows >= 0
    assert (episode[rows[there]] != episode[there]).all()
    assert (t[rows[there]] == t[there]).all()
    assert there.mean() > 0.85
    partner = [set(episode[rows[(episode == e) & there]]) for e in range(52)]
    assert all(len(found) == 1 for found in partner)
    assert len(set.union(*partner)) == 52


def test_constant_scores_have_no_correlation():
    length = lengths(30)
    scores = slow(length, 3)
    scores[:, 1] = 0.1
    found = lagged_correlations(scores, length, LAGS, draws=20)
    assert np.isnan(found.correlation[:, 1]).all()
    assert np.isnan(found.correlation[:, :, 1]).all()
    assert np.isnan(found.p[:, 0, 1]).all()
    assert np.isfinite(found.p[1, 0, 2])
    assert np.isnan(found.p[0, 2, 0])
    assert np.isnan(found.p[1, 0, 0])


def test_discoveries_follow_benjamini_and_hochberg():
    p = np.array([0.001, 0.012, 0.035, 0.021, 0.9, np.nan, 0.2])
    ranked = np.sort(p[np.isfinite(p)])
    last = max(i for i, value in enumerate(ranked) if value <= 0.05 * (i + 1) / 6)
    assert (
        discoveries(p, 0.05).tolist()
        == (p <= ranked[last]).tolist()
        == [True, True, False, True, False, False, False]
    )
    assert discoveries(p, 0.10).sum() > discoveries(p, 0.05).sum()
    assert not discoveries(np.full(3, np.nan), 0.1).any()


def test_bad_input_is_refused_in_one_line():
    length = lengths(30)
    scores = slow(length)
    with pytest.raises(UsageError, match="too few for lagged correlations: 10 episodes"):
        lagged_correlations(scores, length, LAGS, np.repeat(np.arange(30) < 10, length))
    with pytest.raises(UsageError, match="at least 20"):
        lagged_correlations(scores, length, LAGS, draws=5)
    scores[3] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        lagged_correlations(scores, length, LAGS)
    with pytest.raises(ValueError, match="do not fit"):
        lagged_correlations(scores[1:], length, LAGS)
