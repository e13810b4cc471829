"""The sections of the demo's report on small artefacts: rules of choice, sentences and figures."""

import dataclasses
import os
from types import SimpleNamespace

import numpy as np
import pytest

import demo
from analysis.demo_report import deletion_section, model_section, report
from analysis.demo_report.decision_section import add_decision, calibration
from analysis.demo_report.deletion_section import (
    FEWEST_FOR_SLOPE,
    add_deletions,
    clearest,
    percent,
    running_mean,
    slope_sentence,
    value_change,
)
from analysis.demo_report.demo_results import DemoResults, latest_finished, score_in_words
from analysis.demo_report.figures import (
    draw_check,
    draw_gradient_maps,
    draw_map_of_worlds,
    draw_psnr,
    psnr_limits,
)
from analysis.demo_report.gradient_section import check_supports
from analysis.demo_report.probe_section import add_probes
from analysis.demo_report.push_section import add_push, caution, points
from analysis.demo_report.report import SECTIONS
from analysis.model_eval import eval_windows
from analysis.plotting.page import Page
from analysis.plotting.style import REAL
from common.checkpoints import write_json
from common.runs import UsageError
from common.stats import Estimate
from interpret.errors_in_variables import Line
from rollouts.store import Rollouts
from tests.scripts.test_record import models, store  # noqa: F401

STEPS = 13
POINTS = 4
DRAWS = 3
RNG = np.random.default_rng(0)


def results(tmp_path, env_name="coinrun", shipped=True):
    own = tmp_path / "own"
    agent = tmp_path / ("shipped" if shipped else "own")
    panel = tmp_path / "panel.html"
    return DemoResults(
        env_name, own, agent, {}, tmp_path, own, agent, own, agent, tmp_path, tmp_path, panel, 4
    )


@pytest.fixture
def hazards():
    """Fork points in both worlds, of which the agent dies in the second alone, where nothing is deleted."""
    found = {
        "layout": np.arange(POINTS),
        "level": np.arange(POINTS) + 7,
        "step": np.arange(POINTS),
        "episode": np.arange(POINTS),
    }
    shape = (STEPS, POINTS, DRAWS)
    for world in ("real", "simulated", "watched"):
        for arm in ("intact", "deleted"):
            done = np.zeros(shape, np.float32)
            done[5, 1] = arm == "intact"
            named = {
                "done": done,
                "coin": np.zeros(shape, np.float32),
                "running": np.ones(shape, bool),
                "action": np.zeros(shape, np.uint8),
            }
            named["value"] = np.full(shape, 4.0 + (arm == "deleted"), np.float32)
            named["frames"] = RNG.integers(0, 255, (6, POINTS, 8, 8, 3), np.uint8)
            found |= {f"{world}/{arm}/{name}": array for name, array in named.items()}
    return found


def test_the_fork_point_shown_is_where_deletion_helps_most(hazards):
    change = np.zeros((POINTS, DRAWS))
    change[1] = -1
    assert clearest(hazards, change) == 1
    hazards["real/deleted/value"][0, 2] += 3
    assert clearest(hazards, np.zeros((POINTS, DRAWS))) == 2
    np.testing.assert_allclose(value_change(hazards, "real"), [1, 1, 4, 1])


def test_the_section_on_deletion_says_what_changed(hazards, tmp_path, monkeypatch):
    monkeypatch.setattr(deletion_section, "latest_finished", lambda directory: tmp_path)
    monkeypatch.setattr(deletion_section, "read_part", lambda directory, name: hazards)
    page = Page("")
    add_deletions(page, results(tmp_path), tmp_path)
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "25% [0, 75]" in text
    assert "-25% [-75, +0]" in text
    assert "1.00 [1.00, 1.00]" in text
    assert f"n = {POINTS} fork points" in text
    assert "Level 8, step 1" in text
    assert (tmp_path / "deletion.png").exists()
    assert (tmp_path / "deletion_risk.png").exists()


def test_a_slope_needs_enough_fork_points():
    fitted = Line(*(np.full(3, 0.5) for _ in Line._fields))
    assert "too few for the slope" in slope_sentence(fitted, FEWEST_FOR_SLOPE - 1)
    assert slope_sentence(fitted, FEWEST_FOR_SLOPE).startswith(
        "Slope of the simulated on the real change: 0.50"
    )


@pytest.mark.parametrize("section", [add_deletions, add_probes, add_push, add_decision])
def test_other_games_leave_out_in_one_sentence_what_only_coinrun_has(section, tmp_path):
    page = Page("")
    section(page, results(tmp_path, "jumper", shipped=False), tmp_path)
    page.write(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("Left out") == 1


def dt_report() -> dict:
    row = {"solved": [0.5, 0.4, 0.6], "return": [5.0, 4.0, 6.0], "episodes": 30}
    paired = row | {"difference_from_agent": [-0.25, -1.0, 0.5]}
    return {
        "rows": {"agent": row, "clone": paired, "DT, asked 10": paired},
        "slope": [0.01, -0.1, 0.12],
        "ablation": {"state": {"kl": [1.5, 1.2, 1.8]}, "return_to_go": {"kl": [0.0001, None, None]}},
    }


def test_the_section_on_the_decision_transformer_has_one_table_and_says_what_asking_does(tmp_path):
    write_json(tmp_path / "scores.json", dt_report())
    page = Page("")
    add_decision(page, dataclasses.replace(results(tmp_path), dt_scores=tmp_path / "scores.json"), tmp_path)
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for words in (
        "50% [40%, 60%]",
        "-0.25 [-1.00, +0.50]",
        "DT, asked 10",
        "30 levels",
        "frames 1.5000 [1.2",
    ):
        assert words in text
    assert "no effect of asking can be seen" in text
    assert "can be seen" not in calibration({"slope": [0.9, 0.7, 1.1]})
    assert "can be seen" in calibration({"slope": [0.9, None, None]})


def test_few_states_are_not_read_as_no_effect():
    def numbers(*verdicts) -> dict:
        return {"effects": {str(i): {"death": {"verdict": one}} for i, one in enumerate(verdicts)}}

    assert caution(numbers("too few to say", "too few to say")).startswith("Too few states")
    assert caution(numbers("undecided", "without a null")).startswith("No null edits")
    assert "no effect" not in caution(numbers("too few to say"))
    assert points([0.031, -0.012, 0.071]) == "+3 [-1, +7]"
    assert points([-0.031, None, None]) == "-3"
    assert points([-0.031, float("nan"), float("nan")]) == "-3"


def test_the_run_finished_last_is_shown_and_a_missing_one_is_reported(tmp_path):
    with pytest.raises(UsageError, match="run the demo again"):
        latest_finished(tmp_path)
    for at, name in enumerate(("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "done.json").touch()
        os.utime(tmp_path / name / "done.json", (at, at))
    (tmp_path / "c").mkdir()  # not finished
    assert latest_finished(tmp_path) == tmp_path / "a"


def test_models_are_the_demos_and_the_shipped_one(tmp_path):
    assert list(results(tmp_path).models) == ["the demo's", "shipped"]
    assert list(results(tmp_path, shipped=False).models) == ["the demo's"]
    assert list(SECTIONS)[-1].startswith("Hazards deleted")


def test_numbers_are_written_with_their_intervals():
    assert score_in_words({"value": 1.234, "low": 1.0, "high": 2.0}) == "1.23 [1.00, 2.00]"
    assert score_in_words({"value": None, "low": None, "high": None}) == "–"
    assert percent(Estimate(0.5, 0.25, 1.0)) == "50% [25, 100]"
    assert percent(Estimate(-0.5, -1.0, 0.0), "+") == "-50% [-100, +0]"
    running = np.array([[True, True], [True, False], [False, False]])
    np.testing.assert_allclose(
        running_mean(np.array([[1.0, 3.0], [5.0, 9.0], [1.0, 1.0]]), running), [2, 5, np.nan]
    )


def line_of(*values):
    return [
        {"value": v, "low": None if v is None else v - 1, "high": None if v is None else v + 1, "n": 3}
        for v in values
    ]


def test_panels_share_a_range_and_every_figure_is_drawn(tmp_path):
    names = ("shifted_copy", "copy", "mean_frame", "a/open_loop", "a/posterior")
    scores = {name: line_of(None, 20.0 + i, 10.0) for i, name in enumerate(names)}
    assert psnr_limits(scores) == (8.0, 26.0)
    assert psnr_limits({}) == (0, 1)
    drawn = [draw_psnr(scores, "a", tmp_path / "psnr", "a model", psnr_limits(scores))]
    drawn.append(draw_map_of_worlds(RNG.normal(size=(9, 2)), RNG.normal(size=(3, 2)), tmp_path / "map"))
    maps = {f"map/{route}": RNG.random((2, 8, 8)) for route in ("agent", "untrained", "simulator")}
    frames = RNG.integers(0, 255, (2, 8, 8, 3), np.uint8)
    drawn.append(draw_gradient_maps({"frame": frames} | maps, {"median": 0}, set(), tmp_path / "maps"))
    grey = draw_gradient_maps({"frame": frames} | maps, {"median": 0}, {"simulator"}, tmp_path / "grey")
    assert grey.read_bytes() != drawn[-1].read_bytes()  # a route that fails its check loses its colour
    drawn.append(draw_check(RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3)), REAL, tmp_path / "check"))
    assert all(path.stat().st_size > 1000 for path in drawn)


def test_a_route_is_shown_in_colour_only_where_its_check_supports_it():
    supported = {"mean": 0.5, "low": 0.2, "high": 0.8}
    assert check_supports(supported)
    assert not check_supports(supported | {"low": -0.1})
    assert not check_supports(supported | {"mean": 0.25})
    assert not check_supports(None)


@pytest.mark.parametrize("small", [True, False])
def test_the_page_says_where_n_is_small(tmp_path, monkeypatch, small):
    monkeypatch.setattr(report, "SECTIONS", {})
    path = report.write_report(dataclasses.replace(results(tmp_path), small_n=small), tmp_path)
    assert ("Small n: " in path.read_text()) is small


def test_next_commands_name_the_demos_results(tmp_path):
    text = demo.next_commands(results(tmp_path))
    assert f"DATA={tmp_path}" in text
    assert "probes_plotting" in text
    assert "probes_plotting" not in demo.next_commands(results(tmp_path, "jumper", shipped=False))


def test_errors_of_demo_windows_carry_the_layout_and_level_of_each(store, monkeypatch):
    rollouts = Rollouts.open(store.path)
    parts = np.resize(["test", "train"], len(rollouts))
    monkeypatch.setattr(eval_windows, "split_by_layout", lambda layouts: parts)
    monkeypatch.setattr(model_section, "replay_cameras", lambda rollouts, segment: None)
    monkeypatch.setattr(model_section, "frame_errors", lambda *args: {"mse": np.zeros(1)})
    simulator = SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(num_initializing_steps=3)))
    found = model_section._errors({"own": simulator}, rollouts, 4)
    assert len(found["layout"]) == len(found["level"]) > 0
    assert set(found["level"]) <= set(rollouts.episodes["level_seed"][parts == "test"])
