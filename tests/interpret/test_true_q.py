"""True Q on environments where it is known exactly, criticality without selection bias, and calibration."""

import numpy as np
import pytest
import torch

from agents.behaviours import RandomPolicy
from common.stats import level_weights
from envs.diagnostic_envs import DiagnosticVecEnv
from interpret.forks.fork_points import ForkPoints
from interpret.forks.true_q import (
    advantages,
    criticality,
    fork_returns,
    policy_outputs,
    policy_values,
    reliability_curve,
    value_calibration,
)

GAMMA = 0.9


class Constant(RandomPolicy):
    """Presses button 1 with probability 3/4, whatever it sees; its value is 7."""

    def heads(self, state):
        logits = torch.tensor([0.25, 0.75]).log().expand(len(state), 2)
        return logits, torch.full((len(state),), 7.0)


def points_of(env, count: int, steps: int = 0) -> ForkPoints:
    """Levels 0 .. count - 1 after `steps` steps."""
    env.open_levels(range(count), range(count))
    for _ in range(steps):
        env.act(np.zeros(env.num, np.int64))
    n = np.arange(count)
    zeros = np.zeros(count, np.int64)
    frames = env.observe()[1][None, :count].copy()
    hidden = torch.zeros(count, 1)
    return ForkPoints(
        env.snapshot(range(count)), frames, hidden, n, zeros, zeros + steps, zeros, n.astype(str)
    )


def q_of(name: str, steps: int = 0, horizon: int = 50, draws: int = 6, count: int = 8):
    env = DiagnosticVecEnv(name, 200, size=16)
    points = points_of(env, count, steps)
    return fork_returns(env, Constant(2), points, draws, horizon, GAMMA, 0), env, points


def test_q_is_exact_where_the_last_action_decides_and_wrong_for_shuffled_fork_points():
    found, _env, points = q_of("match")
    shown = (points.frames[0][:, 0, 0, 0] == 0).astype(int)  # the second symbol leaves the left half black
    assert 0 < shown.mean() < 1
    expected = np.where(np.arange(2) == shown[:, None], 1, -1)
    assert np.array_equal(found.returns, expected[..., None].repeat(6, 2))
    assert not found.cut.any()
    assert not np.array_equal(np.roll(found.returns, 1, 0), found.returns)


@pytest.mark.parametrize("steps", [0, 3, 9])
def test_later_rewards_are_discounted_by_their_distance(steps):
    found, _env, _moments = q_of("counter", steps)
    assert found.returns[:, 0] == pytest.approx(GAMMA ** (9 - steps))  # its actions are one effect class
    assert found.returns.shape[1] == 1


def test_q_averages_over_chance_under_the_policy():
    """Memory: at its first frame the action decides nothing, and the last is right with probability 3/4 or
    1/4.
    """
    found, _env, points = q_of("memory", draws=400, count=4)
    bit = (points.frames[0][:, 0, -1, 0] == 0) & (points.frames[0][:, 0, 0, 0] == 0)
    expected = GAMMA**4 * np.where(bit, 0.5, -0.5)
    assert found.returns.mean(2) == pytest.approx(expected[:, None].repeat(2, 1), abs=0.09)
    np.testing.assert_array_equal(found.returns[:, 0], found.returns[:, 1])  # noise is shared by the actions
    assert len(np.unique(found.returns[0, 0])) == 2  # and differs by draw


def test_runs_cut_at_the_horizon_are_marked():
    found, *_ = q_of("counter", horizon=9)
    assert found.cut.all()
    assert not found.returns.any()
    found, *_ = q_of("counter", horizon=10)
    assert not found.cut.any()


def test_q_does_not_depend_on_how_many_run_together():
    few, many = (
        fork_returns(env, Constant(2), points_of(env, 5), 4, 9, GAMMA, 0)
        for env in (DiagnosticVecEnv("memory", n, size=16) for n in (7, 64))
    )
    np.testing.assert_array_equal(few.returns, many.returns)
    other = fork_returns(
        DiagnosticVecEnv("memory", 8, size=16),
        Constant(2),
        points_of(DiagnosticVecEnv("memory", 8, size=16), 5),
        4,
        9,
        GAMMA,
        1,
    )
    assert not np.array_equal(few.returns, other.returns)


def test_value_and_advantage_are_under_the_policys_own_probabilities():
    found, env, points = q_of("choice")
    head, shares = policy_outputs(Constant(2), points, env.effect_classes)
    assert head == pytest.approx(7)
    assert shares == pytest.approx(np.array([[0.25, 0.75]] * 8))
    assert policy_values(found.returns, shares) == pytest.approx(0.5)
    assert advantages(found.returns, shares) == pytest.approx(np.array([[-1.5, 0.5]] * 8))
    assert (shares * advantages(found.returns, shares)).sum(1) == pytest.approx(0, abs=1e-6)
    assert np.isnan(policy_outputs(RandomPolicy(2), points, env.effect_classes)[0]).all()


def test_actions_of_one_effect_count_together():
    env = DiagnosticVecEnv("constant", 4, size=16)
    _, shares = policy_outputs(Constant(2), points_of(env, 4), env.effect_classes)
    assert shares == pytest.approx(np.ones((4, 1)))


def test_criticality_is_the_gap_where_there_is_one_and_not_above_zero_where_there_is_none():
    rng = np.random.default_rng(0)
    q = np.zeros((400, 9))
    q[:200, 3], q[:200, 5] = 4, -4
    noise = rng.normal(size=(400, 9, 8))
    found = criticality(q[..., None] + noise)
    assert found.gap[:200].mean() == pytest.approx(8, abs=0.1)
    assert (found.best[:200] == 3).all()
    assert (found.worst[:200] == 5).all()
    assert found.gap[200:].mean() == pytest.approx(0, abs=0.1)
    naive = noise[200:].mean(2)
    assert (
        naive.max(1) - naive.min(1)
    ).mean() > 0.9  # what picking and comparing on the same draws would say
    assert found.error[:200].mean() == pytest.approx(found.gap[:200].std(), rel=0.15)
    with pytest.raises(ValueError, match="2 or more draws"):
        criticality(noise[..., :1])


def test_calibration_finds_scale_offset_and_error_of_the_head():
    rng = np.random.default_rng(0)
    real = rng.uniform(0, 10, 500)
    draws = real[:, None] + 3 * rng.normal(size=(500, 8))
    weights = level_weights(np.arange(500), 50)
    right = value_calibration(real, draws, weights)
    assert right.slope[0] == pytest.approx(1, abs=0.05)
    assert right.correlation[0] == pytest.approx(1, abs=0.03)
    assert right.root[0] < 0.4
    off = value_calibration(1 + 0.5 * real, draws, weights)
    assert off.slope[0] == pytest.approx(2, abs=0.1)
    assert off.intercept[0] == pytest.approx(-2, abs=0.4)
    assert off.root[0] == pytest.approx(np.sqrt(np.mean((0.5 * real - 1) ** 2)), abs=0.15)
    shuffled = value_calibration(rng.permutation(real), draws, weights)
    assert abs(shuffled.slope[0]) < 0.15
    assert abs(shuffled.correlation[0]) < 0.15
    head, given = reliability_curve(real, draws, weights, bins=5)
    assert len(head) == 5
    assert given[0] == pytest.approx(head, abs=0.4)
    assert (np.diff(head) > 1.5).all()
