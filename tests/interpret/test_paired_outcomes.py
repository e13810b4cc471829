"""Outcomes of paired runs against games that are played out, and on worlds whose answer is known."""

import numpy as np
import pytest

from common.stats import level_weights
from interpret.forks.paired_outcomes import (
    equal_outcomes,
    mismatched_outcomes,
    outcome_probabilities,
    outcome_table,
    rate_ratios,
    rates_by_step,
    time_to_event,
)
from interpret.forks.world_comparison import Runs

T, M, D = 8, 30, 4
RNG = np.random.default_rng(0)
ONE = np.ones((1, M))


def played(death=0.05, coin=0.05, seed=0) -> Runs:
    """Runs of a game in which each step ends in death or in a coin with these probabilities [...]."""
    rng = np.random.default_rng(seed)
    event = rng.random((T, M, D))
    died, won = event < death, (event >= death) & (event < death + np.asarray(coin))
    done = died | won
    before = np.concatenate([np.zeros((1, M, D), bool), done[:-1]]).cumsum(0) > 0
    return Runs((done & ~before).astype(float), (won & ~before).astype(float), ~before, *[None] * 4)


def expected(death=0.05, coin=0.05) -> Runs:
    """A simulator with the same rates, as probabilities."""
    done = np.broadcast_to(np.asarray(death + coin, float), (T, M, D))
    return Runs(
        done, np.broadcast_to(coin / (death + coin), (T, M, D)), np.ones((T, M, D), bool), *[None] * 4
    )


def walked(runs: Runs):
    """Outcome and time of each run by a loop."""
    for m in range(M):
        for d in range(D):
            ends = np.flatnonzero(runs.done[:, m, d] * runs.running[:, m, d])
            if len(ends):
                yield ("coin" if runs.coin[ends[0], m, d] else "death"), ends[0] + 1
            else:
                yield "none", None


def test_outcomes_of_played_runs_are_those_of_a_loop():
    runs = played()
    kinds = [kind for kind, _ in walked(runs)]
    found = outcome_probabilities(runs).reshape(3, -1)
    assert (found.sum(0) == 1).all()
    assert [("death", "coin", "none")[i] for i in found.argmax(0)] == kinds
    for event, mean_time in time_to_event(runs, ONE).items():
        assert mean_time[0] == pytest.approx(np.mean([t for kind, t in walked(runs) if kind == event]))
    rates = rates_by_step(runs, ONE)
    np.testing.assert_allclose(sum(rates.values()), 1)
    deaths_at_third = sum(kind == "death" and t == 3 for kind, t in walked(runs))
    reached = sum(t is None or t >= 3 for _, t in walked(runs))
    assert rates["death"][0, 2] == pytest.approx(deaths_at_third / reached)


def test_the_same_runs_have_equal_outcomes_and_rates():
    runs = played()
    weights = level_weights(np.arange(M), 50)
    assert equal_outcomes(runs, runs, weights) == pytest.approx(1)
    table = outcome_table(runs, runs, weights)
    assert not table[:, ~np.eye(3, dtype=bool)].any()
    for ratio in rate_ratios(runs, runs, weights).values():
        assert ratio[np.isfinite(ratio)] == pytest.approx(1)
    assert (mismatched_outcomes(runs, runs, ONE) < 0.9).all()


def test_what_happens_at_each_fork_point_is_told_from_base_rates():
    doomed = (np.arange(M) % 2 == 0)[:, None]
    game = played(np.where(doomed, 0.9, 0.0), 0.0)
    knows = expected(np.where(doomed, 0.9, 1e-9), 1e-12)
    guesses = expected(0.15, 1e-12)
    assert equal_outcomes(game, knows, ONE)[0] > 0.99
    assert mismatched_outcomes(game, knows, ONE)[0] < 0.01  # neighbours are of the other kind
    assert equal_outcomes(game, guesses, ONE) == pytest.approx(mismatched_outcomes(game, guesses, ONE))


def test_a_simulator_that_kills_three_times_as_often_has_a_ratio_of_three():
    game = expected(0.01, 0.02)
    ratios = rate_ratios(game, expected(0.03, 0.02), ONE)
    assert ratios["death"][0] == pytest.approx(3)
    assert ratios["coin"][0] == pytest.approx(1)
    assert np.isnan(rate_ratios(played(0.0, 0.05), game, ONE)["death"]).all()


def test_played_runs_have_the_expected_rates_and_times_within_chance():
    many = [played(0.04, 0.08, seed) for seed in range(40)]
    wide = Runs(
        *(np.concatenate([getattr(run, name) for run in many], 2) for name in ("done", "coin", "running")),
        *[None] * 4,
    )
    honest = expected(0.04, 0.08)
    assert (
        np.abs(outcome_probabilities(wide).mean((1, 2)) - outcome_probabilities(honest).mean((1, 2))).max()
        < 0.03
    )
    for event in ("death", "coin"):
        assert rates_by_step(wide, ONE)[event][0] == pytest.approx(
            rates_by_step(honest, ONE)[event][0], abs=0.02
        )
        assert time_to_event(wide, ONE)[event][0] == pytest.approx(
            time_to_event(honest, ONE)[event][0], abs=0.3
        )


def test_the_outcome_table_reads_the_game_by_rows():
    table = outcome_table(expected(1.0, 0.0), expected(1e-12, 1.0), ONE)[0]
    assert table[0, 1] == pytest.approx(1)
    assert table.sum() == pytest.approx(1)
