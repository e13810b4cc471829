"""Consistency of gradients and dynamics: planted agreement is found in its own behaviour, beyond biased
signs; shifted, transposed and shuffled gradients lose it; every flag changes a named output.
"""

import numpy as np
import pytest

from analysis.dynamics_grads_consistency_plots import Args as PlotArgs
from analysis.dynamics_grads_consistency_plots import main as plot
from analysis.dynamics_grads_consistency_precompute import Args, main
from analysis.io.steps import read_numbers, read_part
from analysis.lagged.consistency import correlation_signs
from analysis.plotting import style
from common.runs import UsageError
from interpret.lagged import LaggedCorrelations
from tests.helpers.jacobian_step import write_clusters, write_jacobian_step

N, L, K, T = 200, 4, 8, 16
CLUSTER = np.repeat([1, 0], [100, 100])[np.random.default_rng(3).permutation(N)]
"""The first samples are of both clusters."""


def dynamics(seed: int) -> np.ndarray:
    """Effects [K, K] of earlier scores (rows) on later ones: a third of the pairs, of either sign."""
    rng = np.random.default_rng(seed)
    effects = rng.choice([-1, 1], (K, K)) * rng.uniform(0.4, 1, (K, K))
    effects = np.where(rng.random((K, K)) < 0.3, effects, 0)
    np.fill_diagonal(effects, 0.3)
    return 0.9 * effects / np.abs(np.linalg.eigvals(effects)).max()


def planted(mutant: str = "") -> dict[str, np.ndarray]:
    """Episodes of a linear process with noise and their true Jacobians; each cluster has its own process."""
    rng = np.random.default_rng(0)
    own = np.stack([dynamics(10), dynamics(20)])[CLUSTER]  # [N, K, K]
    scores = np.zeros((N, T, K))
    for t in range(T):
        before = scores[:, t - 1] if t else np.zeros((N, K))
        scores[:, t] = np.einsum("nk,nkj->nj", before, own) + rng.normal(size=(N, K))
    powers = np.stack([np.linalg.matrix_power(own, lag) for lag in range(L)], 1)
    total = powers + 0.1 * rng.normal(size=powers.shape)
    if mutant == "shifted":
        total[:, 1:] = np.roll(total[:, 1:], 1, 1)
    if mutant == "transposed":
        total = total.transpose(0, 1, 3, 2)
    if mutant == "other directions":
        total = np.roll(np.roll(total, 2, 2), 2, 3)
    agent = total * rng.choice([-1, 1], (N, 1, 1, 1))  # on average nothing
    return {"total": total, "agent": agent, "scores": scores}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    return write_jacobian_step(path, **planted()), write_clusters(path, CLUSTER)


def run(made, out, **changed):
    small = dict(draws=20, permutations=200, resamples=20, clusters_dir=made[1], log_level=40)
    main(Args(jacobians_dir=made[0], out_dir=out, **(small | changed)))
    return (out / "dynamics_grads_consistency_precomp" / "latest").resolve()


@pytest.fixture(scope="module")
def usual(made, tmp_path_factory):
    return run(made, tmp_path_factory.mktemp("usual"))


def agreement(directory, subset: str = "cluster 0", path: str = "total", lag: int = 1, kind: str = "sign"):
    """Numbers of a subset at a lag; lag 0 stands for all lags."""
    return read_numbers(directory)["sets"][subset]["paths"][path][lag - 1][kind]


@pytest.mark.parametrize("subset", ["cluster 0", "cluster 1"])
def test_each_behaviour_agrees_with_its_own_gradients(usual, subset):
    sign = agreement(usual, subset, lag=0)
    assert sign["value"] > 0.9
    assert sign["p"] < 0.05
    assert sign["significant"]
    assert sign["n"] >= 40
    assert sign["null"]["low"] <= sign["null"]["mean"] <= sign["null"]["high"] < sign["value"]
    assert sign["low"] <= sign["value"] <= sign["high"]
    magnitude = agreement(usual, subset, lag=0, kind="magnitude")
    assert magnitude["value"] > 0.4
    assert magnitude["p"] < 0.05
    assert read_numbers(usual)["sets"][subset]["samples"] == 100


def test_gradients_without_a_preferred_sign_count_for_nothing(usual):
    assert agreement(usual, path="agent")["n"] <= 3


def test_matrices_are_of_the_members_and_the_lags(usual):
    arrays = read_part(usual, "cluster_1")
    member = CLUSTER == 1
    total = planted()["total"]
    norms = np.linalg.norm(total[:, 1:], axis=(2, 3), keepdims=True)
    limited = total[:, 1:] * np.minimum(1, np.quantile(norms, 0.95, axis=0) / norms)
    np.testing.assert_allclose(arrays["jacobian/total"], limited[member].mean(0), atol=1e-5)
    scores = planted()["scores"][member]
    for lag in (1, 3):
        early, late = scores[:, : T - lag].reshape(-1, K), scores[:, lag:].reshape(-1, K)
        expected = np.corrcoef(early.T, late.T)[:K, K:]
        np.testing.assert_allclose(arrays["correlation"][lag - 1], expected, atol=1e-4)
    assert not arrays["agreement/total"][:, np.eye(K, dtype=bool)].any()


@pytest.mark.parametrize("mutant", ["shifted", "transposed", "other directions"])
def test_mutants_lose_the_agreement(usual, tmp_path, mutant):
    made = write_jacobian_step(tmp_path, **planted(mutant)), write_clusters(tmp_path, CLUSTER)
    directory = run(made, tmp_path)
    for kind, lost in (("sign", 0.1), ("magnitude", 0.2)):
        found, own = (agreement(one, "cluster 1", lag=0, kind=kind) for one in (directory, usual))
        assert found["value"] < own["value"] - lost


def test_shuffled_clusters_lose_the_agreement_of_their_processes(made, usual, tmp_path):
    shuffled = write_clusters(tmp_path, np.random.default_rng(1).permutation(CLUSTER))
    found = read_part(run(made, tmp_path, clusters_dir=shuffled), "cluster_0")["jacobian/total"][0]
    own = read_part(usual, "cluster_0")["jacobian/total"][0]
    assert np.abs(own - dynamics(10)).max() < 0.1
    assert np.abs(found - dynamics(10)).max() > 0.15


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        ({"norm_quantile": 0.3}, "magnitude"),
        ({"permutations": 300}, "sign"),
        ({"resamples": 40}, "magnitude"),
        ({"seed": 1}, "magnitude"),
        ({"fdr": 1e-12}, "sign"),
    ],
)
def test_every_flag_changes_what_it_names(made, usual, tmp_path, changed, number):
    other = run(made, tmp_path, **changed)
    assert agreement(other, kind=number) != agreement(usual, kind=number)


def test_flags_of_correlations_subsets_and_lags(made, usual, tmp_path):
    base = read_part(usual, "correlations_all")
    for change in ({"null": "shift"}, {"draws": 25}):
        other = read_part(run(made, tmp_path, **change), "correlations_all")
        assert other.keys() != base.keys() or not np.array_equal(other["p"], base["p"], equal_nan=True)
    assert list(read_numbers(run(made, tmp_path, clusters_dir=None))["sets"]) == ["all"]
    assert len(read_part(run(made, tmp_path, lags=2), "all")["correlation"]) == 2
    assert len(read_part(usual, "all")["correlation"]) == L - 1
    assert run(made, usual.parents[1]) == usual
    assert run(made, usual.parents[1], new=True) != usual


def test_a_correlation_that_its_null_explains_counts_for_nothing():
    correlation = np.full((2, 2, 2), 0.3)
    found = LaggedCorrelations(
        correlation,
        np.array([9, 9]),
        9,
        {"shift": np.array([[[0.1, 0.1], [0.5, 0.1]]] * 2), "pairing": np.zeros((2, 2, 2))},
        {},
        correlation,
    )
    marks = np.ones((2, 2, 2), bool)
    np.testing.assert_array_equal(correlation_signs(found, marks), [[[0, 1], [0, 0]]])
    marks[1, 0, 1] = False
    assert not correlation_signs(found, marks).any()


def test_figures_need_artefacts_only(made, tmp_path, monkeypatch):
    directory = run(made, tmp_path)
    whole = run(made, tmp_path, clusters_dir=None)
    monkeypatch.setattr(style, "DPI", 40)

    def drawn(directory=whole, **changed):
        page = plot(PlotArgs(precomp_dir=directory, out_dir=tmp_path, log_level=40, **changed))
        return {file.name: file.read_bytes() for file in page.parent.iterdir()}

    one = drawn(directory)
    assert {
        "agreement_sign.png",
        "agreement_magnitude.png",
        "stories_all.png",
        "stories_cluster_0.png",
    } <= one.keys()
    page = one["dynamics_grads_consistency.html"].decode()
    assert "Behaviour: cluster 1" in page
    assert "cluster 1 (100)" in page
    base = drawn(shown_lags=(1,), results=tmp_path / "r.json", images=tmp_path / "images")
    assert (tmp_path / "r.json").exists()
    assert (tmp_path / "images" / "stories_all.png").read_bytes() == base["stories_all.png"]
    assert drawn(shown_lags=(1, 2))["stories_all.png"] != base["stories_all.png"]
    assert drawn(shown_lags=(1,), order="fitted")["stories_all.png"] != base["stories_all.png"]
    with pytest.raises(UsageError, match="lags from 1 to 3"):
        drawn(shown_lags=(9,))


def test_invalid_input_is_refused_in_one_line(made, tmp_path, caplog):
    with pytest.raises(UsageError, match=r"no finished artefacts.*jacobian_analysis_precompute.py"):
        main(Args(out_dir=tmp_path))
    with pytest.raises(UsageError, match=r"no finished artefacts.*consistency_precompute.py"):
        plot(PlotArgs(out_dir=tmp_path))
    for changed in ({"fdr": 1.0}, {"norm_quantile": 0.0}, {"permutations": 3}, {"resamples": 3}, {"lags": 0}):
        with pytest.raises(UsageError, match=f"--{next(iter(changed))} is"):
            run(made, tmp_path, **changed)
    two = {name: x[..., :2, :2] if x.ndim == 4 else x[..., :2] for name, x in planted().items()}
    with pytest.raises(UsageError, match="2 directions cannot be relabelled"):
        run((write_jacobian_step(tmp_path, **two), None), tmp_path)
    run(made, tmp_path, log_level=30)
    assert "--lags 10 to 3 (the Jacobians reach back 3 steps)" in caplog.text
