"""Motion errors against the frames that the game draws, planted errors and numpy's quantiles."""

import numpy as np
import pytest

from analysis.model_eval.camera import Camera
from analysis.model_eval.motion_error import error_statistics, motion_scores, true_motion
from common.stats import level_weights, weighted_quantile
from tests.helpers.coinrun_states import drawn_from

MOVES = [(0, 0), (7, 0), (7, 5), (-2, 6)]
STEPS = 11


def cameras(path: np.ndarray) -> Camera:
    """Cameras [S, b] whose picture moves along a path [S, b, 2], down and right."""
    one = np.ones(path.shape[:2])
    return Camera(40 - path[..., 1], path[..., 0], 64 / 13 * one, 13 * one)


@pytest.fixture(scope="module")
def path():
    return np.random.default_rng(0).normal(0, 4, (STEPS, 6, 2)).cumsum(0)


def scored(path, open_loop=None, teacher_forced=None):
    motion = np.diff(path, axis=0, prepend=path[:1])
    frames = np.random.default_rng(0).integers(0, 256, (*path.shape[:2], 24, 24, 3)).astype(np.uint8)
    given = (motion if x is None else x for x in (open_loop, teacher_forced))
    return motion, motion_scores(cameras(path), frames, *given)


def test_the_true_motion_is_by_how_much_the_games_picture_moves():
    frames, scenes = drawn_from(MOVES)
    motion = true_motion(scenes.camera[:, None])
    np.testing.assert_allclose(motion[:, 0], [(0, 0), (0, -7), (5, 0), (1, 9)], atol=1e-4)
    before, after = frames[0].astype(int), frames[1].astype(int)
    ground = np.s_[44:]  # below the player
    right_way = (after[ground][:, :57] == before[ground][:, 7:]).mean()
    wrong_way = (after[ground][:, 7:] == before[ground][:, :57]).mean()
    assert right_way > 0.97
    assert wrong_way < right_way - 0.05


def test_the_right_motion_has_no_error_and_still_pictures_have_the_displacement(path):
    _, scores = scored(path)
    for name in ("open_loop", "teacher_forced"):
        assert scores[f"motion_sum/{name}"] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(scores["motion_sum/still"], np.linalg.norm(path - path[0], axis=-1))


def test_a_constant_error_adds_up_and_errors_that_alternate_do_not(path):
    motion = np.diff(path, axis=0, prepend=path[:1])
    drift = motion + [0.25, 0.0]
    alternating = motion + 0.25 * (-1) ** np.arange(STEPS)[:, None, None] * np.array([0, 1])
    _, scores = scored(path, drift, alternating)
    steps = np.arange(STEPS)[:, None] * np.ones(6)
    np.testing.assert_allclose(scores["motion_sum/open_loop"], 0.25 * steps, atol=1e-9)
    np.testing.assert_allclose(scores["motion_step/open_loop"][1:], 0.25)
    assert not scores["motion_step/open_loop"][0].any()  # the start's own motion lies before step 0
    np.testing.assert_allclose(scores["motion_step/teacher_forced"][1:], 0.25)
    assert scores["motion_sum/teacher_forced"].max() < 0.26


def test_axes_and_signs_are_not_confused(path):
    motion, scores = scored(path, -np.diff(path, axis=0, prepend=path[:1]))
    np.testing.assert_allclose(scores["motion_step/open_loop"][1:], 2 * np.linalg.norm(motion, axis=-1)[1:])
    swapped = scored(path, motion[..., ::-1])[1]
    assert np.median(swapped["motion_step/open_loop"][1:]) > 1


def test_weighted_quantiles_are_those_of_repeated_values():
    rng = np.random.default_rng(0)
    values = rng.normal(size=200).round(1)
    weights = level_weights(np.repeat(np.arange(40), 5), resamples=30)
    for q in (0.5, 0.9):
        found = weighted_quantile(weights, values, q)
        for row, weight in zip(found, weights):
            repeated = np.repeat(values, weight.astype(int))
            assert row == np.quantile(repeated, q, method="inverted_cdf")
    assert np.isnan(weighted_quantile(np.zeros((2, 200)), values, 0.5)).all()
    assert np.isnan(weighted_quantile(np.ones((2, 0)), np.zeros(0), 0.5)).all()


def test_statistics_leave_out_what_does_not_count():
    error = np.array([0.1, 0.2, 0.3, 1.5, 99.0])
    counts = np.array([1, 1, 1, 1, 0], bool)
    found = error_statistics(np.ones((1, 5)), error, counts)
    assert {name: float(x[0]) for name, x in found.items()} == {"median": 0.2, "p90": 1.5, "large": 0.25}
