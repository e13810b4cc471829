"""What all fits share: exact standardisation, R E = I, refusals in one line, and agreement with reference
programs.
"""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FastICA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score

from common.runs import UsageError
from common.stats import estimate
from interpret.directions import dictionary, fitting, ica, nmf, probe_directions
from interpret.directions.dictionary import fit_dictionary
from interpret.directions.directions import Directions
from interpret.directions.erasure import erase, fit_leace
from interpret.directions.fitting import checked_sample, held_out_rows, sample_of
from interpret.directions.gradients import average_gradients, fit_policy_gradients, fit_value_gradient
from interpret.directions.ica import fit_ica
from interpret.directions.means import fit_means
from interpret.directions.nmf import fit_nmf
from interpret.directions.pca import fit_pca
from interpret.directions.probe_directions import fit_probes
from interpret.directions.reconstruction import compare_reconstruction, reconstruct
from interpret.probing.decoding import AUROC_BINS, decoding_scores, group_resamples
from tests.helpers.planted_directions import WIDTH, PlantedAgent, independent, levels, states_of

AGENT = PlantedAgent(3, noise=0.1)
SOURCES = independent(3)
GROUPS = levels()
STATES = states_of(AGENT, SOURCES)
CONCEPTS = {"a": SOURCES[:, 0], "c": SOURCES[:, 2] > 0}
UNSUPERVISED = {
    "pca": lambda x, groups, count=3, seed=0: fit_pca(x, groups, count, seed),
    "ica": lambda x, groups, count=3, seed=0: fit_ica(x, groups, count, seed),
    "nmf": lambda x, groups, count=3, seed=0: fit_nmf(x, groups, count, seed),
    "dictionary": lambda x, groups, count=3, seed=0: fit_dictionary(
        x, groups, 20, count, seed, steps=400, batch=256
    ),
}
SUPERVISED = {
    "means": lambda x, groups: fit_means(x, groups, {"a": CONCEPTS["a"] > 0, "c": CONCEPTS["c"]}),
    "probes": lambda x, groups: fit_probes(x, groups, CONCEPTS),
    "value": lambda x, groups: fit_value_gradient(AGENT, x, groups),
    "policy": lambda x, groups: fit_policy_gradients(
        AGENT, x, groups, {"jump": [1], "left": [0]}, write="pattern"
    ),
    "leace": lambda x, groups: fit_leace(x, groups, CONCEPTS),
}
FITS = UNSUPERVISED | SUPERVISED


@pytest.fixture(scope="module")
def fitted() -> dict[str, Directions]:
    whole = AGENT.policy_head.weight.detach().clone()
    with torch.no_grad():
        AGENT.policy_head.weight[0] = (
            torch.randn(WIDTH, generator=torch.Generator().manual_seed(0)) * 0.1
        )  # so that two choices differ
    made = {name: fit(STATES, GROUPS) for name, fit in FITS.items()}
    with torch.no_grad():
        AGENT.policy_head.weight.copy_(whole)
    return made


@pytest.mark.parametrize("name", FITS)
def test_linear_sets_write_one_score_at_a_time(name, fitted):
    found = fitted[name]
    assert found.linear == (name != "dictionary")
    if found.linear:
        torch.testing.assert_close(
            found.read @ found.write, torch.eye(len(found), dtype=torch.float64), atol=1e-9, rtol=0
        )
    assert found.provenance["method"]
    assert found.provenance["n"] <= len(STATES)
    assert found.provenance["seed"] == 0


@pytest.mark.parametrize("name", ["pca", "ica", "nmf", "means", "leace"])
def test_units_of_the_features_do_not_matter(name, fitted):
    """Standardisation is folded in exactly: states in other units and with another zero have the same scores,
    and edits in those units.
    """
    scale = np.exp(np.random.default_rng(1).normal(size=WIDTH))
    shift = np.random.default_rng(2).normal(size=WIDTH)
    x = STATES.astype(np.float64)
    moved = x * scale + shift
    plain = FITS[name](x, GROUPS)
    other = FITS[name](moved, GROUPS)
    tolerance = (
        dict(rtol=2e-3, atol=2e-3) if name in ("ica", "nmf") else dict(rtol=1e-5, atol=1e-5)
    )  # they iterate, in float32
    scores = plain.scores(torch.from_numpy(x[:50]))
    same = other.scores(torch.from_numpy(moved[:50]))
    torch.testing.assert_close(scores, same, **tolerance)
    edited = plain.edit(torch.from_numpy(x[:50]), scores + 1)
    again = other.edit(torch.from_numpy(moved[:50]), same + 1)
    torch.testing.assert_close(edited * scale + shift, again, **tolerance)


def test_principal_components_agree_with_scikit_learn(fitted):
    z = (STATES - STATES.mean(0)) / STATES.std(0)
    reference = PCA(3).fit(z)
    expected = reference.transform(z)
    mine = fitted["pca"].scores(torch.from_numpy(STATES)).numpy()
    signs = np.sign((mine * expected).sum(0))
    np.testing.assert_allclose(mine * signs, expected, atol=1e-3)
    shares = np.array(fitted["pca"].provenance["variance"]) / WIDTH
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, rtol=1e-4)
    assert ((fitted["pca"].write / torch.from_numpy(STATES.std(0))[:, None]).abs().argmax(0) >= 0).all()


def test_ica_scores_agree_with_scikit_learn_up_to_order_and_sign(fitted):
    test = held_out_rows(np.unique(GROUPS, return_inverse=True)[1], 0)
    z = STATES[~test]
    z = (z - z.mean(0)) / z.std(0)
    reference = FastICA(3, whiten="unit-variance", random_state=1).fit_transform(PCA(3).fit_transform(z))
    mine = fitted["ica"].scores(torch.from_numpy(STATES[~test])).numpy()
    assert np.abs(np.corrcoef(mine.T, reference.T)[:3, 3:]).max(1).min() > 0.999
    np.testing.assert_allclose(mine.std(0), 1, atol=1e-3)
    np.testing.assert_allclose(mine.mean(0), 0, atol=1e-3)


def test_means_have_scores_of_zero_and_one(fitted):
    found = fitted["means"]
    concept = CONCEPTS["c"]
    scores = found.scores(torch.from_numpy(STATES))[:, found.index("c")].numpy()
    assert abs(scores[~concept].mean()) < 1e-4
    assert abs(scores[concept].mean() - 1) < 1e-4
    moved = STATES[concept].mean(0) - STATES[~concept].mean(0)
    np.testing.assert_allclose(found.write[:, found.index("c")].numpy(), moved, rtol=1e-3, atol=1e-4)


def test_probes_are_the_ridge_regressions_of_scikit_learn_on_the_levels_they_were_fit_on(fitted):
    found = fitted["probes"]
    test = held_out_rows(np.unique(GROUPS, return_inverse=True)[1], 0)
    mean = STATES[~test].mean(0)
    std = STATES[~test].std(0)
    z = (STATES - mean) / std
    scores = found.scores(torch.from_numpy(STATES[test])).numpy()
    for k, name in enumerate(("a", "c")):
        alone = Ridge(alpha=found.provenance["penalties"][name]).fit(z[~test], CONCEPTS[name][~test])
        np.testing.assert_allclose(scores[:, k], alone.predict(z[test]), atol=1e-3)
    values = found.provenance["held_out"]
    assert abs(values["a"][0] - r2_score(CONCEPTS["a"][test], scores[:, 0])) < 1e-4
    assert abs(values["c"][0] - roc_auc_score(CONCEPTS["c"][test], scores[:, 1])) < 0.5 / AUROC_BINS


def test_probes_write_the_smallest_edit_when_asked_and_read_the_same(fitted):
    found = fitted["probes"]
    smallest = fit_probes(STATES, GROUPS, CONCEPTS, write="pseudo-inverse")
    assert torch.equal(smallest.read, found.read)
    assert not torch.allclose(smallest.write, found.write, rtol=0.01)


def test_probes_choose_the_penalty_by_cross_validation_over_levels():
    """Few states and many idle features: hardly any penalty would be chosen if the levels of the fit were
    scored.
    """
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(30), 4)
    x = rng.normal(size=(120, 60))
    found = fit_probes(x, level, {"a": x[:, 0] + 0.5 * rng.normal(size=120)})
    assert found.provenance["penalties"]["a"] >= 10


def test_decoding_scores_are_resampled_by_level():
    """One number per level, repeated: the interval must be that of the levels, not of the many states."""
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(30), 50)
    values = rng.normal(size=30)[level]
    read = values + rng.normal(size=30)[level]

    def r2(groups):
        truth, predicted = values[:, None], read[:, None]
        resamples = group_resamples(groups)
        return estimate(decoding_scores(truth, np.array([False]), predicted, groups, resamples)[:, 0])

    by_level = r2(level)
    by_state = r2(np.arange(1500))
    assert by_level.value == pytest.approx(r2_score(values, read))
    assert by_level.high - by_level.low > 4 * (by_state.high - by_state.low)


def test_erasure_leaves_nothing_linear_and_is_the_smallest_such_edit(fitted):
    x = torch.from_numpy(STATES)
    found = fitted["leace"]
    left = erase(found, x).numpy()
    z = np.stack([CONCEPTS["a"], CONCEPTS["c"]], 1)
    before, after = (np.corrcoef(part.T, z.T)[:WIDTH, WIDTH:] for part in (STATES, left))
    assert np.abs(before).max() > 0.5
    assert np.abs(after).max() < 1e-4
    assert len(found) == 2
    assert found.names == ("erased_0", "erased_1")
    probe = LogisticRegression().fit(left / STATES.std(0), CONCEPTS["c"])
    assert roc_auc_score(CONCEPTS["c"], probe.decision_function(left / STATES.std(0))) < 0.51
    centred = STATES - STATES.mean(0)
    cross = np.linalg.qr(centred.T @ (z - z.mean(0)))[0]
    orthogonal = centred @ cross @ cross.T  # erases too (SAL: Shao et al. 2023), and changes more
    assert np.abs(np.corrcoef((STATES - orthogonal).T, z.T)[:WIDTH, WIDTH:]).max() < 1e-3
    assert np.square(left - STATES).sum() < np.square(orthogonal).sum()
    assert fit_leace(STATES, GROUPS, {"a": CONCEPTS["a"]}).names == ("a",)
    with pytest.raises(UsageError, match="nothing to erase"):
        sign = np.tile([1.0, -1.0], len(STATES) // 2)
        fit_leace(np.repeat(STATES[::2], 2, 0), GROUPS, {"sign": sign})


def test_gradients_of_heads_that_are_not_linear_are_averaged_over_states():
    class Bent(PlantedAgent):
        def heads(self, state):
            logits, value = super().heads(state)
            return logits, value.square()

    agent = Bent(3)
    gradient, mean = average_gradients(agent, STATES, {"value": lambda logits, value: value})
    weights = agent.value_head.weight.detach().numpy()[0]
    bias = agent.value_head.bias.item()
    inner = STATES @ weights + bias
    np.testing.assert_allclose(gradient[0], 2 * inner.mean() * weights, rtol=1e-3)
    np.testing.assert_allclose(mean, (inner**2).mean(), rtol=1e-4)
    found = fit_value_gradient(agent, STATES, GROUPS)
    at_mean = found.scores(torch.from_numpy(STATES.mean(0)))
    torch.testing.assert_close(at_mean.item(), float(mean[0]), rtol=1e-3, atol=1e-3)


def test_gradients_of_a_missing_value_or_of_dependent_choices_are_refused():
    class NoValue(PlantedAgent):
        def heads(self, state):
            return super().heads(state)[0], None

    with pytest.raises(UsageError, match="has no value"):
        fit_value_gradient(NoValue(3), STATES, GROUPS)
    for chosen in ([], [0, 1, 2], [3]):
        with pytest.raises(UsageError, match="name some, but not all, of 0 to 2"):
            fit_policy_gradients(AGENT, STATES, GROUPS, {"x": chosen})
    with pytest.raises(UsageError, match="span only 1 of 2"):
        fit_policy_gradients(AGENT, STATES, GROUPS, {"jump": [1], "not jump": [0, 2]})


def with_nan(x):
    x[5, 2] = np.nan
    return x


def with_constant(x):
    x[:, 4] = 0.25
    return x


BAD = {
    "NaN": (lambda x: (with_nan(x), GROUPS), "1 of 4,800 states hold NaN or infinity, the first in row 5"),
    "constant": (lambda x: (with_constant(x), GROUPS), r"1 of 12 features never change \(4\)"),
    "one level": (
        lambda x: (x, np.zeros(len(x), int)),
        "need more than . levels or episodes, and there are 1: record more|needs at least 4",
    ),
    "shapes": (lambda x: (x[None], GROUPS), "are fit on states"),
    "other levels": (lambda x: (x, GROUPS[1:]), "are fit on states"),
    "nothing": (lambda x: (x[:0], GROUPS[:0]), "are fit on states"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("name", ["pca", "ica", "nmf", "dictionary"])
def test_bad_states_are_refused_in_one_line(name, fault):
    spoil, message = BAD[fault]
    with pytest.raises(UsageError, match=message) as error:
        FITS[name](*spoil(STATES.copy()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SUPERVISED)
def test_supervised_fits_refuse_them_too(name):
    with pytest.raises(UsageError, match="hold NaN"):
        FITS[name](with_nan(STATES.copy()), GROUPS)


def test_impossible_numbers_of_directions_are_refused():
    for count in (0, WIDTH + 1):
        with pytest.raises(UsageError, match=f"{count} directions? asked for in a space of 12"):
            fit_pca(STATES, GROUPS, count)
    with pytest.raises(
        UsageError,
        match="5 directions need more than 5 levels or episodes, and there are 4: "
        "ask for at most 3, or record more",
    ):
        fit_pca(STATES, GROUPS % 4, 5)
    with pytest.raises(UsageError, match="was to use 9 of 8"):
        fit_dictionary(STATES, GROUPS, 8, 9)
    flat = np.concatenate([STATES[:, :3], STATES[:, :3] @ np.random.default_rng(0).normal(size=(3, 3))], 1)
    with pytest.raises(UsageError, match="the states span only 3 of 5 dimensions: ask for at most 3"):
        fit_ica(flat.astype(np.float64), GROUPS, 5)


BAD_CONCEPTS = {
    "none": ({}, "no concept was given"),
    "short": ({"a": [True, False]}, "'a' has shape"),
    "NaN": ({"a": np.full(len(STATES), np.nan)}, "'a' holds NaN"),
    "constant": ({"a": np.ones(len(STATES), bool)}, "'a' is True in all 4800 states"),
    "rare": ({"a": GROUPS == 3}, "'a' is True in only . of the levels that it is fit on, and 10 are needed"),
}


@pytest.mark.parametrize("fault", BAD_CONCEPTS)
def test_bad_concepts_are_refused(fault):
    concepts, message = BAD_CONCEPTS[fault]
    with pytest.raises(UsageError, match=message):
        fit_probes(STATES, GROUPS, concepts)


def test_differences_of_means_need_boolean_and_independent_concepts():
    with pytest.raises(UsageError, match="takes true and false"):
        fit_means(STATES, GROUPS, {"a": SOURCES[:, 0]})
    with pytest.raises(UsageError, match="span only 1 of 2"):
        fit_means(STATES, GROUPS, {"c": CONCEPTS["c"], "not c": ~CONCEPTS["c"]})


@pytest.mark.parametrize(("module", "name"), [(ica, "ica"), (nmf, "nmf"), (probe_directions, "probes")])
def test_many_states_are_subsampled_and_the_provenance_says_so(module, name, fitted, monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 1000)
    found = FITS[name](STATES, GROUPS)
    assert found.provenance["n"] == 1000
    assert found.read.shape == fitted[name].read.shape
    assert not torch.equal(found.read, fitted[name].read)


def test_mean_and_covariance_do_not_depend_on_chunks_or_a_large_offset(monkeypatch):
    monkeypatch.setattr(fitting, "_CHUNK", 1000)
    x = STATES.astype(np.float64) + 1e4
    sample = sample_of(x, GROUPS)
    np.testing.assert_allclose(sample.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(sample.covariance, np.cov(x.T, bias=True), rtol=1e-8, atol=1e-10)


def test_a_quarter_of_whole_levels_is_held_out_by_seed():
    test = held_out_rows(GROUPS, 0)
    assert {bool(v) for level in np.unique(GROUPS) for v in [test[level == GROUPS].all()]} == {True, False}
    assert all(len(set(test[level == GROUPS])) == 1 for level in np.unique(GROUPS))
    assert test.mean() == pytest.approx(0.25, abs=0.01)
    assert not np.array_equal(test, held_out_rows(GROUPS, 1))
    with pytest.raises(UsageError, match="at least 4"):
        held_out_rows(GROUPS % 3, 0)


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_the_same_seed_gives_the_same_directions(name, fitted):
    assert FITS[name](STATES, GROUPS).id == fitted[name].id


@pytest.mark.parametrize("name", ["ica", "dictionary"])
def test_another_seed_gives_other_directions(name, fitted):
    assert FITS[name](STATES, GROUPS, seed=1).id != fitted[name].id


def test_dead_units_are_revived_where_states_are_badly_explained(monkeypatch):
    class Stillborn(dictionary.Dictionary):
        """All but four units never come near being used."""

        def __init__(self, *given):
            super().__init__(*given)
            with torch.no_grad():
                self.bias[4:] = -100

    monkeypatch.setattr(dictionary, "Dictionary", Stillborn)
    outcomes = {}
    for patience in (20, 10**9):
        monkeypatch.setattr(dictionary, "DEAD_AFTER", patience)
        found = fit_dictionary(STATES, GROUPS, 16, 3, steps=300, batch=128)
        outcomes[patience] = reconstruct(found, STATES).explained
        used = (found.scores(torch.from_numpy(STATES)) > 0).any(0).sum()
        assert (used > 12) == (patience == 20)
        assert patience == 20 or used <= 4
    assert outcomes[20] > outcomes[10**9] + 0.05


def test_a_dictionary_with_dead_units_says_so(monkeypatch, caplog):
    monkeypatch.setattr(dictionary, "DEAD_AFTER", 1)  # every unit that the last batch left out
    found = fit_dictionary(STATES, GROUPS, 400, 1, steps=20, batch=16)
    assert found.provenance["dead"] > 0.5
    assert "of the units are dead" in found.provenance["caveats"][0]
    assert "are dead" in caplog.text


def test_settings_of_a_dictionary_change_it(fitted):
    base = fitted["dictionary"].id
    for changed in (dict(steps=300), dict(batch=200), dict(learning_rate=1e-3)):
        assert fit_dictionary(STATES, GROUPS, 20, 3, **(dict(steps=400, batch=256) | changed)).id != base


def test_checked_sample_takes_tensors():
    torch.testing.assert_close(
        torch.from_numpy(checked_sample(torch.from_numpy(STATES), GROUPS, 3).x), torch.from_numpy(STATES)
    )


def test_reconstruction_is_the_share_of_variance(fitted):
    found = reconstruct(fitted["pca"], STATES)
    assert found.explained == pytest.approx(sum(fitted["pca"].provenance["variance"]) / WIDTH, abs=1e-4)
    assert found.method == "pca"
    assert found.count == 3
    assert found.active == 3
    assert reconstruct(fitted["dictionary"], STATES).active <= 3
    nothing = Directions(
        torch.zeros(1, WIDTH),
        torch.zeros(1),
        torch.zeros(WIDTH, 1),
        torch.from_numpy(STATES.mean(0)),
        ("none",),
    )
    assert reconstruct(nothing, STATES).explained == pytest.approx(0, abs=1e-6)


def test_methods_are_compared_at_equal_counts_on_unseen_levels():
    rows = compare_reconstruction(STATES, GROUPS, UNSUPERVISED, (1, 3))
    table = {(row.method, 3 if row.active > 1.5 else 1): row.explained for row in rows}
    assert len(rows) == 8
    assert {row.method for row in rows} == set(UNSUPERVISED)
    assert table["pca", 3] > 0.9
    assert table["ica", 3] == pytest.approx(table["pca", 3], abs=0.02)
    assert all(
        table["pca", count] > table["nmf", count] - 0.02 for count in (1, 3)
    )  # no linear set holds more
    assert table["pca", 3] > table["pca", 1]
