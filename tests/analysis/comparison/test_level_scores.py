"""Levels solved next to the agent: paired differences, the margin, and reports that do not fit."""

import json

import numpy as np
import pytest

from analysis import decision_levels_plotting
from analysis.comparison.level_scores import MARGIN, draw_levels, level_scores
from common.errors import UsageError
from common.stats import cluster_bootstrap

LEVELS = np.arange(300)


def row(solved: np.ndarray, target=None) -> dict:
    share = cluster_bootstrap(solved, LEVELS)
    episodes = {"level": LEVELS.tolist(), "outcome": np.where(solved, 0, 1).tolist()}
    return {"target": target, "solved": list(share)[:3], "per_episode": episodes}


def report(lost: float = 0.0, seed: int = 0) -> dict:
    """An agent that solves about 80% of 300 levels; a Decision Transformer that fails in `lost` more."""
    rng = np.random.default_rng(seed)
    agent = rng.random(300) < 0.8
    fails = np.flatnonzero(agent)[: round(300 * lost)]
    rows = {"agent": row(agent), "DT, asked 10": row(agent & ~np.isin(LEVELS, fails), 10.0)}
    asked = {"levels": "new", "behaviour": "agent", "start_level": 0, "seed": 0}
    return {
        "asked": asked,
        "rows": rows,
        "env": {},
        "manifest": {"inputs": {"dt_file": "a"}},
        "slope": [0, 0, 0],
    }


def test_differences_are_paired_by_level():
    made = report(lost=0.2)
    found = level_scores(made)["rows"]["DT, asked 10"]
    agent, dt = (np.array(made["rows"][name]["per_episode"]["outcome"]) == 0 for name in made["rows"])
    value, low, high = found["solved_minus_agent"]
    assert value == pytest.approx(dt.mean() - agent.mean())
    assert high - low < 2 * 1.96 * np.sqrt((agent.var() + dt.var()) / 300)  # narrower than unpaired
    expected = cluster_bootstrap(dt.astype(float) - agent, LEVELS)
    assert [low, high] == pytest.approx([expected.low, expected.high], abs=0.01)


def test_only_an_interval_inside_the_margin_counts_as_no_difference():
    assert level_scores(report(0.0))["rows"]["DT, asked 10"]["within_margin"]
    lost = level_scores(report(0.3))["rows"]["DT, asked 10"]
    assert not lost["within_margin"]
    assert lost["solved_minus_agent"][2] < -MARGIN
    unsure = level_scores(report(0.04))["rows"]["DT, asked 10"]
    assert unsure["solved_minus_agent"][1] < -MARGIN < unsure["solved_minus_agent"][0]
    assert not unsure["within_margin"]


def test_single_episodes_are_left_out_and_the_levels_are_named():
    found = level_scores(report())
    assert "per_episode" not in json.dumps(found)
    assert found["range"] == [0, 299]
    assert found["rows"]["agent"]["levels"] == 300
    assert found["slope"] == [0, 0, 0]
    assert "solved_minus_agent" not in found["rows"]["agent"]


def test_the_figure_and_the_numbers_are_written(tmp_path):
    files = []
    for name in ("trained", "new"):
        made = report(seed=len(files))
        if not files:
            made["rows"]["clone"] = made["rows"]["agent"]
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(made))
    args = decision_levels_plotting.Args(
        tuple(files), results=tmp_path / "r.json", images=tmp_path / "images", out_dir=tmp_path
    )
    decision_levels_plotting.main(args)
    assert list(json.loads((tmp_path / "r.json").read_text())) == ["trained", "new"]
    assert (tmp_path / "images" / "decision_levels.png").read_bytes() == (
        tmp_path / "decision_plots" / "decision_levels.png"
    ).read_bytes()
    named = decision_levels_plotting.Args(tuple(files), ("a", "b"), tmp_path / "named.json", None, tmp_path)
    decision_levels_plotting.main(named)
    assert list(json.loads((tmp_path / "named.json").read_text())) == ["a", "b"]


def test_reports_that_do_not_fit_are_refused(tmp_path):
    good, lonely, other = (tmp_path / f"{name}.json" for name in ("good", "lonely", "other"))
    good.write_text(json.dumps(report()))
    made = report()
    made["rows"]["clone"] = made["rows"].pop("DT, asked 10")
    other.write_text(json.dumps(made))
    del made["rows"]["agent"]
    lonely.write_text(json.dumps(made))
    for files, names, message in (
        ((), (), "no scores were given"),
        ((lonely,), (), "no scores of an agent to compare with"),
        ((tmp_path / "none.json",), (), "cannot be read"),
        ((good, other), (), "policies that the first report lacks: .*clone"),
        ((good,), ("a", "b"), "gives 2 names for 1 files"),
    ):
        with pytest.raises(UsageError, match=message):
            decision_levels_plotting.main(decision_levels_plotting.Args(files, names, out_dir=tmp_path))


def test_the_figure_shows_the_published_share(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "analysis.comparison.level_scores.save_figure", lambda figure, path: shown.append(figure) or [path]
    )
    draw_levels({"new": level_scores(report())}, tmp_path / "x")
    lines = [line.get_xdata()[0] for line in shown[0].axes[0].lines]
    assert 0.79 in lines
    assert 0.94 in lines


def test_scores_without_an_interval_are_drawn_as_points(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "analysis.comparison.level_scores.save_figure", lambda figure, path: shown.append(figure) or [path]
    )
    scores = level_scores(report())
    scores["rows"]["agent"]["solved"][1:] = [None, None]  # as JSON holds it
    draw_levels({"new": scores}, tmp_path / "x")
    points, _, (bars,) = shown[0].axes[0].containers[0]
    assert points.get_xdata().tolist() == [row["solved"][0] for row in scores["rows"].values()]
    assert [len(bar) for bar in bars.get_segments()] == [0, 2]
