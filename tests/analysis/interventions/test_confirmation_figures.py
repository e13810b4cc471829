"""Figures of registered hypotheses: drawn from the numbers, worlds in their own colours, no text cut off."""

import copy
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis import confirmations_plotting
from analysis.interventions import forest, prediction_figure
from analysis.interventions.confirmation import STEP, VERSION
from analysis.io.steps import finish_step, open_step
from analysis.plotting.style import REAL, SIMULATED
from common.cli import parse
from common.errors import UsageError
from tests.helpers.figure_checks import cut_texts, overlapping

EVENTS = ("death", "coin", "jump", "left")


def world_numbers(effect: float, verdict: str, beyond: bool) -> dict:
    return {
        "effects": {event: [effect, effect - 0.02, effect + 0.02] for event in EVENTS},
        "at_null_points": [effect + 0.01, effect - 0.05, effect + 0.07],
        "doses": [[s, s * effect, s * effect - 0.03, s * effect + 0.03] for s in (0.25, 0.5, 1.0, 1.5, 2.0)],
        "p_holm": 0.05,
        "verdict": verdict,
        "manifold": {"descriptive_only": beyond},
    }


@pytest.fixture
def numbers() -> dict:
    rng = np.random.default_rng(0)
    nulls = {"KL-matched": {"effects": {event: rng.normal(0, 0.03, 99).tolist() for event in EVENTS}}}
    hypotheses = [
        {
            "touched": [name], "event": event, "change": change, "smallest_effect": 0.03,
            "edit": {"values": [-1.0]},
            "worlds": {
                "real": world_numbers(effect, "confirmed", False),
                "simulator": world_numbers(effect / 2, "undecided", True),
            },
        }
        for name, event, change, effect in (
            ("saw_ahead", "death", "fall", -0.08),
            ("support", "jump", "rise", 0.05), ("x", "left", "fall", 0)
        )
    ]  # fmt: skip
    effects = rng.normal(0, 0.05, 99)
    found = {"effect": effects.tolist(), "error": [0.01] * 99}
    event = {name: [0.8, 0.7, 0.9] for name in ("r", "r_corrected")}
    event |= {"real": found, "simulated": found}
    event |= {"reliability_real": [0.9, 0.8, 0.95], "reliability_simulated": [0.9, 0.8, 0.95]}
    event["one_step"] = {"r": [0.5, 0.4, 0.6], "r_corrected": [0.6, 0.5, 0.7], "choice": "up"}
    event["one_step"]["shift"] = effects.tolist()
    undefined = copy.deepcopy(event) | {"r": [None] * 3, "r_corrected": [None] * 3}
    return {
        "shared": {"null_points": 120, "kl": 0.02}, "fork_points": 2000, "layouts": 2000,
        "levels": [500_000, 549_999], "hypotheses": hypotheses,
        "worlds": {name: {"nulls": nulls} for name in ("real", "simulator")},
        "prediction": {
            "directions": 99, "fork_points": 120,
            "events": {"death": event, "coin": undefined, "jump": event, "left": event},
        },
    }  # fmt: skip


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    save = lambda figure, path: (figures.append(figure), [path])[1]  # noqa: E731
    for module in (forest, prediction_figure):
        monkeypatch.setattr(module, "save_figure", save)
    return figures


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_the_forest_shows_effects_verdicts_and_what_is_descriptive(numbers, drawn, tmp_path):
    forest.draw(numbers, tmp_path / "f")
    (figure,) = drawn
    assert cut_texts(figure) == []
    assert overlapping(figure, [text for axis in figure.axes for text in axis.texts]) == []
    assert texts_of(figure)[:2] == ["game: confirmed (p = 0.05)", "simulator: undecided* (p = 0.05)"]
    lines = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert {(REAL["color"], "-"), (SIMULATED["color"], "--")} <= lines
    label = figure.axes[0].get_yticklabels()[0].get_text()
    assert label == "\N{MINUS SIGN}saw_ahead: death\nshould fall"
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert points == pytest.approx([-8, -7])
    assert len(figure.axes) == 3 * len(numbers["hypotheses"])


def test_the_forest_follows_the_numbers(numbers, drawn, tmp_path):
    numbers["hypotheses"][0]["worlds"]["real"] = world_numbers(0.2, "refuted", True)
    forest.draw(numbers, tmp_path / "f")
    (figure,) = drawn
    assert texts_of(figure)[0] == "game: refuted* (p = 0.05)"
    assert next(line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o") == 20


def test_the_prediction_has_a_column_for_each_event_with_variance(numbers, drawn, tmp_path):
    prediction_figure.draw(numbers, tmp_path / "p")
    (figure,) = drawn
    assert [axis.get_title(loc="left") for axis in figure.axes[:3]] == ["death", "jump", "left"]
    assert len(figure.axes) == 6
    assert cut_texts(figure) == []
    said = texts_of(figure)
    assert said[0] == "r = 0.80\ncorrected 0.80 [0.70, 0.90]"
    assert "r = 0.50\ncorrected 0.60 [0.50, 0.70]" in said


def test_what_noise_hides_is_not_corrected_for(numbers, drawn, tmp_path):
    numbers["prediction"]["events"]["death"]["reliability_simulated"] = [0.1, -0.2, 0.4]
    numbers["prediction"]["events"]["left"] = copy.deepcopy(numbers["prediction"]["events"]["jump"])
    prediction_figure.draw(numbers, tmp_path / "p")
    (figure,) = drawn
    assert texts_of(figure)[0] == "r = 0.80\ncorrected not identified"
    assert figure.axes[3].texts[0].get_text() == "r = 0.50\ncorrected 0.60 [0.50, 0.70]"


@pytest.fixture
def plot(tmp_path, monkeypatch, numbers):
    """The script, where confirm.py has left two runs of 2,000 and of 50 fork points."""
    drawn = []
    for module in (forest, prediction_figure):
        monkeypatch.setattr(module, "draw", lambda given, path: draw_stub(drawn, given, path))
    runs = {}
    for points in (50, 2000):
        run = open_step(tmp_path / "out", STEP, VERSION, {"points": points}, {})
        finish_step(run, numbers | {"fork_points": points})
        runs[points] = run.dir

    def main(words=""):
        drawn.clear()
        words = f"--out_dir {tmp_path / 'out'} {words}"
        confirmations_plotting.main(parse(confirmations_plotting.Args, "", words.split()))
        return drawn

    return main, runs, tmp_path


def draw_stub(drawn, given, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.with_suffix(".png")).write_bytes(b"")
    drawn.append((given["fork_points"], path.name))
    return path.with_suffix(".png")


def test_the_latest_run_is_drawn_or_the_chosen_one_or_published_numbers(plot, numbers):
    main, runs, place = plot
    assert main() == [(2000, "confirmations"), (2000, "prediction")]
    assert main(f"--precomp_dir {runs[50]}")[0] == (50, "confirmations")
    published = {name: one for name, one in numbers.items() if name != "prediction"}
    (place / "n.json").write_text(json.dumps(published | {"fork_points": 7}))
    assert main(f"--numbers {place / 'n.json'}") == [(7, "confirmations")]


def test_figures_and_numbers_are_published_where_asked(plot):
    main, _, place = plot
    main(f"--results {place / 'r.json'} --images {place / 'images'}")
    assert json.loads((place / "r.json").read_text())["fork_points"] == 2000
    assert {one.name for one in (place / "images").iterdir()} == {"confirmations.png", "prediction.png"}
    assert (place / "out" / "confirmations_plots" / "confirmations.png").exists()


def test_other_numbers_are_refused(plot):
    main, runs, place = plot
    (place / "n.json").write_text("{}")
    with pytest.raises(UsageError, match="no tested hypotheses"):
        main(f"--numbers {place / 'n.json'}")
    with pytest.raises(UsageError, match="give one of them"):
        main(f"--numbers {place / 'n.json'} --precomp_dir {runs[50]}")
