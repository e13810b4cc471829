"""Figures do not mislead: zeros, ranges, bands, labels and keys are drawn as they should be."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from analysis import emergence_plotting, probes_plotting, show_hx_overlap, tuning_plotting
from analysis.game_check import true_q_figures
from analysis.maps import latent_figures
from analysis.plotting import map_figures
from analysis.plotting.colourings import FLAG_OFF, HIDDEN_COLOURINGS
from analysis.plotting.map_figures import Caption
from analysis.plotting.style import add_caption
from common.stats import level_weights
from interpret.forks.true_q import value_calibration
from tests.helpers.figure_checks import boxes_of, cielab, cut_texts, overlapping


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, in order."""
    figures = []
    for module in (
        emergence_plotting,
        latent_figures,
        map_figures,
        show_hx_overlap,
        true_q_figures,
        tuning_plotting,
    ):
        monkeypatch.setattr(
            module, "save_figure", lambda figure, path, formats=("png",): figures.append(figure) or [path]
        )
    return figures


def points(returns, shares) -> dict[str, np.ndarray]:
    count = len(returns)
    about = {
        "level": np.arange(count),
        "step": np.arange(count),
        "episode": np.arange(count),
        "layout": np.arange(count),
    }
    return about | {
        "returns": returns,
        "shares": shares,
        "frame": np.zeros((count, 8, 8, 3), np.uint8),
        "value": np.zeros(count),
    }


def test_a_true_q_of_zero_has_a_dot(drawn):
    returns = np.zeros((2, 3, 4))
    returns[0, 1] = 10
    found = points(returns, np.full((2, 3), 1 / 3))
    true_q_figures.draw_critical(found, ["left", "none", "right"], np.array([0, 1]), None)
    dots = [
        line.get_xdata()
        for axis in drawn[0].axes
        for line in axis.lines
        if line.get_marker() == "o" and len(line.get_xdata()) == 3
    ]
    assert [list(x) for x in dots] == [[0, 10, 0], [0, 0, 0]]


def test_the_fitted_line_stays_among_the_rewards():
    rng = np.random.default_rng(0)
    head = rng.uniform(5, 8, 24)
    real = np.where(head > 6.5, 10.0, 0.0)[:, None] + rng.normal(size=(24, 4)) * 1e-3
    fitted = value_calibration(head, real, level_weights(np.arange(24)))
    x, y = true_q_figures.fitted_within(fitted, head, np.array([0.0, 10.0]))
    assert len(x) > 10
    assert y.min() >= 0
    assert y.max() <= 10
    assert head.min() <= x.min()
    assert x.max() <= head.max()
    whole = fitted.intercept[0] + fitted.slope[0] * head
    assert whole.max() > 10 or whole.min() < 0, "or there would be nothing to cut"


def test_a_card_has_a_panel_and_one_band_for_each_object():
    rng = np.random.default_rng(0)
    kinds = [f"kind {i}" for i in range(7)]
    kind, distance = (x.ravel() for x in np.meshgrid(np.arange(7), np.arange(4)))
    scenes = {
        "kind": np.tile(kind, 5),
        "distance": np.tile(distance, 5),
        "layout": np.repeat(np.arange(5), 28),
    }
    scenes["scores"] = rng.normal(size=(140, 2, 3))
    figure = Figure(figsize=(8.6, 2))
    tuning_plotting._response_curves(figure, {"kinds": kinds}, scenes, 1, np.arange(7))
    assert [axis.get_title(loc="center") for axis in figure.axes] == kinds
    assert all(
        sum(isinstance(item, PolyCollection) for item in axis.collections) == 1 for axis in figure.axes
    )


def test_the_title_of_a_cluster_is_whole(drawn, monkeypatch):
    monkeypatch.setattr(map_figures, "_PIXELS", 60)
    points = np.random.default_rng(0).normal(size=(50, 2))
    title = "cluster 127: 123456 states of simulated steps"
    map_figures.draw_cluster(
        {"pca": points},
        np.arange(50) < 9,
        np.zeros((3, 8, 8, 3), np.uint8),
        title,
        "Facts.",
        Caption("50", "0-1"),
        None,
    )
    assert cut_texts(drawn[0]) == []
    (whole,) = [text for text in [drawn[0]._suptitle] if text.get_text() == title]
    others = [axis.title for axis in drawn[0].axes] + [axis._left_title for axis in drawn[0].axes]
    assert overlapping(drawn[0], [whole, *(text for text in others if text.get_text())]) == []
    assert boxes_of(drawn[0], [whole])[0].x0 >= 0


@pytest.mark.parametrize("count", [1, 3, 5])
def test_paths_are_coloured_by_time_and_ends_are_marked(drawn, monkeypatch, count):
    monkeypatch.setattr(map_figures, "_PIXELS", 60)
    rng = np.random.default_rng(0)
    paths = [
        (f"level {i}, first 80 of 1000 steps, no reward", rng.normal(size=(12, 2))) for i in range(count)
    ]
    map_figures.draw_paths("pca", rng.normal(size=(50, 2)), paths, Caption("50", "0-1"), None)
    panels = drawn[0].axes[:count]
    for axis in panels:
        lines, dots, first, last = axis.collections
        assert len(np.unique(lines.get_colors()[:, :3], axis=0)) == 11
        assert len(np.unique(dots.get_facecolors(), axis=0)) == 12
        assert np.array_equal(first.get_facecolors()[0], dots.get_facecolors()[0])
        assert len(last.get_offsets()) == 1
    assert cut_texts(drawn[0]) == []
    assert overlapping(drawn[0], [axis._left_title for axis in panels]) == []


def test_a_long_jump_of_a_path_is_fainter_than_a_step_to_a_neighbour(drawn, monkeypatch):
    monkeypatch.setattr(map_figures, "_PIXELS", 60)
    steps = np.array([[0.0, 0.0], [0.05, 0.0], [1.0, 1.0], [1.0, 0.95]])
    map_figures.draw_paths("tsne", steps, [("level 1", steps)], Caption("50", "0-1"), None)
    lines = drawn[0].axes[0].collections[0]
    assert list(lines.get_colors()[:, 3] > 0.5) == [True, False, True]
    assert list(np.array(lines.get_linewidths()) > 1) == [True, False, True]


def test_an_episode_of_one_step_is_a_dot_without_a_line(drawn, monkeypatch):
    monkeypatch.setattr(map_figures, "_PIXELS", 60)
    ground = np.random.default_rng(0).normal(size=(50, 2))
    map_figures.draw_paths("pca", ground, [("level 1", ground[:1])], Caption("50", "0-1"), None)
    dots, first, last = drawn[0].axes[0].collections
    assert [len(marks.get_offsets()) for marks in (dots, first, last)] == [1, 1, 1]


@pytest.mark.parametrize("count", [12, 40, 130])
def test_the_largest_clusters_are_numbered_and_no_number_lies_on_another(drawn, monkeypatch, count):
    monkeypatch.setattr(map_figures, "_PIXELS", 60)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(count), np.arange(count)[::-1] + 2)
    points = (rng.normal(size=(count, 2)) * 0.3)[labels] + rng.normal(size=(len(labels), 2)) * 0.05
    (cluster,) = (colouring for colouring in HIDDEN_COLOURINGS if colouring.label == "cluster")
    map_figures.draw_grid("tsne", points, {"cluster": labels}, [cluster], [], Caption("50", "0-1"), None)
    numbers = drawn[0].axes[0].texts
    assert {int(text.get_text()) for text in numbers} == set(range(min(count, 40)))
    assert overlapping(drawn[0], numbers) == []
    assert ("40 largest" in drawn[0]._supxlabel.get_text()) == (count > 40)


def test_every_score_of_a_probe_is_on_the_axis_or_has_an_arrow_with_its_number():
    axis = Figure().subplots()
    points = [
        (0, {"value": 0.8, "low": 0.3, "high": 0.9}),
        (1, {"value": -0.4}),
        (2, {"value": -7.0, "low": -9.0, "high": 1.2}),
        (3, {"value": None}),
    ]
    probes_plotting.fit_axis(axis, points, (0.0, 1.0), -1.0)
    low, high = axis.get_xlim()
    assert -1.1 < low < -1.0
    assert 1.2 < high < 1.3
    assert [text.get_text() for text in axis.texts] == ["-7"]
    assert [list(line.get_ydata()) for line in axis.lines] == [[2]]
    near = Figure().subplots()
    probes_plotting.fit_axis(near, points[:2], (0.0, 1.0), -1.0)
    assert -0.5 < near.get_xlim()[0] < -0.4
    assert not near.texts


def emerging(value: float, responds: bool) -> dict:
    """Numbers of one concept at two checkpoints, read below chance at the first."""

    def entry(at):
        return {"value": at, "low": at - 0.1, "high": at + 0.1}

    found = [
        {"encoder": entry(0.6), "value": entry(at), "decodable": at > 0.6, "responds": responds}
        for at in (value, 0.8)
    ]
    about = {"checkpoints": [{"steps": i * 1000, "concepts": {"pit": one}} for i, one in enumerate(found)]}
    return about | {
        "measures": {"pit": "AUROC"},
        "appears": {"pit": {"learned": None}},
        "steps": 1,
        "episodes": 1,
        "layouts": 1,
        "pairs": 1,
        "levels": "0-1",
    }


@pytest.mark.parametrize("responds", [False, True])
def test_what_is_read_below_chance_is_drawn_and_the_key_names_what_is_there(drawn, responds):
    emergence_plotting.draw(emerging(0.4, responds), None)
    assert drawn[0].axes[0].get_ylim()[0] < 0.3
    assert ("responds" in [text.get_text() for text in drawn[0].legends[0].get_texts()]) == responds
    assert ("red ring" in drawn[0]._supxlabel.get_text()) == responds


def test_every_cluster_of_latents_has_a_colour_and_the_other_kind_is_paler(drawn):
    rng = np.random.default_rng(0)
    names = ("informed", "random")
    maps = {name: rng.normal(size=(60, 2)) for name in names}
    columns = {
        "reward": rng.normal(size=60),
        "done": np.arange(60) % 2,
        "value": rng.normal(size=60),
        "cluster": np.arange(60),
    }
    latent_figures.draw_latents("pca", maps, dict.fromkeys(names, columns), "60", "0-1", None)
    other, informed = drawn[0].axes[3].collections[:2]
    assert len(np.unique(informed.get_facecolors(), axis=0)) >= 20
    assert not (informed.get_facecolors()[:, :3] == to_rgba(FLAG_OFF)[:3]).all(1).any()
    assert np.linalg.norm(np.diff(cielab([other.get_facecolors()[0][:3], FLAG_OFF]), axis=0)) > 10


def test_captions_write_levels_as_other_numbers():
    figure = Figure()
    add_caption(figure, "Text.", "3 seeds", "100206-499799")
    assert figure._supxlabel.get_text().endswith("levels 100,206-499,799.")
