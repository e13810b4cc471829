"""One action's effect in two worlds: planted motion is estimated, equal worlds match, shuffled actions do
not.
"""

import numpy as np
import pytest

from interpret.forks.action_effects import (
    ActionOutcomes,
    confusion_matrix,
    effect_products,
    effect_regression,
    match_frames,
    matching_accuracy,
    player_motion,
    psnr_margin,
)

WEIGHTS = np.ones((1, 12))
SHIFTS = np.array([[0, 0], [3, 0], [-2, 1], [5, -4]])


def planted(noise: float = 0.0, order=None, size: float = 1.0, seed: int = 0) -> ActionOutcomes:
    """Random pictures of 12 fork points, which each of four classes scrolls against SHIFTS, the motion of its
    player (right, up).
    """
    rng = np.random.default_rng(0)
    worlds = rng.integers(0, 256, (12, 80, 80, 3))
    order = np.arange(4) if order is None else order
    views = np.stack([worlds[:, 8 - up : 72 - up, 8 + right : 72 + right] for right, up in SHIFTS[order]], 1)
    mean = views.mean(1, keepdims=True)
    drawn = mean + size * (views - mean) + noise * np.random.default_rng(seed).normal(size=views.shape)
    return ActionOutcomes(
        worlds[:, 8:72, 8:72].astype(np.uint8),
        np.clip(np.round(drawn), 0, 255).astype(np.uint8),
        np.zeros((12, 4), bool),
    )


def test_player_motion_is_estimated_from_the_scrolling_of_the_frame():
    assert np.array_equal(player_motion(planted(20.0)), np.broadcast_to(SHIFTS, (12, 4, 2)))


def test_equal_worlds_match_and_shuffled_actions_do_not():
    real = planted()
    shuffled = planted(order=[1, 0, 3, 2])
    right, chance = (x[0] for x in matching_accuracy(match_frames(real, planted(30.0)), real.ended, WEIGHTS))
    assert (right, chance) == (1, 0.25)
    assert np.array_equal(confusion_matrix(match_frames(real, planted(30.0)), real.ended), np.eye(4))
    assert matching_accuracy(match_frames(real, shuffled), real.ended, WEIGHTS)[0][0] == 0
    assert np.array_equal(confusion_matrix(match_frames(real, shuffled), real.ended), np.eye(4)[[1, 0, 3, 2]])
    assert psnr_margin(match_frames(real, planted(30.0)), real.ended, WEIGHTS)[0] > 5
    assert psnr_margin(match_frames(real, planted(30.0, [1, 0, 3, 2])), real.ended, WEIGHTS)[0] < -1


def test_the_regression_slope_is_the_size_of_the_effect():
    real = planted()
    for size in (1.0, 0.5, 0.0):
        slope, correlation = (
            x[0] for x in effect_regression(effect_products(real, planted(5.0, size=size)), WEIGHTS)
        )
        assert slope == pytest.approx(size, abs=0.03)
        assert correlation > 0.9 if size else abs(correlation) < 0.05
    assert effect_regression(effect_products(real, planted(order=[1, 0, 3, 2])), WEIGHTS)[0][0] < 0


def test_identical_outcomes_share_credit_and_ended_runs_do_not_count():
    real = planted()
    same = real._replace(after=real.after.copy())
    same.after[:, 1] = same.after[:, 0]
    right, chance = (x[0] for x in matching_accuracy(match_frames(same, same), same.ended, WEIGHTS))
    assert right == 1
    assert chance == pytest.approx((0.5 + 0.5 + 0.25 + 0.25) / 4)
    assert np.array_equal(
        confusion_matrix(match_frames(same, same), same.ended)[:2, :2], np.full((2, 2), 0.5)
    )
    ended = real._replace(ended=np.tile([True, False, False, False], (12, 1)))
    found = match_frames(ended, real)
    assert not (found.nearest == 0).any()
    assert matching_accuracy(found, ended.ended, WEIGHTS)[0][0] == 1
    assert matching_accuracy(found, ended.ended, WEIGHTS)[1][0] == pytest.approx(1 / 3)
    assert not confusion_matrix(found, ended.ended)[0].any()
