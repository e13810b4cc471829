"""What responds is found among planted changes, and a change that the control makes too is no response."""

import numpy as np
import pytest

from analysis.counterfactuals.edit_summary import responding, summarize_changes
from analysis.counterfactuals.interchange_summary import QUANTITIES, summarize

LAYOUTS = np.arange(300)
NAMES = ("up", "down", "shared", "nothing")


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(2, 300, 4))
    return noise[0] + [1.0, -0.6, 0.5, 0.0], noise[1] + [0.0, 0.0, -0.5, 0.0]


def test_planted_responses_are_found_with_their_signs_and_in_order():
    found = summarize_changes(*planted(), NAMES, LAYOUTS)
    assert responding(found) == ["up", "down"]
    assert found["up"]["edit"][0] == pytest.approx(1, abs=0.2)
    assert found["down"]["edit"][2] < 0
    assert found["down"]["lead"][1] > 0


def test_what_the_control_moves_as_much_does_not_respond():
    found = summarize_changes(*planted(), NAMES, LAYOUTS)
    assert found["shared"]["edit"][1] > 0
    assert not found["shared"]["responds"]


def test_nothing_responds_by_chance_much_more_often_than_it_should():
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = summarize_changes(rng.normal(size=(80, 1)), rng.normal(size=(80, 1)), ("x",), np.arange(80))
        hits += found["x"]["responds"]
    assert hits <= 9


def test_intervals_are_by_layout():
    found = summarize_changes(*planted(), NAMES, np.zeros(300))
    assert found["up"]["edit"][0] == found["up"]["edit"][1] == found["up"]["edit"][2]


def test_patches_are_summarised_by_site_step_and_donor():
    """Two sites, three steps: the first restores a half at the last step, the second nothing."""
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(2, 300))
    own = np.zeros((2, 3, 2, 300))
    own[0, 2] = 0.5 * whole
    other = rng.normal(size=own.shape)
    numbers = summarize({"own": own, "other": other, "whole": whole}, ["a", "b"], LAYOUTS)
    assert numbers["steps_back"] == [2, 1, 0]
    for quantity in QUANTITIES:
        restored = numbers["restored"][quantity]
        assert restored["own"]["a"][2] == pytest.approx([0.5, 0.5, 0.5])
        assert restored["own"]["a"][1] == restored["own"]["b"][2] == [0, 0, 0]
        value, low, high = restored["other"]["a"][2]
        assert low < 0 < high
        assert abs(value) < 0.2
    assert numbers["difference"]["jump"]["size"][0] == pytest.approx(np.abs(whole[0]).mean())
