"""Cross-causation: planted effects are found in the right subset, path, lag and direction; every flag changes
a named output.
"""

import numpy as np
import pytest

from analysis.io.steps import read_numbers
from analysis.lagged.cross_causation import read_means
from analysis.lagged.xcaus_figures import strongest_effects
from analysis.plotting import style
from analysis.rendering.path_trust import untrusted_paths
from analysis.xcaus_precompute import Args, main
from analysis.xcorr_and_xcaus_plots import Args as PlotArgs
from analysis.xcorr_and_xcaus_plots import main as plot
from common.checkpoints import write_json
from common.runs import UsageError
from tests.helpers.jacobian_step import write_clusters, write_jacobian_step

N, L, K, T = 240, 4, 4, 6
CLUSTER = np.repeat([1, 0, 2], [100, 120, 20])[np.random.default_rng(5).permutation(N)]
"""The first samples of the store are not those of cluster 0."""


def planted() -> dict[str, np.ndarray]:
    """Direction 0 raises direction 1 two steps later, along memory and in cluster 0 alone; direction 2 lowers
    direction 3 one step later, through actions and where its own score is high at step 1.
    """
    rng = np.random.default_rng(0)
    agent = 0.3 * rng.normal(size=(N, L, K, K))
    agent[CLUSTER == 0, 2, 0, 1] += 1.0
    scores = rng.normal(size=(N, T, K))
    total = agent + 0.1 * rng.normal(size=(N, L, K, K))
    total[scores[:, 1, 2] > np.quantile(scores[:, 1, 2], 0.85), 1, 2, 3] -= 1.5
    for x in (total, agent):
        x[:, 0] = np.eye(K)
    return {"total": total, "agent": agent, "scores": scores}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    return write_jacobian_step(path, **planted()), write_clusters(path, CLUSTER)


def run(made, out, **changed):
    small = dict(resamples=50, extrema_quantile=0.15, extrema_steps=(1,), clusters_dir=made[1], log_level=40)
    main(Args(jacobians_dir=made[0], out_dir=out, **(small | changed)))
    return (out / "xcaus_precomp" / "latest").resolve()


@pytest.fixture(scope="module")
def usual(made, tmp_path_factory):
    return run(made, tmp_path_factory.mktemp("usual"))


def test_a_cluster_has_its_own_members(usual):
    """Defect 18 of the original system: it took as many samples from the beginning of the store."""
    agent = planted()["agent"]
    mine = read_means(usual, "cluster_0")
    limits = np.quantile(np.linalg.norm(agent, axis=(2, 3)), 0.95, axis=0)
    norms = np.linalg.norm(agent, axis=(2, 3))
    limited = agent * np.minimum(1, limits / norms)[..., None, None]
    np.testing.assert_allclose(mine["mean/agent"], limited[CLUSTER == 0].mean(0), atol=1e-5)
    assert np.abs(mine["mean/agent"] - limited[:120].mean(0)).max() > 0.3  # what the defect gave
    assert mine["significant/agent"][2, 0, 1]
    assert mine["distinct/agent"][2, 0, 1]
    others = read_means(usual, "cluster_1")
    assert not others["significant/agent"][2, 0, 1]
    numbers = read_numbers(usual)
    assert {name: row["samples"] for name, row in numbers["sets"].items()} == {
        "all": 240,
        "cluster 0": 120,
        "cluster 1": 100,
        "cluster 2": 20,
    }


def test_shuffled_clusters_differ_from_nothing(made, tmp_path):
    shuffled = write_clusters(tmp_path, np.random.default_rng(1).permutation(CLUSTER))
    directory = run(made, tmp_path, clusters_dir=shuffled)
    found = [read_means(directory, f"cluster_{c}")["distinct/agent"] for c in range(3)]
    assert np.sum(found) <= 2


def test_the_effect_has_its_lag_and_direction(usual):
    whole = read_means(usual, "all")
    largest = read_numbers(usual)["sets"]["all"]["agent"]["largest"]
    assert (largest["earlier"], largest["later"], largest["lag"]) == ("d0", "d1", 2)
    assert largest["low"] < largest["mean"] < largest["high"]
    marks = whole["significant/agent"]
    assert marks[2, 0, 1]
    assert not marks[2, 1, 0]  # transposed
    assert not marks[3, 0, 1]  # shifted
    assert not marks[0].any()
    assert not whole["distinct/agent"].any()
    assert whole["significant/total"][1, 2, 3]
    assert not whole["significant/agent"][1, 2, 3]  # the planted effect goes through actions


def test_extreme_samples_are_those_of_the_step_and_end(usual):
    numbers = read_numbers(usual)
    assert len(numbers["extrema"]) == 2 * K
    assert all(row["samples"] == 36 for row in numbers["extrema"].values())
    high, low = (read_means(usual, f"d2_{end}_at_step_1") for end in ("high", "low"))
    assert high["distinct/total"][1, 2, 3]
    assert high["mean/total"][1, 2, 3] < -1
    assert abs(low["mean/total"][1, 2, 3]) < 0.2
    for name in numbers["extrema"]:
        if not name.startswith("d2"):
            assert read_means(usual, name.replace(" ", "_"))["mean/total"][1, 2, 3] > -0.8


@pytest.mark.parametrize(
    ("changed", "part", "array"),
    [
        ({"norm_quantile": 0.5}, "all", "mean/total"),
        ({"resamples": 60}, "all", "low/total"),
        ({"seed": 1}, "all", "high/agent"),
        ({"extrema_quantile": 0.2}, "d2_high_at_step_1", "mean/total"),
    ],
)
def test_every_flag_changes_what_it_names(made, usual, tmp_path, changed, part, array):
    other = read_means(run(made, tmp_path, **changed), part)[array]
    assert not np.array_equal(read_means(usual, part)[array], other)


def test_flags_of_subsets_and_rates(made, usual, tmp_path):
    assert list(read_numbers(run(made, tmp_path, clusters_dir=None))["sets"]) == ["all"]
    assert read_numbers(run(made, tmp_path, extrema_steps=()))["extrema"] == {}
    steps = {name[-1] for name in read_numbers(run(made, tmp_path, extrema_steps=(0, 3)))["extrema"]}
    assert steps == {"0", "3"}
    loose, strict = (
        read_numbers(run(made, tmp_path, fdr=rate))["sets"]["all"]["total"]["significant"]
        for rate in (0.9, 1e-30)
    )
    assert loose > strict == 0
    before = (usual / "all.safetensors").stat().st_mtime_ns
    assert run(made, usual.parents[1]) == usual
    assert (usual / "all.safetensors").stat().st_mtime_ns == before
    assert run(made, tmp_path, new=True) != run(made, tmp_path, clusters_dir=None)


def test_small_subsets_are_left_out_and_samples_of_one_start_are_a_group(made, tmp_path):
    few = np.where(np.arange(N) < 19, 0, 1)
    directory = run(made, tmp_path, clusters_dir=write_clusters(tmp_path, few), extrema_quantile=0.02)
    numbers = read_numbers(directory)
    assert "cluster 0" in numbers["left_out"]
    assert "d0 low at step 1" in numbers["left_out"]
    assert numbers["extrema"] == {}
    grouped = write_jacobian_step(tmp_path, **planted(), group=np.arange(N) // 4)
    numbers = read_numbers(run((grouped, made[1]), tmp_path / "grouped"))
    assert numbers["sets"]["all"]["groups"] == N // 4
    assert "cluster 2" in numbers["left_out"]  # 20 samples, but of fewer start episodes


def test_clusters_of_the_jacobians_themselves_are_not_tested_for_differences(made, tmp_path):
    circular = write_clusters(tmp_path, CLUSTER, jacobians={"lag": 1})
    directory = run(made, tmp_path, clusters_dir=circular)
    assert read_numbers(directory)["circular"]
    assert np.isnan(read_means(directory, "cluster_0")["differs/agent"]).all()
    assert not read_means(directory, "cluster_0")["distinct/agent"].any()
    assert read_means(directory, "cluster_0")["significant/agent"].any()


def test_samples_that_do_not_repeat_their_episode_do_not_count(tmp_path):
    content = planted()
    kept = np.random.default_rng(2).random(N) < 0.8
    content["total"][~kept] = 1e6
    directory = run((write_jacobian_step(tmp_path, **content, replayed=kept), None), tmp_path)
    assert read_numbers(directory)["sets"]["all"]["samples"] == kept.sum()
    assert np.abs(read_means(directory, "all")["mean/total"]).max() < 2


def test_figures_need_artefacts_only(made, tmp_path, monkeypatch):
    clustered = run(made, tmp_path)
    whole = run(made, tmp_path, clusters_dir=None, extrema_steps=())
    monkeypatch.setattr(style, "DPI", 40)

    def drawn(directory=whole, **changed):
        plot(PlotArgs(out_dir=tmp_path, xcaus_dir=directory, log_level=40, **changed))
        return {
            file.name: file.read_bytes() for file in (tmp_path / "xcaus_plots" / directory.name).iterdir()
        }

    found = drawn(clustered, results=tmp_path / "r.json", images=tmp_path / "images")
    names = ("all", "all_strongest", "cluster_0", "clusters_total", "clusters_agent")
    assert {f"effects_{name}.png" for name in names} | {"extremes_step_1.png"} <= found.keys()
    copied = {path.name for path in (tmp_path / "images").iterdir()}
    assert copied == {f"effects_{name}.png" for name in names if name != "cluster_0"}
    assert '"extrema":' not in (tmp_path / "r.json").read_text()
    assert not (tmp_path / "xcorr_plots").exists()
    base = drawn(shown_lags=(1,))["effects_all.png"]
    assert drawn(shown_lags=(3,))["effects_all.png"] != base
    assert drawn(shown_lags=(1,), order="fitted")["effects_all.png"] != base
    assert drawn(shown_lags=(1,), overview_lag=2)["effects_all.png"] != base  # by which scores are ordered
    checked = {name: {"greyed": name == "agent"} for name in ("agent", "environment", "mixed")}
    write_json(tmp_path / "check.json", {"paths": checked})
    assert drawn(shown_lags=(1,), gradient_check=tmp_path / "check.json")["effects_all.png"] != base
    with pytest.raises(UsageError, match="lags from 1 to 3"):
        drawn(shown_lags=(0, 9))
    with pytest.raises(UsageError, match=r"no finished artefacts.*xcorr_and_xcaus_precompute.py"):
        plot(PlotArgs(draw=("xcorr",), out_dir=tmp_path))


def test_gradients_that_the_check_does_not_confirm_are_named(tmp_path):
    for greyed, paths in {"agent": ("mixed",), "mixed": ("total",), "environment": ("environment",)}.items():
        found = {name: {"greyed": name == greyed} for name in ("agent", "environment", "mixed")}
        write_json(tmp_path / "check.json", {"paths": found})
        assert untrusted_paths(tmp_path / "check.json") == paths
    write_json(tmp_path / "other.json", {"states": 3})
    with pytest.raises(UsageError, match="is no result of python -m analysis.gradient_check"):
        untrusted_paths(tmp_path / "other.json")


def test_strongest_effects_are_of_different_scores_and_significant():
    mean = np.zeros((3, 3, 3))
    mean[1, 0, 1], mean[2, 2, 0], mean[1, 1, 1], mean[1, 2, 1], mean[0, 0, 2] = -3, 2, 9, 5, 7
    marks = mean != 0
    marks[1, 2, 1] = False
    assert strongest_effects({"mean/total": mean, "significant/total": marks}) == [(0, 1), (2, 0)]


def test_invalid_input_is_refused_in_one_line(made, tmp_path):
    with pytest.raises(UsageError, match=r"no finished artefacts.*jacobian_analysis_precompute.py"):
        main(Args(out_dir=tmp_path))
    with pytest.raises(UsageError, match="--extrema_steps 4 is after step 3"):
        run(made, tmp_path, extrema_steps=(4,))
    with pytest.raises(UsageError, match="--extrema_steps -1: steps count from 0"):
        run(made, tmp_path, extrema_steps=(-1,))
    for changed in ({"fdr": 0.0}, {"norm_quantile": 1.2}, {"extrema_quantile": 0.5}, {"resamples": 3}):
        with pytest.raises(UsageError, match=f"--{next(iter(changed))} is"):
            run(made, tmp_path, **changed)
    with pytest.raises(UsageError, match="clusters of another store"):
        run(made, tmp_path, clusters_dir=write_clusters(tmp_path, CLUSTER, store="other"))
