"""Figures of a recording by player and of return conditioning show the numbers of store and scores."""

import json

import numpy as np
import pytest

from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from analysis import decision_plotting
from analysis.decision_plotting import Args, main, names_of
from analysis.plotting import decision_figures
from common.runs import UsageError, file_id
from decision.players import players, summarize_players
from rollouts.store import Rollouts
from tests.helpers.made_store import make_store


@pytest.fixture
def data_dir(tmp_path):
    return make_store(tmp_path / "data", [5, 3, 8, 2], [4, 6, 1]).path


def scores(path, targets=(0.0, 4.0, 8.0)):
    """A report of evaluate_dt.py in which the return achieved is half the one asked for."""
    rows = {
        f"DT, asked {target:g}": {
            "target": target,
            "episodes": 2,
            "return": [target / 2, target / 2 - 1, target / 2 + 1],
            "per_episode": {"level": [250, 251]},
        }
        for target in targets
    }
    clone = {"target": None, "return": [3.0, 2.5, 3.5], "per_episode": {"level": [250, 251]}}
    path.write_text(json.dumps({"rows": {"clone": clone} | rows, "rank_correlation": [1.0, 0.9, 1.0]}))
    return path


def drawn(monkeypatch, data_dir, tmp_path, **changed):
    """The figures of a run by their file names, before they are saved."""
    figures = {}
    monkeypatch.setattr(
        decision_figures, "save_figure", lambda figure, path: figures.setdefault(path.name, figure) and [path]
    )
    main(Args(data_dir=data_dir, out_dir=tmp_path / "out", **changed))
    return figures


def test_the_calibration_curve_is_that_of_the_scores(monkeypatch, data_dir, tmp_path):
    figures = drawn(monkeypatch, data_dir, tmp_path, dt_scores=scores(tmp_path / "scores.json"))
    axis = figures["decision_calibration.png"].axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    np.testing.assert_allclose(lines["clone"].get_ydata(), [3, 3])
    np.testing.assert_allclose(lines["as asked"].get_xdata(), lines["as asked"].get_ydata())
    (curve,) = axis.containers
    np.testing.assert_allclose(curve.lines[0].get_ydata(), [0, 2, 4])
    store = Rollouts.open(data_dir)
    quantiles = [n["return_quantiles"][2] for n in summarize_players(store, players(store)).values()]
    medians = [line.get_xdata()[0] for line in figures["decision_calibration.png"].axes[1].get_lines()[2::3]]
    np.testing.assert_allclose(medians, quantiles)


def test_other_training_seeds_are_drawn_and_published(monkeypatch, data_dir, tmp_path):
    asked = {"dt_scores": scores(tmp_path / "scores.json"), "results": tmp_path / "numbers.json"}
    other = scores(tmp_path / "other.json", targets=(0.0, 6.0, 8.0))
    figures = drawn(monkeypatch, data_dir, tmp_path, seed_scores=(other,), **asked)
    lines = {line.get_label(): line for line in figures["decision_calibration.png"].axes[0].get_lines()}
    np.testing.assert_allclose(lines["other training seeds"].get_xdata(), [0, 6, 8])
    np.testing.assert_allclose(lines["other training seeds"].get_ydata(), [0, 3, 4])
    (published,) = json.loads((tmp_path / "numbers.json").read_text())["seeds"]
    assert published["rank_correlation"] == [1.0, 0.9, 1.0]
    with pytest.raises(UsageError, match="give that file, too"):
        drawn(monkeypatch, data_dir, tmp_path, seed_scores=(other,))


@pytest.mark.parametrize("value", [0.9, None])
def test_scores_of_few_levels_have_no_intervals_and_are_drawn(monkeypatch, data_dir, tmp_path, value):
    path = scores(tmp_path / "scores.json")
    report = json.loads(path.read_text()) | {"rank_correlation": [value, None, None]}
    for row in report["rows"].values():
        row["return"][1:] = [None, None]
    path.write_text(json.dumps(report))
    figures = drawn(monkeypatch, data_dir, tmp_path, dt_scores=path)
    (curve,) = figures["decision_calibration.png"].axes[0].containers
    np.testing.assert_allclose(curve.lines[0].get_ydata(), [0, 2, 4])


@pytest.mark.parametrize("high", [3, 39, 40, 163])
def test_bins_hold_equally_many_whole_numbers(high):
    values = np.arange(-4.0, high + 1)
    counts, _edges = np.histogram(values, decision_figures.bins_of(values))
    assert counts.sum() == len(values)
    assert set(counts[:-1]) == {counts[0]}
    assert len(counts) <= decision_figures.BINS + 1


def test_bins_of_fractions_span_them():
    edges = decision_figures.bins_of(np.array([0.5, 2.25]))
    assert (edges[0], edges[-1], len(edges)) == (0.5, 2.25, decision_figures.BINS + 1)


def test_without_scores_the_recording_alone_is_drawn(monkeypatch, data_dir, tmp_path):
    figures = drawn(monkeypatch, data_dir, tmp_path)
    assert set(figures) == {"decision_data.png"}
    lengths, actions, rtg = figures["decision_data.png"].axes
    points = np.concatenate([part.get_offsets() for part in lengths.collections])
    episodes = Rollouts.open(data_dir).episodes
    assert sorted(map(tuple, points)) == sorted(zip(episodes["length"], episodes["return"]))
    assert all(line.get_ydata().sum() == pytest.approx(1) for line in actions.get_lines())
    assert sum(bar.get_height() for bar in rtg.patches) == episodes["length"].sum()


def test_figures_and_numbers_are_written_and_published(data_dir, tmp_path):
    results, images = tmp_path / "numbers.json", tmp_path / "images"
    main(
        Args(
            data_dir=data_dir,
            out_dir=tmp_path / "out",
            dt_scores=scores(tmp_path / "scores.json"),
            results=results,
            images=images,
        )
    )
    names = {"decision_data.png", "decision_calibration.png"}
    assert {path.name for path in (tmp_path / "out" / "decision_plots").iterdir()} == names
    assert {path.name for path in images.iterdir()} == names
    numbers = json.loads(results.read_text())
    assert numbers["data"] == Rollouts.open(data_dir).id
    assert sum(n["episodes"] for n in numbers["players"].values()) == 7
    assert numbers["scores"]["range"] == [250, 251]
    assert numbers["scores"]["rank_correlation"] == [1.0, 0.9, 1.0]
    row = {"target": 4.0, "episodes": 2, "return": [2.0, 1.0, 3.0], "levels": 2}
    assert numbers["scores"]["rows"]["DT, asked 4"] == row


def test_checkpoints_are_named_by_their_training_steps(monkeypatch, data_dir, tmp_path):
    agent = ActorCritic(NetworkConfig(5, (8, 8, 3), "impala", 8, hidden_size=3))
    for name, steps in (("begun", 0), ("done", 250_000), ("unknown", None)):
        meta = {} if steps is None else {"timesteps": steps}
        save_agent(tmp_path / f"{name}.safetensors", agent, meta)
    files = tuple(tmp_path / f"{name}.safetensors" for name in ("begun", "done"))
    assert names_of(files) == {file_id(files[0]): "untrained", file_id(files[1]): "250,000 steps"}
    monkeypatch.setattr(decision_plotting, "file_id", lambda path: "abc")
    figures = drawn(monkeypatch, data_dir, tmp_path, agent_files=files[1:])
    (lengths, *_) = figures["decision_data.png"].axes
    labels = {part.get_label() for part in lengths.collections}
    assert labels == {"250,000 steps", "250,000 steps, greedy"}
    with pytest.raises(UsageError, match="does not say how long it was trained"):
        names_of((tmp_path / "unknown.safetensors",))


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "evaluate_dt.py"), ('{"rows": {}}', "three target returns"), (None, "cannot be read")],
)
def test_other_files_are_refused(data_dir, tmp_path, content, message):
    path = tmp_path / "other.json"
    if content:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        main(Args(data_dir=data_dir, dt_scores=path, out_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
