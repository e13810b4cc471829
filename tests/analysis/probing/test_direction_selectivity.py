"""Planted truth for the marks of a concept: known ones are recovered, shuffled labels give nothing, and what
is decodable but does not respond gets one mark.
"""

import numpy as np
import pytest
import torch

from analysis.probing.direction_selectivity import (
    direction_scores,
    extreme_steps,
    fit_score_scale,
    is_responsive,
    responses,
)
from interpret.directions.probe_directions import probe_directions, probe_stability
from interpret.directions.stability import labels, matched_cosines, standardised_metric, with_stability
from interpret.probing.bench import decodability
from interpret.probing.decoding import control_labels, decoding_scores, group_resamples
from interpret.probing.responses import MIN_SCENES
from interpret.probing.ridge import cross_validate
from tests.helpers.planted_directions import STEPS, PlantedAgent, independent, levels, states_of

COUNT = 4
NAMES = ["saw_ahead", "pit_ahead", "coin_ahead", "speed"]
KINDS = ["saw", "pit", "coin"]
PER_KIND = 120


@pytest.fixture(scope="module")
def agent():
    return PlantedAgent(COUNT)


@pytest.fixture(scope="module")
def world(agent):
    """States, concepts (three truth values and a number) and layouts of planted play."""
    sources = independent(COUNT)
    sources[:, :3] = np.sign(sources[:, :3] + 1e-9)
    y = np.concatenate([sources[:, :3] > 0, sources[:, 3:]], 1).astype(np.float32)
    return states_of(agent, sources), y, levels()


CLASSES = np.array([True, True, True, False])


def arrays_of(x, y, groups) -> dict[str, np.ndarray]:
    draws = group_resamples(groups)
    read = cross_validate(x, y, groups % 3)
    value = decoding_scores(y, CLASSES, read.predictions, groups, draws)
    made_up = control_labels(y, groups, 0)
    memorised = decoding_scores(
        made_up, CLASSES, cross_validate(x, made_up, np.arange(len(x)) // 8 % 3).predictions, groups, draws
    )
    chance = np.where(CLASSES, 0.5, 0.0)
    return {
        "value": value,
        "gain": value - chance,
        "selectivity": value - np.maximum(memorised, chance),
        "penalty": read.probes.penalty,
    }


def test_known_concepts_come_back_as_stable_directions(agent, world):
    x, y, groups = world
    arrays = arrays_of(x, y, groups)
    assert decodability(arrays, CLASSES)["decodable"].all()
    assert decodability(arrays, CLASSES)["beyond"].all()
    asked = x, y, groups, NAMES, arrays["penalty"]
    found = probe_directions(*asked)
    metric = standardised_metric(np.cov(x.T))
    assert matched_cosines(agent.mixing, found.write.numpy(), metric).min() > 0.95
    assert torch.allclose(found.read @ found.write, torch.eye(COUNT, dtype=torch.float64), atol=1e-6)
    read, written = probe_stability(*asked, 0)
    assert read.median.min() > 0.95
    assert written.median.min() > 0.95
    assert labels(with_stability(found, read)) == NAMES
    noise = np.random.default_rng(0).normal(size=y.shape).astype(np.float32)
    assert not any(one.stable.all() for one in probe_stability(x, noise, groups, NAMES, arrays["penalty"], 0))


def test_what_concepts_share_is_read_again_and_what_sets_them_apart_is_not_written_again(world):
    """Two concepts that are nearly one: each is read well, and the joint pattern writes their small
    difference.
    """
    x, y, groups = world
    rng = np.random.default_rng(0)
    by_level = rng.normal(size=(groups.max() + 1, 2, x.shape[1]))[
        groups
    ]  # what sets them apart is another thing in every level
    twins = (y[:, 3:] + 0.5 * np.einsum("nkd,nd->nk", by_level, x / x.std(0))).astype(np.float32)
    read, written = probe_stability(x, twins, groups, ["one", "other"], np.full(2, 1.0), 0)
    assert read.median.min() > 0.95
    assert written.median.max() < read.median.min() - 0.05


def test_stability_of_what_is_read_is_the_correlation_of_scores(world):
    x, y, groups = world
    penalty = np.full(COUNT, 1e4)
    read, _ = probe_stability(x, y, groups, NAMES, penalty, 3)
    count = len(np.unique(groups))
    weights = np.random.default_rng([3, 14]).multinomial(count, np.full(count, 1 / count))
    whole, again = (
        direction_scores(probe_directions(x, y, groups, NAMES, penalty, w), x) for w in (None, weights)
    )
    expected = [abs(np.corrcoef(whole[:, k], again[:, k])[0, 1]) for k in range(COUNT)]
    assert np.allclose(read.cosines[0], expected, atol=1e-6)


def test_probes_read_the_concepts_in_their_own_units(world):
    x, y, groups = world
    found = probe_directions(x, y, groups, NAMES, arrays_of(x, y, groups)["penalty"])
    assert np.abs(direction_scores(found, x)[:, 3] - y[:, 3]).mean() < 0.1


def test_labels_of_other_levels_are_not_decodable(world):
    x, y, groups = world
    shuffled = np.roll(y, 7 * STEPS + 3, axis=0)
    assert not decodability(arrays_of(x, shuffled, groups), CLASSES)["decodable"].any()


def scenes(agent, world, seen=(0,), strength=2.0):
    """Scores [n, 2, K] on planted scenes: only the objects numbered in `seen` are passed on to the agent's
    memory.
    """
    x, y, groups = world
    rng = np.random.default_rng(4)
    count = len(KINDS) * PER_KIND
    kind = np.repeat(np.arange(len(KINDS)), PER_KIND)
    sources = np.repeat(independent(COUNT)[rng.integers(0, len(x), count), None], 2, 1)  # [n, 2, K]
    for one in seen:
        sources[kind == one, 0, one] += strength
    states = np.stack([states_of(agent, sources[:, side]) for side in range(2)], 1)
    place = np.tile(np.arange(8), count)[:count]
    there = np.ones((count, 2))
    columns = {
        "kind": kind,
        "distance": place,
        "box": np.tile([0.0, 1.0, 0.0, 1.0], (count, 1)),
        "layout": np.arange(count),
    }
    for name in KINDS:
        columns |= {f"tiles_to_{name}": there * place[:, None], f"{name}_rise": there * 0}
    found = probe_directions(x, y, groups, NAMES, arrays_of(x, y, groups)["penalty"])
    return fit_score_scale(direction_scores(found, x)).standardize(direction_scores(found, states)), columns


def test_what_is_decodable_but_does_not_respond_gets_only_one_mark(agent, world):
    """The agent's memory of pits is not moved by pits on the screen."""
    scores, columns = scenes(agent, world)
    found = responses(scores, columns, KINDS)
    assert is_responsive(found, "saw_ahead").tolist() == [True, False, False, False]
    for deaf in ("pit_ahead", "coin_ahead"):
        assert is_responsive(found, deaf).tolist() == [False] * COUNT
    assert is_responsive(found, "speed") is None
    assert abs(found["saw_ahead/move"][0, 0] - 2) < 0.1
    assert found["saw_ahead/n"] == PER_KIND


def test_an_object_that_moves_a_score_no_more_than_another_is_no_response(agent, world):
    scores, columns = scenes(agent, world, seen=(0,))
    same = scores.copy()
    others = columns["kind"] == 2
    same[others, 0, 0] = same[others, 1, 0] + 2  # the coin moves the score of saws as much
    found = responses(same, columns, KINDS)
    assert not is_responsive(found, "saw_ahead")[0]
    assert KINDS[found["saw_ahead/rival"][0]] == "coin"
    weaker = scores.copy()
    weaker[others, 0, 0] = weaker[others, 1, 0] - 1  # half as much, the other way
    assert is_responsive(responses(weaker, columns, KINDS), "saw_ahead")[0]


def test_objects_are_compared_with_those_of_their_size_and_distance_only(agent, world):
    scores, columns = scenes(agent, world)
    far = columns | {
        "distance": np.where(columns["kind"] == 0, columns["distance"], columns["distance"] + 20)
    }
    assert is_responsive(responses(scores, far, KINDS), "saw_ahead") is None
    large = columns["box"].copy()
    large[columns["kind"] != 0, 3] = 2
    assert is_responsive(responses(scores, columns | {"box": large}, KINDS), "saw_ahead") is None
    few = np.flatnonzero(
        (columns["kind"] == 0) | (np.arange(len(large)) % (PER_KIND // (MIN_SCENES - 2)) == 0)
    )
    assert (
        is_responsive(
            responses(scores[few], {name: column[few] for name, column in columns.items()}, KINDS),
            "saw_ahead",
        )
        is None
    )


def test_a_score_that_follows_the_distance_responds_by_its_slope(agent, world):
    scores, columns = scenes(agent, world, seen=())
    graded = scores.copy()
    saws = columns["kind"] == 0
    graded[saws, 0, 3] = graded[saws, 1, 3] + 0.5 * columns["distance"][saws]
    found = responses(graded, columns, KINDS)
    assert is_responsive(found, "tiles_to_saw").tolist() == [False, False, False, True]
    assert found["tiles_to_saw/move"][0, 3] == pytest.approx(0.5, abs=0.02)
    assert not is_responsive(found, "tiles_to_coin").any()
    assert "saw_rise/move" not in found
    edge = columns | {
        "tiles_to_saw": np.where(columns["distance"][:, None] == 7, np.nan, columns["tiles_to_saw"])
    }  # shown, but not ahead
    assert is_responsive(responses(graded, edge, KINDS), "tiles_to_saw")[3]
    constant = scores.copy()
    constant[saws, 0, 3] = constant[saws, 1, 3] + 2  # moved, but the same at every distance
    assert not is_responsive(responses(constant, columns, KINDS), "tiles_to_saw")[3]


def test_extremes_are_of_different_layouts():
    scores = np.arange(12.0)
    groups = np.repeat(np.arange(4), 3)
    found = extreme_steps(scores, groups, 3)
    assert found[0].tolist() == [11, 8, 5]
    assert found[2].tolist() == [0, 3, 6]
    assert len(np.unique(groups[found[1]])) == 3
    assert found[1, 0] in (5, 6)
    assert extreme_steps(scores, groups, 6).shape == (3, 6)
