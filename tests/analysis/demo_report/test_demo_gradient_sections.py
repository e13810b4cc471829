"""The report's sections on saliency and optimised latents: which samples are shown, and what tables say."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.demo_report import target_section, truth_section
from analysis.demo_report.saliency_section import add_saliency, samples_by_rule
from analysis.demo_report.target_section import add_targets
from analysis.demo_report.truth_section import add_saliency_truth, leaderboard_rows, verdict
from analysis.plotting.page import Page
from analysis.targets.figures import LABELS
from common.checkpoints import write_json
from interpret.attribution.env_gradients import compare_paths
from interpret.attribution.saliency_store import SaliencyStore, encode_gradients, write_batch, write_facts

MIXED = {4: 1.0, 9: 0.0, 6: 3.0, 2: 0.5, 8: 2.0}
"""Part of each sample's gradient through actions, at right angles to a part through memory of 1."""


@pytest.fixture
def saliency(tmp_path):
    """A run whose samples differ in what goes through actions, with a picture of each."""
    directory = tmp_path / "saliency" / "latest"
    samples = list(MIXED)
    functions = ["value", *(f"value@{path}" for path in ("agent", "environment", "mixed"))]
    source = {"level": [100 + sample for sample in samples]}
    write_facts(directory, {"functions": functions, "batches": [samples], "step": 2, "source": source})
    mixed = torch.tensor([[0.0, MIXED[sample]] for sample in samples])
    agent = torch.tensor([[1.0, 0.0]] * len(samples))
    arrays = {}
    for name, maps in zip(functions, (agent + mixed, agent, 0 * agent, mixed)):
        arrays |= encode_gradients(name, {"frames": maps.view(1, len(samples), 1, 2, 1)})
    write_batch(directory, 0, arrays)
    (directory / "demo_with_without_env_grads").mkdir()
    for sample in samples:
        picture = Image.new("RGB", (2, 2), (sample, 0, 0))
        picture.save(directory / "demo_with_without_env_grads" / f"sample_{sample:05d}_value.png")
    write_json(directory / "env_gradients.json", compare_paths(SaliencyStore.open(directory)))
    return directory


def written(section, results, tmp_path) -> str:
    page = Page("")
    section(page, results, tmp_path)
    page.write(tmp_path / "page.html")
    return (tmp_path / "page.html").read_text()


def test_the_samples_shown_have_the_median_and_the_lowest_cosine(saliency):
    assert samples_by_rule(SaliencyStore.open(saliency)) == {"median": 4, "lowest": 6}


def test_the_section_on_saliency_says_how_far_both_maps_agree(saliency, tmp_path):
    results = SimpleNamespace(artefacts=tmp_path, panel=tmp_path / "panel.html")
    text = written(add_saliency, results, tmp_path)
    cosine = np.mean([(1 + mixed**2) ** -0.5 for mixed in MIXED.values()])
    assert f"<td>{cosine:.3f} [" in text
    assert "n = 5 simulated samples on 5 levels, 102-109" in text
    assert "Sample 4, with the median" in text
    assert 'href="panel.html"' in text


def score(value: float, above: float = -1.0) -> dict:
    return {
        "spearman": {"value": value, "low": value - 0.1, "high": value + 0.1},
        "above_edges": {"value": above, "low": above, "high": above},
    }


@pytest.fixture
def truth():
    """Numbers of two methods; only SARFA's maps of the action are above edges."""
    real = {
        "value/value": {"occlusion": score(0.2), "gradient": score(0.4)},
        "action/action": {"occlusion": score(0.3), "gradient": score(0.1), "sarfa": score(0.5, 0.1)},
    }
    controls = {name: score(0.6) for name in ("edges", "centre_prior")}
    counts = {"states": 12, "layouts": 11, "objects": 50, "levels": [7, 9000]}
    return counts | {"scores": {"real": real}, "controls": {"value": controls, "action": controls}}


def test_methods_are_listed_best_first_and_controls_last(truth):
    rows = leaderboard_rows(truth)
    assert [row[0] for row in rows] == [
        "SARFA", "gradient (sum)", "occlusion", "control: edges of the frame",
        "control: distance from the player",
    ]  # fmt: skip
    assert rows[0][1:] == ["", "0.50 [0.40, 0.60]"]
    assert rows[1][1:] == ["0.40 [0.30, 0.50]", "0.10 [0.00, 0.20]"]


def test_methods_above_edges_are_named(truth):
    assert "above 0: SARFA (of the action);" in verdict(truth)
    truth["scores"]["real"]["action/action"]["sarfa"] = score(0.5, 0.0)
    assert verdict(truth).startswith("No method is above edges")


def test_the_section_on_deleted_objects_says_what_it_is_of(truth, tmp_path, monkeypatch):
    picture = tmp_path / "figure.png"
    Image.new("RGB", (2, 2)).save(picture)
    monkeypatch.setattr(truth_section, "find_step", lambda *_: tmp_path)
    monkeypatch.setattr(truth_section, "read_numbers", lambda _: truth)
    monkeypatch.setattr(truth_section, "read_part", lambda *_: {})
    monkeypatch.setattr(truth_section.Benchmark, "open", lambda _: None)
    monkeypatch.setattr(truth_section, "draw_leaderboard", lambda *_: picture)
    text = written(add_saliency_truth, SimpleNamespace(env_name="coinrun", artefacts=tmp_path), tmp_path)
    assert "n = 12 states on 11 layouts, 50 objects, levels 7-9,000" in text
    assert "Left out" in written(add_saliency_truth, SimpleNamespace(env_name="jumper"), tmp_path)


def test_the_section_on_targets_lists_all_arms_of_the_run_finished_last(tmp_path, monkeypatch):
    arms = {
        arm: {
            "value": {"mean": i, "low": i - 1, "high": i + 1, "clusters": 5},
            "matches": {"hidden": {"near": 2, "n": 4}},
        }
        for i, arm in enumerate(LABELS)
    }
    target = {"arms": arms, "gain_over": {"best_recorded": {"mean": -0.5, "low": -0.75, "high": -0.25}}}
    directory = tmp_path / "targets" / "seed_0_a"
    directory.mkdir(parents=True)
    sizes = {
        "starts": 4,
        "iterations": 20,
        "moments": 400,
        "moment_levels": 31,
        "moment_level_range": [7, 9000],
        "report_rollouts": 16,
    }
    (directory / "numbers.json").write_text(json.dumps(sizes | {"targets": {"increase_value": target}}))
    (directory / "done.json").touch()
    for name in ("increase_value_strip.png", "drawn.png"):
        Image.new("RGB", (2, 2)).save(directory / name)
    monkeypatch.setattr(target_section, "draw_targets", lambda *_: directory / "drawn.png")
    text = written(add_targets, SimpleNamespace(artefacts=tmp_path), tmp_path)
    cells = "".join(f"<td>{i}.00 [{i - 1}.00, {i + 1}.00]</td>" for i in range(4))
    assert f"<td>increase value</td>{cells}<td>-0.50 [-0.75, -0.25]</td><td>2 of 4</td>" in text
    assert "intervals resample starts" in text
    assert "n = 4 starts, 20 iterations, 400 recorded moments of 31 levels, 7-9,000" in text
