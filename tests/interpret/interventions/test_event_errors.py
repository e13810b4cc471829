"""Errors of an event classifier: planted ones are recovered, and effects are corrected for them."""

import numpy as np
import pytest

from common.stats import estimate, level_weights, mean
from interpret.interventions.event_errors import confusion_table, correct

ERRORS = np.array([[0.7, 0.1, 0.2], [0.05, 0.8, 0.15], [0.1, 0.02, 0.88]])
"""[true, recognised] of death, coin, none."""
BASE = np.array([0.2, 0.1, 0.7])
EDITED = np.array([0.08, 0.13, 0.79])


def drawn(rng: np.random.Generator, shares: np.ndarray, count: int) -> np.ndarray:
    """One-hot outcomes [3, M]."""
    return np.eye(3)[rng.choice(3, count, p=shares)].T


def recognised(rng: np.random.Generator, actual: np.ndarray) -> np.ndarray:
    """What the classifier makes of outcomes [3, M]."""
    return np.eye(3)[[rng.choice(3, p=ERRORS[i]) for i in actual.argmax(0)]].T


def planted(seed: int, count: int = 600):
    """Outcomes in the game, these as recognised, and the change under the edit as the simulator has it."""
    rng = np.random.default_rng(seed)
    actual = drawn(rng, BASE, count)
    control, edited = (recognised(rng, drawn(rng, shares, count)) for shares in (BASE, EDITED))
    return actual, recognised(rng, actual), edited - control


def test_the_table_of_planted_errors_is_found():
    actual, seen, _ = planted(0, 20_000)
    table = confusion_table(actual, seen, np.ones((1, 20_000)))[0]
    np.testing.assert_allclose(table, ERRORS, atol=0.02)


def test_exact_shares_are_corrected_exactly_and_by_the_transposed_table_they_are_not():
    change = (EDITED - BASE)[None]
    np.testing.assert_allclose(correct(change @ ERRORS, ERRORS[None]), change, atol=1e-12)
    assert np.abs(correct(change @ ERRORS, ERRORS.T[None]) - change).max() > 0.01


def test_a_classifier_without_errors_changes_nothing():
    change = np.array([[-0.1, 0.02, 0.08]])
    np.testing.assert_array_equal(correct(change, np.eye(3)[None]), change)


def test_corrected_intervals_cover_the_true_effect_and_raw_ones_do_not():
    covered = {"corrected": 0, "raw": 0}
    repeats = 200
    weights = level_weights(np.arange(600), 200)
    for seed in range(repeats):
        actual, seen, change = planted(seed)
        raw = np.stack([mean(weights, one) for one in change], 1)
        fixed = correct(raw, confusion_table(actual, seen, weights))
        for name, found in (("raw", raw), ("corrected", fixed)):
            one = estimate(found[:, 0])
            covered[name] += one.low <= (EDITED - BASE)[0] <= one.high
    assert covered["corrected"] / repeats > 0.9
    assert covered["raw"] / repeats < 0.8


@pytest.mark.parametrize(
    "table", [np.full((3, 3), 1 / 3), np.array([[np.nan] * 3, *np.eye(3)[1:]])], ids=["blind", "unseen"]
)
def test_what_the_classifier_cannot_tell_apart_is_undefined(table):
    both = np.stack([np.eye(3), table])
    found = correct(np.tile([0.1, 0.0, -0.1], (2, 1)), both)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_an_outcome_that_did_not_take_place_has_no_row():
    actual = np.eye(3)[[0, 2, 2]].T
    table = confusion_table(actual, actual, np.ones((1, 3)))[0]
    assert np.isnan(table[1]).all()
    np.testing.assert_array_equal(table[[0, 2]], np.eye(3)[[0, 2]])
