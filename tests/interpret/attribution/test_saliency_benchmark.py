"""The benchmark on planted truths: maps of known quality get the score that they deserve."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from agents.actor_critic import load_agent
from common.errors import UsageError
from common.precision import set_precision
from interpret.attribution.deletion_scores import (
    above_empty,
    box_mass,
    largest_agrees,
    partial_spearman,
    spearman_by_state,
    within_ranks,
)
from interpret.attribution.frame_functions import agent_value
from interpret.attribution.leaderboard import EFFECTS, SHIPPED, Benchmark, painted
from interpret.attribution.method_config import MethodConfig
from interpret.attribution.methods import METHODS

ROOT = Path(__file__).parents[3]
STATES, OBJECTS, SIZE = 60, 5, 24
CONFIG = MethodConfig(smooth_draws=2, ig_steps=4, patch=4, stride=2, mask_std=1.5, blur_std=1.5)


@pytest.fixture(scope="module")
def planted():
    """Squares on a black frame; the value is their summed brightness, each weighted by its place's weight.

    Returns the benchmark and the function. Weights of both signs; deletion leaves black.
    """
    rng = np.random.default_rng(0)
    frames = np.zeros((STATES, SIZE, SIZE, 3), np.uint8)
    weights = np.zeros((STATES, SIZE, SIZE), np.float32)
    rows = []
    for state in range(STATES):
        cells = rng.permutation(36)[: 2 * OBJECTS]
        for cell, empty in zip(cells[:OBJECTS], cells[OBJECTS:]):
            (top, left), (empty_top, empty_left) = (4 * np.array(divmod(c, 6)) for c in (cell, empty))
            height = rng.integers(2, 5)
            brightness = rng.integers(80, 255)
            frames[state, top : top + height, left : left + 3] = brightness
            weight = rng.normal()
            weights[state, top : top + height, left : left + 3] = weight
            effect = weight * brightness / 255 * height * 3 * 3
            box = top, left, top + height, left + 3
            away = np.hypot(top - 12, left - 12)
            empty_box = empty_top, empty_left, empty_top + height, empty_left + 3
            rows.append((state, box, empty_box, height * 3, away, effect))
    state, box, empty, area, distance, effect = map(np.array, zip(*rows))
    effects = {name: effect.astype(np.float32) for name in EFFECTS}
    index = np.arange(STATES)
    benchmark = Benchmark(
        {"kinds": ["square"]}, frames, np.zeros((STATES, 2), np.float32), index, index, index, index, index,
        np.full((STATES, 2), 12.0, np.float32), state, np.zeros(len(state), np.uint8),
        np.zeros((len(state), 2), np.int16), box.astype(np.int16), empty.astype(np.int16), area,
        distance.astype(np.float32), effects,
    )  # fmt: skip
    flat = torch.from_numpy(weights)
    return benchmark, lambda frames, sample: (flat[sample][..., None] * frames).sum((1, 2, 3))


@pytest.fixture(scope="module")
def maps(planted):
    benchmark, function = planted
    frames = torch.from_numpy(benchmark.frames).float() / 255
    return {name: method.compute(function, frames, CONFIG).numpy() for name, method in METHODS.items()}


@pytest.mark.parametrize("name", ["gradient_x_input", "integrated_gradients"])
def test_a_right_map_scores_one_with_sign_and_without(planted, maps, name):
    scores = planted[0].score(maps[name], "value", signed=True)
    for score in ("spearman", "partial", "signed", "largest"):
        assert scores[score]["value"] > 0.99
    assert scores["spearman"]["n"] == STATES


@pytest.mark.parametrize("name", ["gradient", "occlusion", "blur"])
def test_other_methods_score_high_where_objects_are_bright(planted, maps, name):
    assert planted[0].score(maps[name])["spearman"]["value"] > 0.5


def test_a_reversed_sign_is_caught_by_the_signed_score_alone(planted, maps):
    scores = planted[0].score(-maps["integrated_gradients"], signed=True)
    assert scores["spearman"]["value"] > 0.99
    assert scores["signed"]["value"] < -0.99


def test_shuffled_effects_score_zero(planted, maps):
    benchmark = planted[0]
    rng = np.random.default_rng(1)
    shuffled = {name: rng.permutation(values) for name, values in benchmark.effects.items()}
    scores = replace(benchmark, effects=shuffled).score(maps["integrated_gradients"], signed=True)
    for score in ("spearman", "signed", "partial"):
        assert abs(scores[score]["value"]) < 0.2


def test_maps_of_other_states_score_zero(planted, maps):
    scores = planted[0].score(maps["integrated_gradients"])
    assert abs(scores["other_state"]["value"]) < 0.15
    shifted = np.roll(maps["integrated_gradients"], -1, 0)
    assert planted[0].score(shifted)["other_state"]["value"] > 0.99


@pytest.mark.parametrize("axis", [1, 2])
def test_a_map_shifted_by_an_objects_size_is_caught(planted, maps, axis):
    shifted = np.roll(maps["integrated_gradients"], 4, axis)
    assert planted[0].score(shifted)["spearman"]["high"] < 0.5


def test_an_object_has_more_mass_than_an_empty_place(planted, maps):
    scores = planted[0].score(maps["integrated_gradients"])
    assert scores["above_empty"]["value"] == 1
    flat = np.ones(planted[0].frames.shape[:3])
    assert planted[0].score(flat)["above_empty"]["value"] == 0.5


def test_controls_are_subtracted(planted):
    benchmark = planted[0]
    for name, control in benchmark.control_maps.items():
        scores = benchmark.score(control)
        assert scores[f"above_{name}"] == scores[f"above_{name}"] | {"value": 0, "low": 0, "high": 0}
    right = benchmark.score(painted(benchmark, benchmark.effects["value"]))
    assert right["above_centre_prior"]["low"] > 0.5
    assert right["above_edges"]["low"] > 0.3


def test_the_painted_effects_score_one(planted):
    benchmark = planted[0]
    scores = benchmark.score(painted(benchmark, benchmark.effects["value"]), signed=True)
    assert scores["spearman"]["value"] > 0.99
    assert scores["signed"]["value"] > 0.99


def test_a_benchmark_survives_its_file(planted, tmp_path):
    benchmark = planted[0]
    benchmark.save(tmp_path / "made_v1")
    again = Benchmark.open(tmp_path / "made_v1")
    for name in vars(benchmark):
        if isinstance(getattr(benchmark, name), np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), getattr(benchmark, name))
    assert again.effects.keys() == benchmark.effects.keys()
    assert len(again) == STATES
    assert json.loads((tmp_path / "made_v1.json").read_text())["version"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: maps[:-1], "give one per state"),
        (lambda maps: maps * np.nan, "NaN"),
    ],
)
def test_wrong_maps_are_refused(planted, maps, change, message):
    with pytest.raises(UsageError, match=message):
        planted[0].score(change(maps["gradient"]))


def test_unknown_effects_and_missing_files_are_refused(planted, maps, tmp_path):
    with pytest.raises(UsageError, match="no effect 'reward'; choose one of: value"):
        planted[0].score(maps["gradient"], "reward")
    with pytest.raises(UsageError, match="no saliency benchmark at"):
        Benchmark.open(tmp_path / "none")


def test_box_mass_is_the_sum_of_a_slice():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 9, 7))
    state, box = np.array([0, 1, 1]), np.array([[0, 0, 9, 7], [2, 3, 5, 4], [-1, -1, -1, -1]])
    mass = box_mass(maps, state, box)
    np.testing.assert_allclose(mass[:2], [maps[0].sum(), maps[1, 2:5, 3:4].sum()])
    assert np.isnan(mass[2])


def test_correlations_within_states_are_scipys():
    rng = np.random.default_rng(0)
    state = np.repeat([0, 1, 2, 3], [3, 6, 4, 3])
    a, b = rng.normal(size=(2, len(state))).round()
    a[-3:] = 1.0  # constant: undefined
    sums = spearman_by_state(a, b, state, 5)
    expected = [spearmanr(a[state == s], b[state == s])[0] for s in range(3)]
    np.testing.assert_allclose(sums.value[:3], expected)
    np.testing.assert_array_equal(sums.weight, [1, 1, 1, 0, 0])
    np.testing.assert_allclose(sums.mean(np.ones((1, 5)))[0], np.mean(expected))


def test_ranks_are_centred_and_scaled_by_the_number_of_objects():
    ranks = within_ranks(np.array([5.0, 1, 3, 2, 9]), np.array([0, 0, 0, 1, 1]))
    np.testing.assert_allclose(ranks, [1 / 3, -1 / 3, 0, -1 / 4, 1 / 4])


def test_the_partial_correlation_is_that_of_residuals():
    rng = np.random.default_rng(0)
    state = np.repeat(np.arange(30), 5)
    a, b, c, d = rng.normal(size=(4, len(state)))
    a, b = a + c, b + c + 0.3 * a
    weights = np.stack([np.ones(30), rng.integers(0, 3, 30)]).astype(float)
    found = partial_spearman(a, b, np.stack([c, d], 1), state, weights)
    ranks = [within_ranks(x, state) for x in (a, b, c, d)]
    for row, weight in zip(found, weights):
        w = np.sqrt(weight[state])
        x = np.stack(ranks[2:], 1) * w[:, None]
        left = [r * w - x @ np.linalg.lstsq(x, r * w, rcond=None)[0] for r in ranks[:2]]
        np.testing.assert_allclose(row, left[0] @ left[1] / np.linalg.norm(left[0]) / np.linalg.norm(left[1]))


def test_what_area_alone_explains_is_no_partial_correlation():
    """A map that paints large objects, and an agent that heeds large objects: nothing is left beyond area."""
    rng = np.random.default_rng(0)
    state = np.repeat(np.arange(300), 6)
    area = rng.normal(size=len(state))
    mass, effect = area + 0.8 * rng.normal(size=(2, len(state)))
    weights = np.ones((1, 300))
    assert spearman_by_state(mass, effect, state, 300).mean(weights)[0] > 0.4
    assert abs(partial_spearman(mass, effect, area[:, None], state, weights)[0]) < 0.1


def test_the_largest_is_found_and_chance_is_one_in_its_objects():
    state = np.array([0, 0, 0, 0, 1, 1])
    effect = np.array([1.0, 4, 2, 3, 7, 5])
    hit, chance = largest_agrees(np.array([1.0, 9, 2, 3, 1, 2]), effect, state, 2)
    np.testing.assert_array_equal(hit.value, [1, 0])
    np.testing.assert_array_equal(chance.value, [0.25, 0.5])


def test_empty_places_that_do_not_exist_are_left_out():
    state = np.array([0, 0, 1])
    sums = above_empty(np.array([2.0, 1, 5]), np.array([1.0, 1, np.nan]), state, 2)
    np.testing.assert_array_equal(sums.value, [0.75, 0])
    np.testing.assert_array_equal(sums.weight, [1, 0])


@pytest.fixture(scope="module")
def shipped():
    return Benchmark.open(), json.loads((ROOT / "docs" / "results" / "saliency_truth.json").read_text())


def test_the_shipped_benchmark_is_small_and_of_many_layouts(shipped):
    benchmark, _ = shipped
    assert len(set(benchmark.layout)) == len(benchmark) >= 200
    assert np.bincount(benchmark.state).min() >= 3
    assert SHIPPED.with_suffix(".safetensors").stat().st_size < 4e6
    assert set(benchmark.effects) == set(EFFECTS)


def test_the_shipped_benchmark_gives_the_published_scores(shipped):
    benchmark, numbers = shipped
    for name, control in benchmark.control_maps.items():
        published = numbers["controls"]["value"][name]["spearman"]
        assert benchmark.score(control)["spearman"]["value"] == pytest.approx(published["value"], abs=5e-3)
    agent = load_agent(ROOT / "pretrained" / "coinrun_easy_200" / "seed_0_finished" / "model.safetensors")[0]
    set_precision("fp32", agent)
    frames = torch.from_numpy(benchmark.frames).float() / 255
    value = agent_value(agent, torch.from_numpy(benchmark.hidden))
    maps = METHODS["gradient_norm"].compute(value, frames, CONFIG).numpy()
    published = numbers["scores"]["real"]["value/value"]["gradient_norm"]["spearman"]
    assert benchmark.score(maps)["spearman"]["value"] == pytest.approx(published["value"], abs=0.02)
