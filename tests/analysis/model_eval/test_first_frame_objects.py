""" "Of those": hazards of later steps that were near in the first frame, on scenes whose answer is known."""

import numpy as np

from analysis.model_eval.camera import Camera
from analysis.model_eval.frame_objects import KINDS, Objects
from analysis.model_eval.ground_truth import GroundTruth
from analysis.model_eval.object_matching import first_frame_origins
from analysis.model_eval.object_scores import object_scores

SAW, ENEMY, LAVA = 0, 1, 2
WINDOWS = 2
STEPS = 3


def objects(*rows) -> Objects:
    """From (step, window, kind, x, y)."""
    step, window, kind, x, y = np.array(rows, np.float64).T
    return Objects((step * WINDOWS + window).astype(int), kind.astype(int), x, y)


def truth_with(real: Objects, player=10.0) -> GroundTruth:
    one = np.ones((STEPS, WINDOWS))
    shape = (STEPS, WINDOWS, 64, 64)
    return GroundTruth(
        np.zeros((*shape, 3), np.uint8),
        one > 0,
        Camera((player - 6.5) * 64 / 13 * one, 0 * one, 64 / 13 * one, 13 * one),
        Camera(*(np.zeros((1, WINDOWS)) for _ in range(4))),
        np.ones(shape, bool),
        np.stack([player * one, 6.5 * one], -1),
        real,
    )


def test_an_object_is_traced_to_its_place_in_the_first_frame_of_its_window():
    found = objects(
        (0, 0, SAW, 8, 5),
        (0, 0, ENEMY, 9, 4),
        (0, 1, SAW, 3, 5),
        (2, 0, SAW, 8, 5),  # the first
        (2, 1, SAW, 8, 5),  # of another window
        (2, 0, LAVA, 8, 5),  # of another kind
        (2, 0, SAW, 8.5, 5),  # another saw
        (2, 0, SAW, 8, 6),  # one above
        (2, 0, ENEMY, 9.3, 4),  # it has walked two steps
        (2, 0, ENEMY, 9.4, 4),  # no enemy walks so fast
        (1, 0, ENEMY, 9.3, 4),  # nor in one step
    )
    assert first_frame_origins(found, WINDOWS).tolist() == [0, 1, 2, 0, -1, -1, -1, -1, 1, -1, -1]


def test_nothing_comes_from_a_first_frame_without_objects():
    assert first_frame_origins(objects((1, 0, SAW, 8, 5)), WINDOWS).tolist() == [-1]


def test_recall_of_those_counts_the_near_ones_that_remain_and_not_what_came_later():
    real = objects(
        (0, 0, SAW, 8, 6.5),  # near, stays, never drawn
        (0, 0, SAW, 12, 6.5),  # near, stays, always drawn
        (0, 0, SAW, 16.4, 6.5),  # on the screen but not within 6 tiles
        (0, 1, SAW, 8, 6.5),  # drawn at first, lost later
        (2, 0, SAW, 8, 6.5),
        (2, 0, SAW, 12, 6.5),
        (2, 0, SAW, 5, 6.5),  # came later, and is drawn
        (2, 1, SAW, 8, 6.5),
    )
    detected = objects((0, 0, SAW, 12, 6.5), (0, 1, SAW, 8, 6.5), (2, 0, SAW, 12, 6.5), (2, 0, SAW, 5, 6.5))
    counts = {name: x[SAW].tolist() for name, x in object_scores(detected, truth_with(real)).items()}
    assert counts["real"] == [[2, 1], [0, 0], [3, 1]]
    assert counts["kept_real"] == [[2, 1], [0, 0], [2, 1]]
    assert counts["kept_hit"] == [[1, 1], [0, 0], [1, 0]]
    assert counts["drawn_real"] == [[1, 1], [0, 0], [1, 1]]
    assert counts["drawn_hit"] == [[1, 1], [0, 0], [1, 0]]


def test_what_was_far_in_the_first_frame_is_not_of_those():
    real = objects((0, 0, SAW, 16.4, 6.5), (2, 0, SAW, 16.4, 6.5))
    truth = truth_with(real)
    nearer = truth._replace(player=truth.player + np.array([0, 0, 2.0])[:, None, None] * [1, 0])
    counts = object_scores(objects((2, 0, SAW, 16.4, 6.5)), nearer)
    assert counts["real"][SAW, 2, 0] == 1
    assert counts["hit"][SAW, 2, 0] == 1
    assert counts["kept_real"].sum() == 0
    assert len(KINDS) == len(counts["real"])
