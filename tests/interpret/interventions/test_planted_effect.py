"""A planted agent: the effect of its one causal direction is found in the game and in the simulator, with the
right sign and size; edits without effect are not, at the stated error rate.
"""

import numpy as np
import pytest
import torch

from common.errors import UsageError
from common.stats import Estimate, estimate, level_counts, level_weights
from interpret.forks.world_comparison import Runs, run_arrays
from interpret.forks.worlds import RealWorld, SimulatedWorld, run_in_batches
from interpret.interventions.arms import FAMILIES, null_arms, strength_arms
from interpret.interventions.edit import Condition, Edit
from interpret.interventions.effects import (
    effect_summary,
    null_test,
    outcomes_by_point,
    paired_difference,
    verdict,
)
from interpret.interventions.intervened import Intervened
from interpret.interventions.interventions import NO_INTERVENTIONS, bind
from interpret.interventions.nulls import StateSample, changed_states, kl_measure, norm_measure, null_sets
from tests.helpers.ledge_world import (
    BUTTON,
    HORIZON,
    PIT,
    LedgeAgent,
    LedgeEnv,
    LedgeSimulator,
    planted,
    points_of,
)

AGENT = LedgeAgent()
SET = planted(AGENT)
COLLAPSE = Edit("collapse", (PIT,))
PUSH_BUTTON = Edit("add", (BUTTON,), values=(1.0,), mode="state")
EFFECT = 1 / (1 + np.exp(-1.6)) - 1 / (1 + np.exp(2.0))
"""Of the collapse on P(death): sigmoid(6 LEAK - 2) - sigmoid(-2)."""


def play(points, interventions=NO_INTERVENTIONS, world: str = "real", draws: int = 1, agent=AGENT) -> Runs:
    policy = Intervened(agent, interventions)
    count = len(points) * draws
    one = (
        RealWorld(LedgeEnv(count), policy)
        if world == "real"
        else SimulatedWorld(LedgeSimulator(agent), policy)
    )
    return Runs(**run_in_batches(one, points, HORIZON, 0, draws, count, run_arrays))


def effect_of(edit: Edit, points, world: str = "real") -> dict[str, Estimate]:
    control, arm = (
        outcomes_by_point(play(points, one, world)) for one in (NO_INTERVENTIONS, bind([edit], {"one": SET}))
    )
    return effect_summary(arm, control, level_weights(points.layout))


@pytest.mark.parametrize(("world", "scale"), [("real", 1.0), ("simulator", 0.71)])
@pytest.mark.parametrize("before_heads", [True, False])
def test_the_planted_effect_is_found_with_its_size(world, scale, before_heads):
    edit = Edit("collapse", (PIT,), before_heads=before_heads)
    found = effect_of(edit, points_of(400), world)
    assert found["death"].low > 0.4
    assert found["coin"].high < -0.3
    assert found["death"].value == pytest.approx(scale * EFFECT, abs=0.08)


def test_a_mutant_on_another_direction_has_no_such_effect():
    for other in range(1, 4):
        found = effect_of(Edit("collapse", (other,)), points_of(400))
        assert found["death"].high < 0.1


def test_an_edit_that_comes_one_step_late_is_too_late():
    """The pit is remembered from one step before the brink; on the brink the heads have read it."""
    points = points_of(400)
    points = points.take(np.flatnonzero(points.repeat == 3))
    on_brink = dict(window=(3, 4), mode="state")
    before = effect_of(Edit("collapse", (PIT,), **on_brink), points)
    after = effect_of(Edit("collapse", (PIT,), **on_brink, before_heads=False), points)
    assert before["death"].low > 0.5
    assert after["death"] == Estimate(0, 0, 0)


def test_the_control_arm_is_the_agent_bit_for_bit():
    points = points_of(50)
    control = play(points, draws=2)
    plain = Runs(**run_in_batches(RealWorld(LedgeEnv(100), AGENT), points, HORIZON, 0, 2, 100, run_arrays))
    for one, other in zip(control, plain):
        assert np.array_equal(one, other)


def test_the_interval_of_no_effect_covers_zero_95_times_in_100():
    """The button moves the policy and, through shared noise, many single outcomes, but no probability."""
    repeats, size = 2000, 80
    points = points_of(repeats * size)
    control, arm = (
        outcomes_by_point(play(points, one))[0]
        for one in (NO_INTERVENTIONS, bind([PUSH_BUTTON], {"one": SET}))
    )
    change = (arm - control).reshape(repeats, size)
    assert (change != 0).mean() > 0.05
    weights = level_counts(size, 500)
    resampled = change @ weights.T / size
    low, high = np.quantile(resampled[:, 1:], [0.025, 0.975], axis=1)
    covered = ((low <= 0) & (high >= 0)).mean()
    assert 0.93 <= covered <= 0.97
    one = estimate(paired_difference(change[None, 0], 0 * change[None, 0], weights)[0])
    assert (one.low, one.high) == pytest.approx((low[0], high[0]))


@pytest.mark.parametrize("count", [99, 199])
def test_the_interval_of_the_nulls_covers_one_more_null_95_times_in_100(count):
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(4000, count + 1))  # any distribution
    tests = [null_test(one[0], one[1:]) for one in draws]
    assert np.mean([not test.holds(one[0]) for test, one in zip(tests, draws)]) == pytest.approx(
        0.95, abs=0.02
    )
    p = np.array([test.p for test in tests])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)


@pytest.fixture(scope="module")
def sample() -> StateSample:
    runs = play(points_of(300))
    before = np.concatenate([0 * runs.hidden[:1], runs.hidden[:-1]])
    there = runs.running
    return StateSample(*(torch.from_numpy(x[there]) for x in (before, runs.hidden)))


@pytest.fixture(scope="module")
def arms(sample):
    return null_arms(bind([COLLAPSE], {"one": SET}), AGENT, sample, 20, seed=0)


def test_null_edits_are_matched(arms, sample):
    assert {arm.family for arm in arms} == set(FAMILIES)
    norm, kl = norm_measure(sample), kl_measure(AGENT, sample)
    target = {"equal norm": norm, "covariance": norm, "KL-matched": kl, "fitted": kl}
    for arm in arms:
        if arm.matched:
            (edit,) = arm.interventions.edits
            found = target[arm.family](edit, arm.interventions.sets[edit.direction_set])
            assert found == pytest.approx(target[arm.family](COLLAPSE, SET), rel=1e-3), arm.family
    share = {family: np.mean([arm.matched for arm in arms if arm.family == family]) for family in FAMILIES}
    assert share["equal norm"] == share["covariance"] == 1
    assert 0.3 < share["KL-matched"] < 1
    assert share["fitted"] == 1 / 5  # no head reads the other concepts


def test_null_edits_leave_the_tested_scores_alone(arms, sample):
    for arm in arms:
        (edit,) = arm.interventions.edits
        after = changed_states(edit, arm.interventions.sets[edit.direction_set], sample)
        assert (SET.scores(after) - SET.scores(sample.after))[:, PIT].abs().max() < 1e-4
        assert not torch.equal(after, sample.after)


def test_nulls_from_the_covariance_follow_it(sample):
    states = sample.after.numpy()
    spread = []
    for covariance in (False, True):
        sets = null_sets(COLLAPSE, SET, states, 300, 0, covariance)
        z = np.stack([one.write[:, 0].numpy() for one in sets]) / states.std(0)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        spread.append(np.einsum("nd,de,ne->n", z, np.corrcoef(states.T), z).mean())
    assert spread[1] > 1.2 * spread[0]


def test_the_planted_edit_is_specific_and_the_button_is_not(arms):
    points = points_of(300, seed=3)
    control = outcomes_by_point(play(points))
    weights = level_weights(points.layout)
    nulls = {
        family: np.array(
            [
                paired_difference(outcomes_by_point(play(points, arm.interventions)), control, weights[:1])[
                    0, 0
                ]
                for arm in arms
                if arm.family == family and arm.matched
            ]
        )
        for family in ("KL-matched", "fitted")
    }
    found = {}
    for name, edit in (("pit", COLLAPSE), ("button", PUSH_BUTTON)):
        effect = effect_summary(
            outcomes_by_point(play(points, bind([edit], {"one": SET}))), control, weights
        )["death"]
        found[name] = verdict(
            effect, {family: null_test(effect.value, x) for family, x in nulls.items()}, 300
        )
    assert found["pit"] == "specific"
    assert found["button"] in ("no effect", "undecided", "like any edit of that size")


def test_the_effect_grows_with_the_strength():
    points = points_of(300)
    control = outcomes_by_point(play(points))
    weights = level_weights(points.layout)[:1]
    doses = [
        paired_difference(outcomes_by_point(play(points, arm.interventions)), control, weights)[0, 0]
        for arm in strength_arms(bind([COLLAPSE], {"one": SET}), (0.25, 0.5, 1.0))
    ]
    assert 0 < doses[0] < doses[1] < doses[2]


def test_an_experiment_tests_one_edit(sample):
    for edits in ([], [COLLAPSE, COLLAPSE]):
        with pytest.raises(UsageError, match="tests one edit"):
            null_arms(bind(edits, {"one": SET}), AGENT, sample, 20, 0)


def test_conditions_on_the_tested_set_stay_in_null_edits(sample):
    edit = Edit("collapse", (PIT,), condition=Condition("score", PIT, above=0.5))
    for arm in null_arms(bind([edit], {"one": SET}), AGENT, sample, 2, 0):
        assert arm.interventions.edits[0].condition.direction_set == SET.id


@pytest.mark.parametrize(
    ("effect", "kl", "fitted", "layouts", "said"),
    [
        (Estimate(0.1, 0.05, 0.2), 0.02, 0.02, 500, "specific"),
        (Estimate(0.1, 0.05, 0.2), 0.02, 0.3, 500, "not specific"),
        (Estimate(0.1, 0.05, 0.2), 0.3, 0.02, 500, "like any edit of that size"),
        (Estimate(0.01, -0.01, 0.02), 0.02, 0.02, 500, "no effect"),
        (Estimate(0.01, -0.05, 0.09), 0.02, 0.02, 500, "undecided"),
        (Estimate(0.0, 0.0, 0.0), 0.02, 0.02, 100, "no effect"),
        (Estimate(0.0, 0.0, 0.0), 0.02, 0.02, 99, "undecided"),
        (Estimate(0.0, 0.0, 0.0), 0.02, 0.02, 6, "too few to say"),
        (Estimate(0.5, 0.2, 0.8), 0.02, 0.02, 29, "too few to say"),
    ],
)
def test_verdicts(effect, kl, fitted, layouts, said):
    spread = np.linspace(-1, 1, 99)
    nulls = {"KL-matched": kl * spread, "fitted": fitted * spread}
    assert verdict(effect, {name: null_test(effect.value, x) for name, x in nulls.items()}, layouts) == said
