"""The report card's statistics against sums done by hand, the library's bootstrap, and scores with known
answers.
"""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from analysis.model_eval.agent_view import (
    cosine_similarity,
    decision_steps,
    explained_variance,
    fit_whitener,
    kappa,
    total_variation,
)
from analysis.model_eval.outcome_scores import calibration_report
from analysis.model_eval.report_card_scores import window_ratio
from analysis.model_eval.report_card_targets import (
    TARGETS,
    Statistic,
    Target,
    asked,
    generalization_gap,
    is_reached,
    paired_rows,
    share_of_ceiling,
    target_rows,
)
from common.stats import cluster_bootstrap, json_estimate, level_weights, sign_flip_test
from envs.vecenv import class_probabilities
from interpret.classification_scores import (
    calibration_scores,
    decile_calibration,
    end_probability,
    ranking_scores,
)
from interpret.psnr import pooled_psnr

RNG = np.random.default_rng(0)


def test_intervals_are_those_of_the_bootstrap_by_level():
    levels = np.repeat(np.arange(30), 5)
    values = RNG.normal(size=30)[levels] + 0.1 * RNG.normal(size=150)
    found = json_estimate(window_ratio(level_weights(levels, resamples=2000), values, np.ones(150)), 150)
    expected = cluster_bootstrap(values, levels)
    assert found["value"] == pytest.approx(expected.mean)
    assert found["n"] == 150
    assert found["low"] == pytest.approx(expected.low, abs=0.03)
    assert found["high"] == pytest.approx(expected.high, abs=0.03)
    naive = json_estimate(window_ratio(level_weights(np.arange(150)), values, np.ones(150)), 150)
    assert naive["high"] - naive["low"] < 0.7 * (
        found["high"] - found["low"]
    )  # windows of a level are not independent


def test_weights_repeat_with_the_seed_and_draw_whole_levels():
    levels = np.array([3, 3, 8, 8, 8, 1])
    weights = level_weights(levels, resamples=50)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[1:, [0, 2, 5]].sum(1) == 3).all()
    assert (level_weights(levels, seed=1)[1:] != level_weights(levels)[1:]).any()
    assert (level_weights(levels) == level_weights(levels)).all()
    with pytest.raises(ValueError, match="zero"):
        level_weights(np.zeros(0))


def test_psnr_pools_errors_and_what_does_not_count_does_not_enter():
    error = np.array([[0.01, 0.09, 5.0]])
    alive = np.array([[1, 1, 0]])
    assert pooled_psnr(np.ones((1, 3)), error, alive)[0, 0] == pytest.approx(-10 * np.log10(0.05))
    assert pooled_psnr(np.ones((1, 3)), error, alive)[0, 0] != pytest.approx(
        np.mean(-10 * np.log10([0.01, 0.09]))
    )
    assert (
        json_estimate(pooled_psnr(np.ones((3, 3)), np.zeros((1, 3)), alive)[:, 0], 2)["value"] is None
    )  # infinite: not a number for JSON


def test_probabilities_are_summed_over_actions_of_one_effect():
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(class_probabilities(logits, (0, 1, 1, 0)), [0.5, 0.5])
    assert total_variation(np.array([0.5, 0.5]), np.array([0.9, 0.1])) == pytest.approx(0.4)


def test_kappa_is_one_for_the_same_choices_zero_for_the_majority_and_below_for_worse():
    real = np.array([[0, 0, 0, 1, 2, 0, 1, 0]])
    counts = np.ones_like(real, bool)
    weights = np.ones((1, 8))

    def of(choice):
        return kappa(weights, choice == real, real, counts, 3)[0, 0]

    assert of(real) == 1
    assert of(np.zeros_like(real)) == 0
    assert of(np.full_like(real, 2)) < 0
    counts[0, :3] = False
    assert kappa(weights, (real == 0), real, counts, 3)[0, 0] == pytest.approx(
        0
    )  # of five steps, two each of 0 and 1


def test_decision_steps_are_near_a_hazard_or_of_an_uncommon_act():
    taken = np.array([[7, 7, 8, 8, 1], [7, 7, 8, 1, 7]])
    alive = np.ones((2, 5), bool)
    near = np.zeros((2, 5), bool)
    alive[1, 3], near[0, 0] = False, True
    assert np.argwhere(decision_steps(taken, alive, near)).tolist() == [[0, 0], [0, 4]]


def test_whitening_makes_every_direction_count_alike():
    hidden = RNG.normal(size=(4000, 4)) * [10, 1, 0.1, 1e-9] + 5
    white = fit_whitener(hidden)(hidden)
    assert white.shape[1] == 3  # the direction without variance is left out
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-6)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-8)
    assert cosine_similarity(white[0], white[0]) == pytest.approx(1)
    assert cosine_similarity(white[0], -white[0]) == pytest.approx(-1)
    assert cosine_similarity(white[0], 0 * white[0]) == 0
    one = np.ones((1, 4000))
    spread = ((hidden - hidden.mean(0)) ** 2).sum(-1)[None]
    assert explained_variance(one, 0 * spread, spread, one > 0)[0, 0] == 1
    assert explained_variance(one, spread, spread, one > 0)[0, 0] == pytest.approx(0)


def test_ranking_agrees_with_the_library_and_shuffled_outcomes_are_a_coin_toss():
    score = RNG.random(600).round(2)  # with ties
    window = np.repeat(np.arange(100), 6)
    happened = RNG.random(600) < score**2
    counts = np.ones(600, bool)
    weights = level_weights(np.arange(100))
    found = ranking_scores(weights, score, happened, counts, window)
    for row in (0, 1, 7):
        drawn = weights[row, window]
        assert found["auroc"][row] == pytest.approx(roc_auc_score(happened, score, sample_weight=drawn))
        assert found["auprc"][row] == pytest.approx(
            average_precision_score(happened, score, sample_weight=drawn)
        )
    assert (
        abs(ranking_scores(weights, score, RNG.permutation(happened), counts, window)["auroc"][0] - 0.5)
        < 0.07
    )
    assert ranking_scores(weights, happened.astype(float), happened, counts, window)["auroc"][0] == 1
    assert np.isnan(ranking_scores(weights, score, happened & False, counts, window)["auroc"]).all()


def test_calibration_knows_honest_probabilities_from_overstated_ones():
    predicted = RNG.random(4000)
    happened = RNG.random(4000) < predicted
    weights = np.ones((1, 4000))
    honest = calibration_scores(weights, predicted, happened)
    overstated = calibration_scores(weights, predicted**0.3, happened)
    assert honest["ece"][0] < 0.03 < 0.1 < overstated["ece"][0]
    assert honest["brier_skill"][0] > overstated["brier_skill"][0]
    assert sum(row["n"] for row in honest["bins"]) == 4000
    assert calibration_scores(weights, np.full(4000, happened.mean()), happened)["brier_skill"][
        0
    ] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(end_probability(np.array([[0.5, 0.0], [0.5, 0.0]])), [0.75, 0.0])


def test_calibration_by_tenths_is_that_of_a_loop():
    predicted = RNG.random((5, 60))
    happened = RNG.random((5, 60)) < predicted
    counts = RNG.random((5, 60)) < 0.8
    weights = level_weights(np.repeat(np.arange(20), 3), 6)
    found = decile_calibration(weights, predicted, happened, counts)
    for row, weight in enumerate(weights):
        gap = total = 0.0
        for i in range(10):
            rows = counts & (predicted >= i / 10) & (predicted < (i + 1) / 10)
            assert found["n"][i] == rows.sum()
            drawn = np.broadcast_to(weight, rows.shape)[rows]
            assert found["predicted"][row, i] == pytest.approx(np.average(predicted[rows], weights=drawn))
            assert found["observed"][row, i] == pytest.approx(np.average(happened[rows], weights=drawn))
            gap += abs(drawn @ predicted[rows] - drawn @ happened[rows])
            total += drawn.sum()
        assert found["ece"][row] == pytest.approx(gap / total)
        drawn = np.broadcast_to(weight, counts.shape)[counts]
        assert found["ratio"][row] == pytest.approx(drawn @ predicted[counts] / (drawn @ happened[counts]))


def test_calibration_by_tenths_knows_overstated_probabilities_and_takes_the_last_tenth_to_one():
    predicted = RNG.random((20, 400)) * 0.3
    happened = RNG.random((20, 400)) < predicted
    every = np.ones((20, 400), bool)
    honest, overstated = (
        decile_calibration(np.ones((1, 400)), p, happened, every) for p in (predicted, 3 * predicted)
    )
    assert honest["ratio"][0] == pytest.approx(1, abs=0.1)
    assert overstated["ratio"][0] == pytest.approx(3, abs=0.3)
    assert honest["ece"][0] < 0.02 < 0.2 < overstated["ece"][0]
    certain = decile_calibration(
        np.ones((1, 2)), np.array([[1.0, 0.0]]), np.array([[1, 0]]), np.ones((1, 2), bool)
    )
    assert certain["n"].tolist() == [1, *[0] * 8, 1]
    assert certain["ece"][0] == 0
    nothing = decile_calibration(np.ones((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)), np.ones((1, 2), bool))
    assert np.isnan(nothing["ratio"][0])


def test_death_is_an_end_without_a_coin_on_own_and_on_real_pictures():
    n = 200
    done = RNG.random((3, n)) < 0.5
    coin = done & (RNG.random((3, n)) < 0.5)
    right = {"done_prob/open_loop": done.astype(float), "reward_prob/open_loop": coin.astype(float)}
    swapped = {"done_prob/one_step": done.astype(float), "reward_prob/one_step": (done & ~coin).astype(float)}
    a = {"alive": np.ones((3, n), bool), "done": done, "coin": coin} | right | swapped
    weights = level_weights(np.arange(n), 20)
    found = {name: calibration_report(a, weights, name) for name in ("open_loop", "one_step")}
    assert {scores["ece"]["value"] for scores in found["open_loop"].values()} == {0.0}
    assert found["open_loop"]["death"]["happened"] == (done & ~coin).sum()
    assert found["open_loop"]["coin_given_end"]["ece"]["n"] == done.sum()
    assert found["one_step"]["end"]["ece"]["value"] == 0
    for outcome in ("death", "coin"):
        assert found["one_step"][outcome]["ece"]["value"] == pytest.approx(done.mean())
    assert found["one_step"]["coin_given_end"]["ece"]["value"] == 1


def test_the_sign_flip_test_finds_a_shift_and_nothing_else():
    levels = np.repeat(np.arange(40), 3)
    noise = RNG.normal(size=(2, 120))
    p = sign_flip_test(noise + [[1.0], [0.0]], levels)
    assert p[0] < 0.01 < 0.05 < p[1]


def test_a_target_is_reached_from_its_own_side():
    number = {"value": 2.0, "low": 1.0, "high": 3.0, "n": 5}
    assert is_reached(Target("", "", "dB", least=1.5), number)
    assert not is_reached(Target("", "", "dB", most=1.5), number)
    assert is_reached(Target("", "", "dB", least=1.5), number | {"value": None}) is None
    rows = {row["key"]: row for row in target_rows({"in_view": number | {"value": 25.0}})}
    assert list(rows) == [target.key for target in TARGETS]
    assert (rows["in_view"]["asked"], rows["in_view"]["reached"]) == ("≥ 24 dB", True)
    assert (rows["one_step"]["n"], rows["one_step"]["reached"]) == (0, None)


def test_a_target_on_the_interval_is_missed_by_an_interval_that_sticks_out():
    (ratio,) = (target for target in TARGETS if target.key == "death_ratio")
    (slope,) = (target for target in TARGETS if target.key == "deletion_slope")
    inside = {"value": 1.0, "low": 0.6, "high": 1.9, "n": 5}
    assert asked(ratio) == "0.7 to 1.4, interval within 0.5 to 2"
    assert asked(slope) == "0.7 to 1.3, interval above 0.4"
    assert is_reached(ratio, inside)
    assert not is_reached(ratio, inside | {"high": 2.1})
    assert not is_reached(ratio, inside | {"low": 0.4})
    assert not is_reached(ratio, inside | {"value": 1.5})
    assert is_reached(slope, inside | {"high": 9.0})
    assert not is_reached(slope, inside | {"low": 0.3})
    assert not is_reached(ratio, inside | {"low": None, "high": None})


def test_a_share_of_a_ceiling_that_is_nothing_is_undefined():
    share = share_of_ceiling(np.array([0.4, 0.4, 0.4]), np.array([0.8, 0.0, -0.1]))
    assert share[0] == 0.5
    assert np.isnan(share[1:]).all()


def test_paired_intervals_are_those_of_the_differences_and_tighter_than_of_unpaired_ones():
    levels = np.repeat(np.arange(40), 3)
    common = 5 * RNG.normal(size=40)[levels]
    weights = level_weights(levels, resamples=500)
    values = [common + RNG.normal(0, 0.1, 120) for _ in range(2)]
    values[1] += 0.3
    one, two = (
        {"in_view": Statistic(window_ratio(weights, x, np.ones(120)), 120), "other": None} for x in values
    )
    (row,) = paired_rows(one, two)
    direct = json_estimate(window_ratio(weights, values[1] - values[0], np.ones(120)), 120)
    assert row["difference"] == pytest.approx(direct)
    assert 0.2 < row["difference"]["low"] < 0.3 < row["difference"]["high"] < 0.4
    assert row["first"]["high"] - row["first"]["low"] > 10 * (direct["high"] - direct["low"])
    assert paired_rows(one, {}) == []


def test_memorisation_is_the_largest_gap_in_favour_of_training_levels():
    def part(*values):
        steps = [{"value": 0.0, "low": -1.0, "high": 1.0, "n": 9}] * 11
        for step, value in zip((1, 5, 10), values):
            steps[step] = {"value": value, "low": value - 3, "high": value + 4, "n": 9}
        return {"frames": {"seen": {"open_loop": steps}}}

    gap = generalization_gap(part(20, 18, 15), part(21, 22, 14))
    assert gap["value"] == 4
    assert gap["low"] == pytest.approx(4 - 5)
    assert gap["high"] == pytest.approx(4 + 5)
