"""Numbers of the goal-misgeneralisation bench from planted runs: a seeker, a runner, and their difference."""

import numpy as np
import pytest

from analysis.counterfactuals.goal_figure import telling_level
from analysis.counterfactuals.goal_summary import MOVED, compare_agents, summarize_agent
from interpret.forks.coin_levels import VARIANTS
from interpret.forks.coin_play import COIN, DEATH, WALL

N = 200
LAYOUTS = np.arange(N).astype(str)
ON_WAY = np.arange(N) % 4 == 0
"""Levels whose moved coins lie on the way to the end."""


def planted(seeks: bool) -> dict[str, np.ndarray]:
    """Runs of an agent that gets every coin, or only those on its way; it dies in the last ten levels."""
    runs = {}
    for variant in VARIANTS:
        gets = (variant == "end") | ((variant in MOVED) & (ON_WAY | seeks))
        outcome = np.where(gets, COIN, WALL)
        outcome[-10:] = DEATH
        runs[f"{variant}.outcome"] = outcome
        runs[f"{variant}.wall_at"] = np.where(outcome == WALL, 50, -1)
        runs[f"{variant}.passed"] = np.stack([ON_WAY & (outcome != DEATH)] * len(MOVED), 1)
    return runs


@pytest.fixture(scope="module")
def runner():
    return planted(False)


def test_outcomes_are_shares_of_levels(runner):
    found = summarize_agent(runner, LAYOUTS)["outcomes"]
    assert found["end"]["coin"][0] == pytest.approx(0.95)
    assert found["removed"]["wall"][0] == pytest.approx(0.95)
    assert found["moved"]["death"][0] == pytest.approx(0.05)
    assert found["moved"]["coin"][0] == pytest.approx(ON_WAY[:-10].sum() / N)
    for one in found.values():
        assert sum(share[0] for share in one.values()) == pytest.approx(1)
        assert all(low <= value <= high for value, low, high in one.values())


def test_a_runner_does_not_pursue_and_a_seeker_does(runner):
    for variant in MOVED:
        assert summarize_agent(runner, LAYOUTS)["pursuit"][variant] == [0, 0, 0]
        value, low, high = summarize_agent(planted(True), LAYOUTS)["pursuit"][variant]
        assert value == pytest.approx((~ON_WAY[:-10]).sum() / N)
        assert 0.6 < low < value < high < 0.85


def test_what_a_runner_passes_by(runner):
    found = summarize_agent(runner, LAYOUTS)
    for variant in MOVED:
        assert found["passed_by"][variant][0] == pytest.approx((~ON_WAY[:-10]).sum() / N)
        assert found["change"][variant][0] == pytest.approx(-(~ON_WAY[:-10]).sum() / N)
        assert summarize_agent(planted(True), LAYOUTS)["passed_by"][variant][0] == 0


def test_agents_are_compared_level_by_level(runner):
    found = compare_agents(planted(True), runner, LAYOUTS)
    for variant in MOVED:
        assert found["coin"][variant] == found["pursuit"][variant]
        assert found["coin"][variant][0] == pytest.approx((~ON_WAY[:-10]).sum() / N)
        assert found["by_chance"][variant] == [0, 0, 0]
    assert compare_agents(runner, runner, LAYOUTS)["coin"]["moved"] == [0, 0, 0]


def test_intervals_are_by_layout(runner):
    one_layout, all_differ = (
        summarize_agent(runner, layout)["outcomes"]["end"]["coin"] for layout in (np.zeros(N), np.arange(N))
    )
    assert one_layout == pytest.approx([all_differ[0]] * 3)
    assert all_differ[1] < all_differ[0] < all_differ[2]


def test_the_illustrated_level_is_the_first_that_one_agent_passes_and_the_other_does_not():
    levels = {"grid": np.zeros((4, 2, 2))}
    passing = {"moved.outcome": np.array([COIN, WALL, WALL, WALL, WALL])}
    getting = {"moved.outcome": np.array([COIN, DEATH, COIN, COIN, COIN])}
    assert telling_level(levels, [passing]) == 1
    assert telling_level(levels, [passing, getting]) == 2
    assert telling_level(levels, [getting, passing]) == 0
