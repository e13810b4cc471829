"""Rasterised clouds, colours and rotations: every point and class is drawn as specified."""

import matplotlib
import numpy as np
import pytest

from analysis.plotting.colourings import CLASSES, HIDDEN_COLOURINGS, OTHERS, Colouring, colour, short
from analysis.plotting.map_figures import montage
from analysis.plotting.point_density import data_limits, raster, rotate_points
from tests.helpers.figure_checks import cielab

RED = [255, 0, 0]
BLUE = [0, 0, 255]
BOUNDS = np.array([[0.0, 0.0], [1.0, 1.0]])


def test_a_cloud_is_drawn_upwards_with_later_points_on_top():
    picture = raster(
        np.array([[0.25, 0.75], [0.25, 0.75], [5.0, 0.5]]),
        np.array([RED, BLUE, RED]),
        BOUNDS,
        (20, 20),
        radius=0,
    )
    assert np.argwhere((picture != 255).any(2)).tolist() == [[4, 5]]
    assert picture[4, 5].tolist() == BLUE
    disc = raster(np.array([[0.5, 0.5]]), np.array([RED]), BOUNDS, (20, 20), radius=2)
    assert (disc != 255).any(2).sum() == 21
    assert np.array_equal(raster(np.zeros((0, 2)), np.zeros((0, 3)), BOUNDS, (20, 20), ground=disc), disc)
    assert (raster(np.array([[0.001, 0.001]]), np.array([RED]), BOUNDS, (20, 20), radius=2) != 255).any(
        2
    ).sum() < 21, "the rim cuts, it does not wrap"


def test_limits_hold_nearly_all_points_and_not_the_farthest():
    points = np.random.default_rng(0).normal(size=(5000, 2))
    points[0] = 1000
    low, high = data_limits(points)
    assert high.max() < 6
    assert ((points > low) & (points < high)).all(1).mean() > 0.99


def test_rotation_keeps_lengths_and_is_periodic():
    points = np.random.default_rng(0).normal(size=(50, 3))
    flat, depth = rotate_points(points, 70, 30)
    assert np.allclose((flat**2).sum(1) + depth**2, (points**2).sum(1))
    assert np.allclose(rotate_points(points, 430, 30)[0], flat)
    assert not np.allclose(rotate_points(points, 80, 30)[0], flat)
    assert np.allclose(rotate_points(np.array([[0, 0, 1.0]]), 123, 0)[0], [[0, 1]]), (
        "the third axis points up"
    )


def test_class_colours_are_distinguishable():
    lab = cielab([*CLASSES, OTHERS])
    distance = np.linalg.norm(lab[:, None] - lab, axis=2) + np.eye(len(lab)) * 1e3
    assert distance.min() > 25
    assert len(CLASSES) >= 24
    assert np.linalg.norm(lab - cielab(["white"]), axis=1).min() > 15


def test_a_class_has_the_same_colour_among_any_other_classes():
    labels = np.array([0, 1, 2, 11, 11])
    painted = colour(Colouring("nmf", "", "classes"), labels)
    assert np.array_equal(painted.rgb[3], painted.rgb[4])
    assert len(np.unique(painted.rgb, axis=0)) == 4
    assert [name for name, _ in painted.key] == ["0", "1", "2", "11"]
    more = colour(Colouring("nmf", "", "classes"), np.arange(12))
    assert np.allclose(more.rgb[11], painted.rgb[3])
    assert len(np.unique(more.rgb, axis=0)) == 12


def test_of_too_many_classes_the_largest_have_colours_and_the_key_counts_the_others():
    own = len(CLASSES)
    small = 8
    labels = np.concatenate([np.arange(small + own), np.repeat(np.arange(small, small + own), 5)])
    painted = colour(Colouring("nmf", "", "classes"), labels)
    assert [name for name, _ in painted.key] == [*map(str, range(small, small + own)), "8 others"]
    assert len(np.unique(painted.rgb[labels >= small], axis=0)) == own
    assert len(np.unique(painted.rgb[labels < small], axis=0)) == 1
    assert colour(Colouring("nmf", "", "classes"), np.arange(own + 1)).key[-1][0] == "1 other"


def test_numbered_clusters_all_have_colours_and_none_that_of_its_nearest_neighbour():
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(32, 2))
    labels = np.repeat(np.arange(32), 9)
    points = middles[labels] + rng.normal(size=(len(labels), 2)) * 1e-3
    painted = colour(Colouring("cluster", "", "classes"), labels, numbered_at=points)
    shown = np.stack([painted.rgb[labels == i][0] for i in range(32)])
    distance = np.linalg.norm(middles[:, None] - middles, axis=2) + np.eye(32) * 1e3
    assert painted.key == []
    assert len(np.unique(shown, axis=0)) == len(CLASSES)
    assert (shown != shown[distance.argmin(1)]).any(1).all()


def test_scales_flags_and_names():
    values = np.linspace(0, 1, 200)
    scale, log = (colour(Colouring("v", "", kind, "viridis"), values + 1) for kind in ("scale", "log"))
    assert 1.005 < scale.key.low < 1.02
    assert not np.allclose(scale.rgb, log.rgb)
    assert np.isclose(log.key.high, scale.key.high, atol=0.02)
    for painted in (scale, log):  # the colour that the bar has at a value is that of the points with it
        assert np.allclose(painted.key.mappable().to_rgba(values + 1)[:, :3] * 255, painted.rgb, atol=2)
        assert np.allclose(
            painted.key.mappable().to_rgba(painted.key.marks(5))[2, :3],
            matplotlib.colormaps["viridis"](0.5)[:3],
            atol=0.01,
        )
    on = np.arange(200) % 50 == 7
    flag = colour(Colouring("done", "", "flag"), on)
    assert on[flag.order[-4:]].all(), "flags that are set lie on top"
    assert sorted(flag.order) == list(range(200))
    named = colour(Colouring("taken", "", "named"), np.array([4, 1, 4]), ["a", "b", "c", "d", "none"])
    assert [name for name, _ in named.key] == ["b", "none"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1000, "1,000"),
        (266.4, "266"),
        (78.24, "78.2"),
        (0.00123, "0.00123"),
        (-1234, "-1,234"),
        (2e9, "2e+09"),
    ],
)
def test_tick_labels_below_a_million_have_no_exponent(value, text):
    assert short(value) == text


def test_there_are_twelve_colourings():
    assert len({colouring.label for colouring in HIDDEN_COLOURINGS}) == 12


@pytest.mark.parametrize(("count", "shape"), [(1, (4, 34, 3)), (7, (10, 34, 3))])
def test_a_montage_shows_each_frame_once(count, shape):
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    sheet = montage(frames, columns=6, gap=2)
    assert sheet.shape == shape
    assert [(sheet == i).all(2).sum() for i in range(count)] == [16] * count
