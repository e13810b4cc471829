"""The oracle table: planted scores, and the command on a little real CoinRun."""

import json
from dataclasses import replace

import numpy as np
import pytest

from analysis import oracle_table
from analysis.oracles.oracle_scores import COMBINATIONS, KINDS, MEASURES, PLACE_STEPS, oracle_rows, table_text
from common.runs import UsageError
from common.stats import level_weights
from rollouts.labelling import label
from tests.helpers.coinrun_store import write_world
from tests.helpers.refusal_checks import refused_at_once

pytestmark = pytest.mark.usefixtures("float32")
S, N = 13, 24


@pytest.fixture
def planted():
    """Scores in which the true start divides every squared error by ten, and the true motion ends every
    error of the place; windows differ much among themselves.
    """
    rng = np.random.default_rng(0)
    alive = np.ones((S, N), bool)
    alive[6:, :4] = False
    error = rng.lognormal(0, 2, (S, N)) * 1e-3
    place = rng.lognormal(0, 1, (S, N))
    pixels = {kind: rng.integers(1, 400, (S, N)) * alive for kind in KINDS}
    scores = {"alive": alive} | {f"{kind}_pixels": count for kind, count in pixels.items()}
    for name, oracles in COMBINATIONS.items():
        share = 0.1 if "start" in oracles else 1.0
        scores[f"error/{name}"] = error * share
        scores[f"place/{name}"] = place * ("motion" not in oracles)
        scores |= {f"{kind}_error/{name}": error * share * pixels[kind] for kind in KINDS}
    return scores


def test_gains_are_paired_where_the_windows_differ_more_than_the_rows(planted):
    rows = {row["name"]: row for row in oracle_rows(planted, level_weights(np.arange(N) // 2, 200))}
    for measure in ("first_frame", "one_step", *KINDS):
        unpaired = rows["none"][measure]
        gain = rows["start"]["gain"][measure]
        assert unpaired["high"] - unpaired["low"] > 1
        assert [gain[key] for key in ("value", "low", "high")] == pytest.approx([10, 10, 10], abs=1e-6)
        assert rows["none"]["gain"][measure]["value"] == 0
        assert rows["pose"]["gain"][measure]["value"] == 0


def test_scores_are_pooled_over_the_windows_that_are_alive(planted):
    rows = {row["name"]: row for row in oracle_rows(planted, level_weights(np.arange(N), 50))}
    alive = planted["alive"][10]
    one_step = -10 * np.log10(planted["error/none"][1].mean())
    in_view = planted["in_view_error/none"][10, alive].sum() / planted["in_view_pixels"][10, alive].sum()
    place = np.sort(planted["place/none"][10, alive])
    assert rows["none"]["one_step"]["value"] == pytest.approx(one_step)
    assert rows["none"]["in_view"]["value"] == pytest.approx(-10 * np.log10(in_view))
    assert rows["none"]["place_10_median"]["value"] == place[len(place) // 2 - 1]
    assert rows["none"]["place_10_large"]["value"] == pytest.approx((place > 1).mean())
    assert rows["none"]["place_10_large"]["n"] == alive.sum() == N - 4
    for name, oracles in COMBINATIONS.items():
        places = [rows[name][f"place_{step}_large"]["value"] for step in PLACE_STEPS]
        assert (places == [0, 0, 0]) == ("motion" in oracles)


def test_the_printed_table_has_a_line_for_each_combination_and_its_gains(planted):
    lines = table_text(oracle_rows(planted, level_weights(np.arange(N), 50))).splitlines()
    assert len(lines) == 1 + len(COMBINATIONS)
    assert [line.split("  ")[0] for line in lines[1:]] == list(COMBINATIONS)
    assert "(+10.0)" in lines[2]
    assert "(" not in lines[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = write_world(tmp_path_factory.mktemp("oracles"))
    label(world.store, [entry["shard"] for entry in world.store.entries], 1)
    return world


def arguments(world, out_dir, **changed):
    small = dict(num_windows=6, batch_size=4, device="cpu", out_dir=out_dir)
    return oracle_table.Args(world.world_model_file, world.agent_file, world.store.path, **(small | changed))


def test_the_command_writes_the_table_its_figure_and_what_pages_quote(world, tmp_path, capsys):
    args = arguments(world, tmp_path / "out", results=tmp_path / "o.json", images=tmp_path / "images")
    oracle_table.main(args)
    (report_file,) = tmp_path.glob("out/*/oracle_table.json")
    report = json.loads(report_file.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert report["windows"] == 6
    assert set(MEASURES) <= rows["all"].keys()
    for step in PLACE_STEPS:
        assert rows["motion"][f"place_{step}_median"]["value"] == 0
        assert rows["motion"][f"place_{step}_large"]["value"] == 0
    assert rows["pose"]["place_10_median"]["value"] > 0.1  # nothing is learned
    assert (tmp_path / "images" / "oracle_table.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "o.json").read_text())["rows"][0]["name"] == "none"
    shown = capsys.readouterr().out
    assert "start + motion + tiles" in shown
    made = report_file.stat().st_mtime_ns
    oracle_table.main(replace(args, results=None, images=None))
    assert report_file.stat().st_mtime_ns == made
    assert capsys.readouterr().out == shown


def test_bad_demands_are_refused_in_one_line(world, tmp_path):
    refused_at_once(
        oracle_table.main, arguments(world, tmp_path, num_windows=1), tmp_path, "--num_windows is 1"
    )
    refused_at_once(
        oracle_table.main, arguments(world, tmp_path, part="train"), tmp_path, "--part is 'train'"
    )


def test_a_store_without_labels_is_refused_with_the_command_that_makes_them(tmp_path):
    bare = write_world(tmp_path / "bare")
    with pytest.raises(UsageError, match="label.py"):
        oracle_table.main(arguments(bare, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
