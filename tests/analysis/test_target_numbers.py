"""Numbers of target functions, and the directions, clusters and moments that targets name."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import hidden_analysis_precompute as precompute
from analysis.io.steps import read_numbers, read_part
from analysis.plotting.style import new_figure
from analysis.targets import figures
from analysis.targets.experiment import ARMS
from analysis.targets.figures import few_levels
from analysis.targets.numbers import pairwise_interval, target_numbers
from analysis.targets.places import read_clusters
from analysis.targets.results import log_results
from analysis.targets.strips import strip_starts
from common.runs import UsageError
from common.stats import NO_INTERVALS
from interpret.clustering import Clusters
from interpret.directions.directions import load_directions
from interpret.subsample import scores_of
from tests.helpers.map_store import write_map_store


def test_diversity_is_the_mean_over_pairs_with_an_interval_over_latents():
    points = np.random.default_rng(0).normal(size=(12, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    found = pairwise_interval(distances)
    pairs = [distances[i, j] for i, j in itertools.combinations(range(12), 2)]
    assert found["mean"] == pytest.approx(np.mean(pairs))
    assert found["low"] < found["mean"] < found["high"]
    assert pairwise_interval(distances[:1, :1]) is None
    twins = pairwise_interval(np.ones((5, 5)) - np.eye(5))
    assert (twins["low"], twins["high"]) == (pytest.approx(1), pytest.approx(1))
    few = pairwise_interval(np.ones((4, 4)) - np.eye(4))
    assert (few["mean"], few["low"], few["high"]) == (pytest.approx(1), None, None)


def planted_parts(n: int = 6) -> dict:
    """Optimised latents score 2 more than their starts; the first half has a moment near it."""
    rng = np.random.default_rng(1)
    start = rng.normal(size=n)
    report, shown = {}, {}
    for arm in ARMS:
        value = start + 2 * (arm == "optimised")
        report |= {f"{arm}.{name}": value for name in ("value", "score", "ended", "percentile", "moved")}
        report |= {f"{arm}.{kind}_distance": np.ones((n, n)) - np.eye(n) for kind in ("frame", "latent")}
        for kind in ("hidden", "latent"):
            shown[f"{arm}.{kind}.moment"] = np.arange(n)
            shown[f"{arm}.{kind}.percentile"] = np.where(np.arange(n) < n // 2, 95.0, 95.1)
        shown[f"{arm}.value"] = value
    candidates = {"value": np.array([1.0, 3.0])}
    return {
        "recorded": candidates,
        "random": candidates,
        "levels": dict.fromkeys(ARMS, np.arange(n)),
        "curves": {"value": np.zeros((2, n)), "percentile": np.full((2, n), np.nan)},
        "report": report,
        "shown": shown,
        "own": {"best_recorded": np.where(np.arange(n) < 4, 3.0, np.nan)},
    }


def test_gains_are_paired_by_start_and_matches_are_those_near_enough():
    real = np.array([5.0, np.nan, 7.0, 9.0, 9.0, 9.0])
    found = target_numbers(planted_parts(), real)
    gain = found["gain_over"]["start"]
    assert (gain["mean"], gain["low"], gain["high"]) == pytest.approx((2, 2, 2))
    match = found["arms"]["optimised"]["matches"]["hidden"]
    assert (match["near"], match["n"]) == (3, 6)
    assert (match["real_value"]["mean"], match["real_value"]["n"]) == (6.0, 2)  # moments 0 and 2
    assert [latent["hidden"]["near"] for latent in found["arms"]["optimised"]["latents"]] == [True] * 3 + [
        False
    ] * 3
    same = found["arms"]["best_recorded"]["same_moments"]
    assert (same["real_value"]["mean"], same["real_value"]["n"], same["simulated_value"]["n"]) == (3.0, 4, 4)
    assert found["real"]["n"] == 5
    assert found["scale"] == 1
    assert "percentile" not in found["curves"]


def test_without_real_values_the_rest_is_there():
    found = target_numbers(planted_parts(), None)
    assert found["real"] is None
    assert "real_value" not in found["arms"]["start"]["matches"]["hidden"]


def test_so_few_starts_have_no_intervals_in_numbers_and_figure(tmp_path, caplog):
    few, enough = (run_of(target_numbers(planted_parts(n), np.arange(float(n)))) for n in (4, 5))
    for found, known in ((few, False), (enough, True)):
        target = found["targets"]["increase_x"]
        values = [target["arms"][arm]["value"] for arm in ARMS] + list(target["gain_over"].values())
        assert {value[end] is not None for value in values for end in ("low", "high")} == {known}
        assert few_levels(target) is not known
        caplog.clear()
        with caplog.at_level("INFO"):
            log_results(found, tmp_path)
        assert (NO_INTERVALS in caplog.text) is not known
        assert ("[" in caplog.text) is known
        figure = drawn(found, tmp_path)
        bars = [line for line in figure.axes[1].lines if len(set(line.get_ydata())) == 2]
        assert len(bars) == len(ARMS) * known  # planted values differ between starts
        assert len(figure.axes[0].patches) == 2 * known
        assert ("mean, 95%" in names_of(figure)) is known


def run_of(target: dict) -> dict:
    """Numbers of a run with one target."""
    facts = {"goal": "increase", "function": "x", "step": 4}
    sizes = {"starts": 4, "moments": 9, "moment_levels": 9, "report_rollouts": 2, "eval_every": 1}
    sizes |= {"iterations": 1, "near_percentile": 95.0, "moment_level_range": [3, 9000]}
    return sizes | {"targets": {"increase_x": facts | target}}


def drawn(numbers: dict, directory: Path):
    """The figure of a run."""
    kept = []

    def keep(figure, path):
        kept.append(figure)
        return [path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_figure", keep)
        figures.draw_targets(numbers, list(numbers["targets"]), directory / "x.png")
    return kept[0]


def names_of(figure) -> set[str]:
    return {text.get_text() for text in figure.legends[0].get_texts()}


def test_every_line_of_the_figure_has_a_name_outside_the_axes(tmp_path):
    numbers = run_of(target_numbers(planted_parts(), np.arange(6.0)))
    numbers["targets"]["x=5"] = numbers["targets"]["increase_x"] | {"goal": 5.0}
    figure = drawn(numbers, tmp_path)
    assert all(axis.get_legend() is None for axis in figure.axes)
    named = {line.get_linestyle() for line in figure.legends[0].get_lines()}
    assert {line.get_linestyle() for axis in figure.axes for line in axis.lines} <= named
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(axis.get_window_extent()) for axis in figure.axes)
    assert {"wanted", "simulated = real", "95% of recorded latents"} <= names_of(figure)
    captions = [text.get_text() for text in figure.texts]
    assert any("levels 0-5 (starts), 3-9,000 (moments)" in " ".join(text.split()) for text in captions)
    without = drawn(run_of(target_numbers(planted_parts(), None)), tmp_path)
    assert not {"wanted", "simulated = real"} & names_of(without)


@pytest.mark.parametrize(("goal", "title", "lines"), [("decrease", "x ↓", 0), (5.0, "x", 1)])
def test_the_figure_says_what_is_wanted(goal, title, lines):
    interval = {"mean": 0.0, "low": -1.0, "high": 1.0}
    arms = {arm: {"value": interval, "latents": [{"value": 0.0}]} for arm in ARMS}
    target = {"goal": goal, "curves": {"value": [[0.0], [1.0]]}, "arms": arms, "function": "x", "step": 4}
    _, axes = new_figure(1, 2)
    figures._curve(axes[0, 0], "x", target, {"eval_every": 1, "iterations": 1})
    figures._values(axes[0, 1], target)
    assert axes[0, 0].get_title(loc="left") == title
    for axis in axes[0]:
        dashed = [
            line for line in axis.lines if line.get_linestyle() == "--" and line.get_color() == "#222222"
        ]
        assert [set(line.get_ydata()) for line in dashed] == [{goal}] * lines


def test_strips_show_the_best_the_median_and_the_worst():
    assert strip_starts(np.array([3.0, 9.0, 1.0, 5.0, 4.0])) == {"best": 1, "median": 4, "worst": 2}
    assert strip_starts(np.array([3.0])) == {"best": 0}
    assert strip_starts(np.array([3.0, 4.0])) == {"best": 1, "worst": 0}


@pytest.fixture(scope="module")
def hidden_analysis(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clusters")
    store = write_map_store(directory / "real", 40)
    fast = dict(methods=("pca",), maps=(), draws=0, clusters=3, components=3, counts=(2,), points=200)
    fast |= dict(path_episodes=2, frames_per_cluster=2, num_threads=1)
    precompute.main(precompute.Args(data_dir=directory / "real", out_dir=directory, **fast))
    return store, (directory / "hx_analysis_precomp" / "latest").resolve()


def test_clusters_are_places_whose_nearest_one_is_the_cluster(hidden_analysis):
    store, directory = hidden_analysis
    places = read_clusters(directory, "agent")
    hidden = torch.from_numpy(store.hidden_after()[:300])
    nearest = torch.stack([place.distance(hidden) for place in places.values()]).argmin(0)
    pca = load_directions(directory / "pca.safetensors").first(read_numbers(directory)["axes"])
    wanted = Clusters(read_part(directory, "clusters")["centres"]).assign(scores_of(pca, hidden.numpy()))
    assert nearest.tolist() == wanted.tolist()
    assert len(set(wanted)) == 3
    assert list(places) == ["cluster_0", "cluster_1", "cluster_2"]


def test_an_analysis_of_another_agent_or_none_is_refused(hidden_analysis, tmp_path):
    with pytest.raises(UsageError, match="was fit on agent agent, not on other"):
        read_clusters(hidden_analysis[1], "other")
    with pytest.raises(UsageError, match="no finished artefacts"):
        read_clusters(tmp_path, "agent")
    assert read_clusters(None, "agent") == {}
