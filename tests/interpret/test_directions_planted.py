"""Planted truth: each method recovers the directions of an agent that carries known concepts, and refuses
otherwise.
"""

import logging

import numpy as np
import pytest
import torch
from scipy.stats import laplace, norm

from common.runs import UsageError
from interpret.causal_effect import causal_effect
from interpret.directions.dictionary import fit_dictionary
from interpret.directions.erasure import fit_leace
from interpret.directions.gradients import fit_policy_gradients, fit_value_gradient
from interpret.directions.ica import fit_ica
from interpret.directions.means import fit_means
from interpret.directions.nmf import fit_nmf
from interpret.directions.pca import fit_pca
from interpret.directions.probe_directions import fit_probes
from interpret.directions.stability import matched_cosines, standardised_metric
from interpret.hooks import run_with_cache, unroll
from tests.helpers.planted_directions import STEPS, PlantedAgent, frames_of, independent, levels, states_of

COUNT = 5
NAMES = ("saw", "pit", "coin", "wall", "speed")


@pytest.fixture(scope="module")
def agent():
    return PlantedAgent(COUNT)


@pytest.fixture(scope="module")
def sources():
    return independent(COUNT)


@pytest.fixture(scope="module")
def states(agent, sources):
    return states_of(agent, sources)


def cosines(write, truth, x) -> np.ndarray:
    """|cosine| of each true direction with its partner, in standardised features."""
    return matched_cosines(np.asarray(truth), np.asarray(write), standardised_metric(np.cov(x.T)))


def each(write, truth, x) -> np.ndarray:
    """|cosine| direction by direction, for methods that know which is which."""
    std = x.std(0)[:, None]
    a = np.asarray(write) / std
    b = np.asarray(truth) / std
    return np.abs((a * b).sum(0)) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)


def concepts_of(sources) -> dict:
    """The sources by name; those of two values as truth values."""
    return {name: s > 0 if len(np.unique(s)) == 2 else s for name, s in zip(NAMES, sources.T)}


def test_independent_components_from_a_hook_are_the_planted_directions(agent, sources):
    """From frames to directions: the agent sees them, a hook keeps its memory, ICA reads that."""
    obs = frames_of(sources).reshape(len(sources) // STEPS, STEPS, 4, 4, 3).transpose(0, 1)
    with torch.no_grad():
        _, kept = run_with_cache(
            agent, ["memory"], unroll, agent, obs, torch.zeros(obs.shape[:2], dtype=torch.bool)
        )
    x = kept["memory"].numpy()
    found = fit_ica(x, np.tile(np.arange(obs.shape[1]), STEPS), COUNT)
    assert cosines(found.write, agent.mixing, x).min() > 0.95
    assert found.provenance["caveats"] == []
    truth = sources.reshape(-1, STEPS, COUNT).transpose(1, 0, 2).reshape(len(x), COUNT)
    scores = found.scores(torch.from_numpy(x)).numpy()
    assert np.sort(np.abs(np.corrcoef(scores.T, truth.T)[:COUNT, COUNT:]), 1)[:, -1].min() > 0.98
    assert (
        cosines(fit_pca(x, np.arange(len(x)) % 60, COUNT).write, agent.mixing, x).min() < 0.95
    )  # PCA cannot: they are not orthogonal


def test_probe_patterns_are_the_planted_directions_and_probe_weights_are_not(agent, sources, states):
    found = fit_probes(states, levels(), concepts_of(sources))
    assert each(found.write, agent.mixing, states).min() > 0.95
    assert each(found.read.T, agent.mixing, states).min() < 0.8  # Haufe et al.: weights are no patterns
    assert all(low > 0.9 for _, low, _ in found.provenance["held_out"].values())


def test_patterns_separate_correlated_sources_that_differences_of_means_mix(sources):
    mixed = independent(2)
    mixed[:, 1] = 0.7 * mixed[:, 0] + 0.7 * mixed[:, 1]
    agent = PlantedAgent(2)
    x = states_of(agent, mixed)
    assert (
        each(fit_probes(x, levels(), {"a": mixed[:, 0], "b": mixed[:, 1]}).write, agent.mixing, x).min()
        > 0.95
    )
    assert (
        each(
            fit_means(x, levels(), {"a": mixed[:, 0] > 0, "b": mixed[:, 1] > 0}).write, agent.mixing, x
        ).min()
        < 0.95
    )


def test_difference_of_means_is_the_planted_direction_of_an_independent_concept(agent, sources, states):
    found = fit_means(states, levels(), {"coin": sources[:, 2] > 0})
    assert each(found.write, agent.mixing[:, 2:3], states) > 0.95
    shuffled = np.random.default_rng(0).permutation(sources[:, 2] > 0)
    assert each(fit_means(states, levels(), {"coin": shuffled}).write, agent.mixing[:, 2:3], states) < 0.8


def test_principal_components_are_the_planted_directions_where_these_are_orthogonal():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    x = (independent(8)[: 60 * STEPS] * np.sqrt(np.arange(8, 0, -1))) @ basis.T
    x /= x.std(0)
    truth = np.linalg.eigh(np.cov(x.T))[1][:, ::-1][:, :3]
    assert each(fit_pca(x, levels()[: len(x)], 3).write, truth * x.std(0)[:, None], x).min() > 0.999


def test_nmf_finds_additive_parts_and_principal_components_do_not():
    rng = np.random.default_rng(3)
    active = rng.exponential(size=(len(levels()), 3)) * (rng.random((len(levels()), 3)) < 0.3)
    truth = np.kron(np.eye(3), np.ones((4, 1))) * rng.uniform(0.5, 2, (12, 1)) + 0.1 * rng.random((12, 3))
    x = (active @ truth.T + 0.05 * rng.random((len(levels()), 12)) - 3).astype(
        np.float32
    )  # less than zero: the fit shifts it
    found = fit_nmf(x, levels(), 3)
    assert (
        cosines(found.write, truth, x).min()
        > 0.99
        > 0.8
        > cosines(fit_pca(x, levels(), 3).write, truth, x).max()
    )
    assert found.provenance["negative"] < 0.05
    assert found.provenance["non_negative"] == "less the minimum, by std"
    assert abs(np.square(found.scores(torch.from_numpy(x)).numpy()).mean(0) - 1).max() < 0.01


def test_a_dictionary_finds_more_directions_than_features():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(12, 16))
    truth /= np.linalg.norm(truth, axis=0)
    active = np.zeros((len(levels()), 16))
    for row in active:
        row[rng.choice(16, 2, replace=False)] = 0.5 + rng.random(2)
    x = (active @ truth.T).astype(np.float32)
    found = fit_dictionary(x, levels(), 16, top=2, steps=1500, batch=256)
    agreement = cosines(found.write, truth, x)
    assert np.median(agreement) > 0.97, agreement
    assert (agreement > 0.9).sum() >= 13, agreement
    assert (
        np.median(cosines(fit_dictionary(x, levels(), 16, top=2, steps=1, batch=256).write, truth, x)) < 0.8
    )  # it is the training that finds them


def test_value_gradient_is_the_head(agent, sources, states):
    value = fit_value_gradient(agent, states, levels())
    torch.testing.assert_close(value.read.float(), agent.value_head.weight.detach())
    torch.testing.assert_close(
        value.scores(torch.from_numpy(states))[:, 0],
        agent.heads(torch.from_numpy(states))[1].detach(),
        rtol=1e-4,
        atol=1e-4,
    )
    pattern = fit_value_gradient(agent, states, levels(), write="pattern")
    assert (
        each(pattern.write, agent.mixing[:, :1], states)
        > 0.95
        > each(value.write, agent.mixing[:, :1], states)
    )


def test_the_policy_gradient_is_the_direction_that_decides_the_choice(agent, states):
    found = fit_policy_gradients(agent, states, levels(), {"jump": [1]})
    weights = agent.policy_head.weight[1].detach().double()
    assert (
        torch.cosine_similarity(found.read[0], weights, dim=0) > 0.9999
    )  # the other two logits are the same number
    together = fit_policy_gradients(agent, states, levels(), {"not jump": [0, 2]})
    torch.testing.assert_close(together.read, -found.read)


def test_erasure_removes_the_planted_concept_and_keeps_the_others(agent, sources, states):
    found = fit_leace(states, levels(), {"saw": sources[:, 0]})
    assert each(found.write, agent.mixing[:, :1], states) > 0.95


# What must fail, and say so


def test_gaussian_sources_are_refused(agent):
    gaussian = np.random.default_rng(0).normal(size=(len(levels()), COUNT))
    with pytest.raises(UsageError, match="of 5 components cannot be distinguished from Gaussian noise"):
        fit_ica(states_of(agent, gaussian), levels(), COUNT)


def test_gaussian_sources_among_others_are_named(agent, sources, caplog):
    some = sources.copy()
    some[:, 3:] = np.random.default_rng(0).normal(size=(len(levels()), 2))
    x = states_of(agent, some)
    with caplog.at_level(logging.WARNING):
        found = fit_ica(x, levels(), COUNT)
    (caveat,) = found.provenance["caveats"]
    assert "as good as Gaussian" in caveat
    assert caveat in caplog.text
    assert caveat.split(" are ")[0].count("ic_") == 2
    assert cosines(found.write, agent.mixing[:, :3], x).min() > 0.95  # the others are found all the same


def test_dependent_sources_are_not_found_and_a_caveat_says_so(caplog):
    agent = PlantedAgent(3)
    joint = np.random.default_rng(0).multivariate_normal(
        np.zeros(3), [[1, 0.8, 0.8], [0.8, 1, 0.8], [0.8, 0.8, 1]], len(levels())
    )
    x = states_of(agent, laplace.ppf(norm.cdf(joint)))
    with caplog.at_level(logging.WARNING):
        found = fit_ica(x, levels(), 3)
    assert cosines(found.write, agent.mixing, x).min() < 0.95
    assert "not independent" in " ".join(found.provenance["caveats"])
    assert "not independent" in caplog.text


def test_linear_mixtures_of_independent_sources_are_not_detected_without_labels():
    """The documented limit of the check: x alone does not say which of two mixtures was meant."""
    agent = PlantedAgent(2)
    mixed = independent(2)
    mixed[:, 1] = 0.7 * mixed[:, 0] + 0.7 * mixed[:, 1]
    x = states_of(agent, mixed)
    found = fit_ica(x, levels(), 2)
    assert found.provenance["caveats"] == []
    assert cosines(found.write, agent.mixing, x).min() < 0.95
    probes = fit_probes(x, levels(), {"a": mixed[:, 0], "b": mixed[:, 1]})
    assert cosines(found.write, probes.write, x).min() < 0.95


def log_policy_and_value(agent):
    def outcome(state):
        logits, value = agent.heads(state)
        return torch.cat([logits.log_softmax(-1), value[:, None]], -1)

    return outcome


def test_a_decodable_direction_that_nothing_reads_is_called_unused():
    """An agent that carries ten concepts and reads the first two."""
    agent = PlantedAgent(10)
    ten = independent(10)
    x = states_of(agent, ten)
    found = fit_probes(x, levels(), concepts_of(ten[:, :5]))
    mark = causal_effect(log_policy_and_value(agent), found, x[::20], levels()[::20])
    assert found.provenance["held_out"]["wall"][1] > 0.9  # decodable
    assert dict(zip(mark.names, mark.verdict)) == {
        "saw": "used",
        "pit": "used",
        "coin": "unused",
        "wall": "unused",
        "speed": "unused",
    }
    assert abs(mark.effect[0] - 1) < 0.1  # the value is the first concept, of variance 1
    twice = causal_effect(log_policy_and_value(agent), found, x[::20], levels()[::20], strength=2.0)
    assert abs(twice.effect[0] - 2 * mark.effect[0]) < 0.1


def test_a_used_direction_that_cannot_be_decoded_is_refused_by_the_probe_and_marked_used():
    agent = PlantedAgent(10)
    ten = independent(10)
    x = states_of(agent, ten)
    riddle = np.random.default_rng(5).normal(
        size=len(x)
    )  # what we think it is about has nothing to do with it
    with pytest.raises(
        UsageError, match=r"'riddle' cannot be decoded here: R\^2 .* on held-out levels, and chance is 0.0"
    ):
        fit_probes(x, levels(), {"riddle": riddle})
    with pytest.raises(UsageError, match="'riddle' cannot be decoded here: AUROC"):
        fit_probes(x, levels(), {"riddle": riddle > 0})
    value = fit_value_gradient(agent, x, levels(), write="pattern")
    assert causal_effect(log_policy_and_value(agent), value, x[::20], levels()[::20]).verdict == ["used"]


def test_a_parity_is_used_and_no_line_decodes_it(agent, sources, states):
    """Carried, but not along a direction: the product of two truth values."""
    signs = np.sign(sources[:, 0]) * np.sign(sources[:, 1])
    with pytest.raises(UsageError, match="'same sign' cannot be decoded here"):
        fit_probes(states, levels(), {"same sign": signs > 0})


def test_labels_of_other_levels_are_not_decodable(sources, states):
    """The mutant: labels that belong to another level's states. The 95% interval lets one in forty pass."""
    refused = 0
    for shift in range(1, 11):
        labels = np.roll(sources[:, 2] > 0, shift * STEPS + 3)
        try:
            fit_probes(states, levels(), {"coin": labels})
        except UsageError as error:
            refused += "cannot be decoded" in str(error)
    assert refused >= 7
