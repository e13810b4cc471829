"""The summary gives back what was put into the parts, kind by kind, and the figure is drawn from it alone."""

import json

import numpy as np
import pytest

from analysis.io.shared_args import CONTEXT_FRAMES
from analysis.memory.figure import draw
from analysis.memory.summary import FULL_HISTORY_STEP, VELOCITY_BIN_EDGES, VERSION, policy_variants, summarize
from analysis.memory.truncated_history import MEASURES
from analysis.memory_plotting import Args, main
from common.runs import UsageError
from tests.helpers.planted_memory import KL, LEVELS, SOLVED, STEPS, made_parts

ABOUT = {"frames": list(CONTEXT_FRAMES), "env": {"blink": False}}


@pytest.fixture(scope="module")
def summary() -> dict:
    return summarize(*made_parts(), reward_scale=0.5)


def values(numbers, start: int = 0) -> np.ndarray:
    return np.array([starts[start][0] for starts in numbers])


def test_changes_are_told_by_kind_of_step_start_and_number_of_frames(summary):
    steps = summary["steps"]
    assert steps["all"]["n"] == LEVELS * STEPS
    assert steps["all"]["levels"] == LEVELS
    assert steps["ground"]["n"] + steps["air"]["n"] == steps["all"]["n"]
    assert steps["hazard near"] == {"n": 0, "levels": 0} | dict.fromkeys(MEASURES)
    assert values(steps["ground"]["kl"]) == pytest.approx(KL, rel=0.05)
    assert values(steps["air"]["kl"]) == pytest.approx(2 * KL, rel=0.05)
    assert values(steps["ground"]["kl"], 1) == pytest.approx(2 * values(steps["ground"]["kl"]))
    rewards = 2.5 * values(steps["ground"]["kl"])  # 5 of the agent's units, half a reward each
    assert values(steps["ground"]["value_change"]) == pytest.approx(rewards)
    assert summary["late_steps"]["all"]["n"] == LEVELS * (STEPS - FULL_HISTORY_STEP)
    low, high = np.array([starts[0][1:] for starts in steps["all"]["kl"]]).T
    assert (low <= values(steps["all"]["kl"])).all()
    assert (values(steps["all"]["kl"]) <= high).all()


def test_black_frames_are_told_apart_by_whether_the_last_frames_show_anything(summary):
    for name, sign in (("nothing shown", 1), ("something shown", -1)):
        for one in summary["black_frames"][name]:
            runs = np.arange(1, 7)  # the made-up black runs, as often as there are levels
            assert (
                one["steps"] == LEVELS * (runs >= one["frames"] if sign > 0 else runs < one["frames"]).sum()
            )
            assert (one["kl"] is None) == (one["steps"] == 0)


def test_levels_are_compared_with_the_whole_agents(summary):
    assert tuple(summary["levels"]) == policy_variants(CONTEXT_FRAMES)
    for name in policy_variants(CONTEXT_FRAMES):
        one = summary["levels"][name]
        assert one["solved"][0] == pytest.approx(SOLVED[name] / LEVELS)
        assert one["change"][0] == pytest.approx((SOLVED[name] - SOLVED["all"]) / LEVELS)
        assert one["solved"][0] + one["died"] + one["timed out"] == pytest.approx(1)
    assert summary["levels"]["16"]["as the whole agent"] == 1
    assert summary["levels"]["1"]["as the whole agent"] < 1
    assert summary["levels"]["16"]["change"] == [0, 0, 0]
    assert summary["levels"]["0"]["change"][2] < 0


def test_of_the_fork_points_only_those_with_the_same_frame_count(summary):
    history = summary["counterfactual_history"]
    assert history["fork_points"] == 200
    assert history["all"]["n"] == 150 == history["ground"]["n"] + history["air"]["n"]
    assert history["all"]["share_of_other"][0] == pytest.approx(history["all"]["kl"][0][0] / 2)
    bins = history["all"]["by_difference"]
    assert len(bins) == len(VELOCITY_BIN_EDGES) - 1
    assert sum(one["n"] for one in bins) == 150
    for one in bins:
        assert one["kl"][0][0] == pytest.approx(one["difference"], rel=1e-6)


def test_an_agent_without_memory_has_no_share_and_no_change():
    parts, concepts = made_parts()
    for part in ("steps", "counterfactual_history"):
        parts[part] |= {name: parts[part][name] * 0 for name in ("kl", "total_variation", "value_change")}
    found = summarize(parts, concepts, 1.0)
    assert found["counterfactual_history"]["all"]["share_of_other"] is None
    assert found["largest_change_from_1_frame_on"] == {"kl": 0, "total_variation": 0, "value_change": 0}
    assert summarize(*made_parts(), 1.0)["largest_change_from_1_frame_on"]["kl"] > 0.5


def finished(path, summary):
    """A directory as the precompute step leaves it."""
    path.mkdir(parents=True)
    for name, content in {"config": {"version": VERSION}, "numbers": ABOUT | summary, "done": {}}.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def test_the_figure_and_the_file_of_numbers_need_nothing_but_finished_artefacts(summary, tmp_path):
    plots = tmp_path / "memory_plots"
    with pytest.raises(UsageError, match="no finished artefacts .*memory_precompute"):
        main(Args(out_dir=tmp_path))
    one = finished(tmp_path / "memory_precomp" / "latest", summary)
    two = finished(tmp_path / "two", summary | {"env": {"blink": True}})
    main(Args(out_dir=tmp_path))
    assert list(json.loads((plots / "memory.json").read_text())) == ["latest"]
    picture = (plots / "memory.png").read_bytes()
    (two / "numbers.json").write_text(
        json.dumps(
            ABOUT | summary | {"levels": {name: summary["levels"][name] for name in policy_variants((1,))}}
        )
    )
    main(Args((one, two), ("a", "b"), tmp_path))
    assert list(json.loads((plots / "memory.json").read_text())) == ["a", "b"]
    assert (plots / "memory.png").read_bytes() != picture
    for names in (("a",), ("a", "a")):
        with pytest.raises(UsageError, match="one of its own"):
            main(Args((one, two), names, tmp_path))
    (two / "config.json").write_text(json.dumps({"version": 0}))
    with pytest.raises(UsageError, match="stale"):
        main(Args((two,), out_dir=tmp_path))


def test_the_figure_says_how_many_and_from_where(summary, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("analysis.memory.figure.add_caption", lambda figure, *texts: said.append(texts))
    draw({"made": ABOUT | summary}, tmp_path / "figure")
    assert said[0][1] == f"{LEVELS * (STEPS - FULL_HISTORY_STEP)} steps, {LEVELS} levels, 150 fork points"
    assert said[0][2] == "500-929"
    draw({"one": ABOUT | summary, "two": ABOUT | summary}, tmp_path / "figure")
    assert "fork points (one)" in said[1][1]
    assert "fork points (two)" in said[1][1]
