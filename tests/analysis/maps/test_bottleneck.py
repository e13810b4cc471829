"""Latents: equal distributions are not separable, and every number matches the model's own posteriors."""

from pathlib import Path

import numpy as np
import pytest
import torch

import record_gen_samples
from analysis import bottleneck_vec_analysis_precompute
from analysis.bottleneck_vec_analysis_plotting import Args as PlotArgs
from analysis.bottleneck_vec_analysis_plotting import main as plot
from analysis.bottleneck_vec_analysis_precompute import Args, main
from analysis.io.steps import read_numbers, read_part
from analysis.maps.latents import latent_outcomes, permutation_mmd, principal_axes, sample_distance
from analysis.plotting import style
from common.runs import UsageError
from generative.simulator_file import load_simulator
from interpret import overlap
from interpret.overlap import mmd2
from interpret.posterior import aggregate_posterior
from rollouts.store import Rollouts
from tests.helpers.toy_simulator import save_toy_files, toy_store

N = 240
WIDTH = 12
OWN = np.arange(N) // 2


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Intervals from fewer draws, which is all that takes long here."""
    monkeypatch.setattr(overlap, "RESAMPLES", 40)


def draws(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, WIDTH))


def test_prior_samples_are_not_separable_from_prior_samples():
    found = [
        sample_distance(draws(2 * seed), draws(2 * seed + 1), OWN, 1000 + OWN, seed) for seed in range(3)
    ]
    assert abs(np.mean([f["values and squares"]["value"] for f in found]) - 0.5) < 0.07
    assert sum(f["mmd"] <= f["mmd_null"] for f in found) >= 2
    assert max(f["mmd"] for f in found) < 0.15


@pytest.mark.parametrize("kind", ["mean", "spread", "together"])
def test_latents_that_differ_in_one_statistic_are_separable(kind):
    a = draws(0)
    b = draws(1)
    if kind == "mean":
        b[:, 3] += 1.5
    elif kind == "spread":
        b *= 1.6
    else:
        b[:, 1:6] = 0.3 * b[:, 1:6] + np.sqrt(1 - 0.3**2) * b[:, :1]  # the same means and variances
    found = sample_distance(a, b, OWN, 1000 + OWN, 0)
    assert found["values and squares"]["low"] > 0.65
    assert found["mmd"] > 1.3 * found["mmd_null"]
    assert (found["values"]["value"] > 0.7) == (kind == "mean")  # values alone see means only


def test_mmd_matches_its_definition_and_permutes_whole_groups():
    a = draws(5)[:30]
    b = draws(6)[:40] + 0.5
    both = np.concatenate([a, b])
    square = ((both[:, None] - both) ** 2).sum(-1)
    width = np.sqrt(np.median(square[np.triu_indices(70, 1)]))
    found, null = permutation_mmd(both, 30, np.arange(70), np.random.default_rng(0))
    assert found == pytest.approx(np.sqrt(mmd2(a, b, width)))
    assert null < found
    whole = np.random.default_rng(0).normal(size=(10, WIDTH))[
        np.arange(70) // 7
    ]  # copies: ten points in truth
    assert (
        permutation_mmd(whole, 35, np.arange(70) // 7, np.random.default_rng(0))[1]
        > 3 * permutation_mmd(whole, 35, np.arange(70), np.random.default_rng(0))[1]
    )


def test_principal_axes_are_unscaled():
    z = np.random.default_rng(0).normal(size=(4000, 3)) * [3, 1, 0.2] + [0, 5, 0]
    axes, variance, mean = principal_axes(z)
    np.testing.assert_allclose(variance, [9, 1, 0.04], rtol=0.1)
    np.testing.assert_allclose(mean, z.mean(0))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)


def recorded(path: Path, name: str, real: Path, **changed) -> Path:
    given = dict(
        num_samples=96,
        num_sim_steps=2,
        batch_size=48,
        device="cpu",
        log_level=40,
        out_dir=path / name,
    )
    record_gen_samples.main(
        record_gen_samples.Args(
            path / "model.safetensors", path / "agent.safetensors", real, **(given | changed)
        )
    )
    return path / name


@pytest.fixture(scope="module", params=["gaussian", "sphere"])
def made(request, tmp_path_factory):
    """A world model, a real store of many levels, and simulated rollouts from its frames and from random
    latents.
    """
    path = tmp_path_factory.mktemp(request.param)
    save_toy_files(path, latent=request.param)
    toy_store(path / "many", 80)
    recorded(path, "informed", path / "many")
    recorded(path, "random", path / "many", rand_init=True)
    return path, request.param


def run(made, out, **changed):
    path = made[0]
    given = dict(
        data_dir=path / "many",
        informed_dir=path / "informed",
        random_dir=path / "random",
        clusters=3,
        maps=(),
        num_threads=1,
        device="cpu",
        log_level=40,
    )
    main(Args(path / "model.safetensors", path / "agent.safetensors", out_dir=out, **(given | changed)))
    return (out / "bottleneck_vec_analysis_precomp" / "latest").resolve()


@pytest.fixture(scope="module")
def finished(made, tmp_path_factory):
    """Where a step was made, and its directory."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "RESAMPLES", 40)
        return out, run(made, out)


def test_numbers_match_the_models_posteriors(made, finished):
    (path, latent), directory = made, finished[1]
    informed = Rollouts.open(path / "informed")
    real = Rollouts.open(path / "many")
    simulator = load_simulator(path / "model.safetensors", path / "agent.safetensors")[0]
    k = simulator.model.config.num_initializing_steps
    q = read_part(directory, "posteriors")
    about = read_numbers(directory)
    for i in (0, 40, 95):
        episode = informed.episodes["source_episode"][i]
        step = informed.episodes["source_step"][i]
        with torch.no_grad():
            one = simulator.encode(
                torch.from_numpy(real.episode(episode)["obs"][step - k + 1 : step + 1])[:, None]
            )
        np.testing.assert_allclose(q["mean"][i], one.mean[0], atol=1e-5)
        if latent == "gaussian":
            np.testing.assert_allclose(q["log_variance"][i], one.log_variance[0], atol=1e-5)
    found = aggregate_posterior(q["mean"], q.get("log_variance"))
    np.testing.assert_allclose(read_part(directory, "dimensions")["q.variance"], found.variance)
    assert (about["q"]["rate"] is None) == (latent == "sphere")
    assert about["samples"] == {
        "informed": 96,
        "random": 96,
    }
    if latent == "gaussian":
        assert about["q"]["rate"] == pytest.approx(found.kl.sum())
    flat = read_part(directory, "map_pca")
    assert flat["real"].shape == flat["random"].shape == (96, 2)
    assert about["distance"].keys() == {
        "informed",
        "control",
    }


def test_labels_are_the_outcomes_of_each_latent(made):
    store = Rollouts.open(made[0] / "informed")
    labels = latent_outcomes(store, np.array([2, 5, 20]))
    for i, episode in enumerate((2, 5, 20)):
        steps = store.episode(episode)
        assert labels["reward"][i] == steps["reward"].max()
        assert labels["done"][i] == steps["terminated"].any()
        assert labels["value"][i] == pytest.approx(steps["value"].mean(), abs=1e-5)


def test_a_finished_command_does_nothing_and_every_flag_changes_the_artefacts(
    made, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        bottleneck_vec_analysis_precompute, "distances", lambda *given: {}
    )  # tested above, and slow
    if made[1] == "sphere":
        pytest.skip("does not depend on the prior; the Gaussian one covers it")
    first = finished[1]
    assert run(made, finished[0]) == first
    assert run(made, finished[0], new=True) != first
    labels = read_part(first, "labels")
    assert (run(made, tmp_path, maps=("tsne",)) / "map_tsne.safetensors").exists()
    assert not (first / "map_tsne.safetensors").exists()
    for change in (dict(clusters=2), dict(num_samples=92), dict(seed=1)):
        other = read_part(run(made, tmp_path, **change), "labels")
        assert any(
            other[key].shape != labels[key].shape or not np.array_equal(other[key], labels[key])
            for key in labels
        ), change


def test_figures_need_artefacts_only(finished, tmp_path, monkeypatch):
    directory = finished[1]
    monkeypatch.setattr(Rollouts, "open", None)
    monkeypatch.setattr(style, "DPI", 40)
    plot(PlotArgs(directory, tmp_path, 40))
    drawn = {
        path.name: path.stat().st_size
        for path in (tmp_path / "bottleneck_vec_analysis_plots" / directory.name).iterdir()
    }
    assert drawn.keys() == {"latents_pca.png", "distance_from_prior.png"}
    assert min(drawn.values()) > 5_000


def test_unsuitable_stores_are_refused_in_one_line(made, tmp_path):
    path = made[0]
    with pytest.raises(UsageError, match="starts from random latents: record the informed store"):
        run(made, tmp_path, informed_dir=path / "random")
    with pytest.raises(UsageError, match="starts from recorded frames: record the informed store"):
        run(made, tmp_path, random_dir=path / "informed")
    with pytest.raises(UsageError, match="another store than"):
        run(made, tmp_path, data_dir=path / "store")
    with pytest.raises(UsageError, match="which have no latents"):
        run(made, tmp_path, informed_dir=path / "many")
    with pytest.raises(UsageError, match="--num_samples is 40: a map takes 91"):
        run(made, tmp_path, num_samples=40)


def test_clusters_are_lowered_to_what_the_latents_allow(made, tmp_path, caplog):
    run(made, tmp_path, clusters=900)
    assert "--clusters 900 to " in caplog.text
