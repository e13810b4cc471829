"""Labels of points: none overlaps another or a point, and coinciding points share one."""

import numpy as np
import pytest
from matplotlib.text import Annotation

from analysis.plotting.label_placement import group_coincident, label_points, push_apart
from analysis.plotting.style import new_figure
from tests.helpers.figure_checks import boxes_of, overlapping

NAMES = ["down-left", "left", "up-left", "down", "none", "up", "down-right", "right", "up-right"]


def labelled(points, others):
    figure, axes = new_figure(panel=(4.2, 3.7))
    axis = axes[0, 0]
    axis.scatter(*np.concatenate([points, others]).T)
    axis.margins(0.2)
    label_points(axis, points, NAMES[: len(points)], others)
    return figure, axis, [text for text in axis.texts if isinstance(text, Annotation)]


@pytest.mark.parametrize("seed", range(6))
def test_labels_lie_neither_on_each_other_nor_on_points(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(9, 2)) * [1.0, 0.3]
    others = points + rng.normal(size=(9, 2)) * 0.2
    figure, axis, texts = labelled(points, others)
    assert overlapping(figure, texts) == []
    for box in boxes_of(figure, texts):
        assert not any(
            box.contains(*pixel) for pixel in axis.transData.transform(np.concatenate([points, others]))
        )


@pytest.mark.parametrize("seed", range(6))
def test_no_line_from_a_point_to_its_end_runs_through_a_label(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(9, 2)) * [1.0, 0.3]
    ends = points + rng.normal(size=(9, 2)) * 0.5
    figure, axis, texts = labelled(points, ends)
    lines = axis.transData.transform(np.linspace(points, ends, 200).reshape(-1, 2))
    for box in boxes_of(figure, texts):
        assert not ((lines > [box.x0, box.y0]) & (lines < [box.x1, box.y1])).all(1).any()


def test_points_that_coincide_share_a_label():
    points = np.array([[0, 0], [0, 0], [1, 1], [3, 0], [3, 0], [3, 0]], float)
    _, _, texts = labelled(points, points + 0.5)
    assert sorted(text.get_text() for text in texts) == ["down, none, up", "down-left, left", "up-left"]


def test_a_chain_of_near_points_is_one_group():
    pixels = np.array([[0, 0], [12, 0], [6, 0], [40, 0]], float)
    assert group_coincident(pixels, 7) == [[0, 1, 2], [3]]
    assert group_coincident(pixels, 3) == [[0], [1], [2], [3]]


def test_boxes_are_pushed_apart_and_lone_ones_stay():
    rng = np.random.default_rng(0)
    size = np.array([0.07, 0.052])
    centres = np.concatenate([rng.normal(size=(31, 2)) * 0.1 + 0.5, [[3, 3]]])
    moved = push_apart(centres, size)
    lacking = size - np.abs(moved[:, None] - moved)
    assert not ((lacking > 1e-6).all(-1) & ~np.eye(32, dtype=bool)).any()
    assert np.array_equal(moved[-1], centres[-1])
    assert np.abs(moved - centres).max() < 0.5
