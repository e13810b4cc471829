"""The lagged correlations of a store: planted lags are recovered by both scripts, clusters have their own
members, every flag does what it says.
"""

import numpy as np
import pytest
import torch

from analysis.io.artefacts import cached_part
from analysis.io.steps import finish_step, open_step, read_numbers, read_part
from analysis.lagged.figures import clustered_order, strongest, two_sided
from analysis.lagged.store_correlations import from_arrays
from analysis.maps import map_summary
from analysis.maps.step_fields import episode_groups, field_chunks, levels_in_words
from analysis.plotting import style
from analysis.xcorr_and_xcaus_plots import Args as PlotArgs
from analysis.xcorr_and_xcaus_plots import main as plot
from analysis.xcorr_and_xcaus_precompute import Args, main
from common.runs import UsageError
from interpret.directions.directions import Directions, save_directions
from interpret.lagged import lagged_correlations
from rollouts.store import Rollouts
from tests.helpers.loop_store import ENV, KINDS, LAG, WIDTH, kinds, make_loop_store


def units(width: int, count: int) -> Directions:
    """The first features of a space, as they are."""
    read = torch.eye(width)[:count]
    return Directions(
        read, torch.zeros(count), read.T, torch.zeros(width), [f"unit_{i}" for i in range(count)]
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, directions of agent and environment, and its episodes' behaviours as a finished step."""
    path = tmp_path_factory.mktemp("made")
    store = make_loop_store(path / "store")
    save_directions(path / "agent.safetensors", units(WIDTH, 3))
    save_directions(path / "env.safetensors", units(ENV, 2))
    run = open_step(path, "behaviours", 1, {}, {})
    cached_part(
        run,
        "behaviours",
        lambda: {
            "episode": np.arange(len(store)),
            "cluster": np.where(np.arange(len(store)) < 30, kinds(len(store)), KINDS),
        },
    )
    finish_step(run, {"store": store.id, "clusters": KINDS + 1})
    return path, run.dir


def run(made, out, **changed):
    """The finished step's directory."""
    path, _ = made
    main(
        Args(
            path / "agent.safetensors",
            path / "store",
            out_dir=out,
            **(dict(draws=30, lags=4, log_level=40) | changed),
        )
    )
    return (out / "xcorr_precomp" / "latest").resolve()


def test_the_planted_lag_is_recovered_across_the_loop(made, tmp_path):
    directory = run(made, tmp_path, env_directions=made[0] / "env.safetensors")
    about = read_numbers(directory)
    found = from_arrays(read_part(directory, "all"))
    assert about["names"] == ["agent unit_0", "agent unit_1", "agent unit_2", "env unit_0", "env unit_1"]
    largest = about["sets"]["all"]["largest"]
    assert np.abs(found.correlation[:, 0, 3]).argmax() == LAG
    assert found.correlation[LAG, 0, 3] > 0.9
    assert (largest["earlier"], largest["later"], largest["lag"]) == ("agent unit_0", "env unit_0", LAG)
    assert read_part(directory, "significant")["all"][LAG, 0, 3]
    assert about["levels"] == "none (simulated from recorded frames)"
    store = Rollouts.open(made[0] / "store")
    own = np.concatenate([store.hidden_after()[:, :3], store.steps("env_state")[:, :2]], 1)
    np.testing.assert_allclose(
        found.correlation,
        lagged_correlations(own, store.episodes["length"], 4, draws=20).correlation,
        atol=1e-4,
    )


def test_a_cluster_has_its_own_episodes_and_small_ones_are_excluded(made, tmp_path):
    directory = run(made, tmp_path, clusters_dir=made[1])
    about = read_numbers(directory)
    assert list(about["sets"]) == ["all", f"cluster {KINDS}"]
    assert about["left_out"] == [f"cluster {c}" for c in range(KINDS)]
    store = Rollouts.open(made[0] / "store")
    assert about["sets"][f"cluster {KINDS}"]["episodes"] == 90
    assert about["sets"]["all"]["episodes"] == 120
    begin = store.episodes["length"][:30].sum()
    mine = lagged_correlations(store.hidden_after()[begin:, :3], store.episodes["length"][30:], 4, draws=20)
    found = from_arrays(read_part(directory, f"cluster_{KINDS}"))
    np.testing.assert_allclose(found.correlation, mine.correlation, atol=1e-4)
    assert not np.allclose(found.correlation, from_arrays(read_part(directory, "all")).correlation, atol=1e-3)


def test_a_finished_command_does_nothing_and_every_flag_changes_the_artefacts(made, tmp_path):
    first = run(made, tmp_path)
    before = (first / "all.safetensors").stat().st_mtime_ns
    assert run(made, tmp_path) == first
    assert (first / "all.safetensors").stat().st_mtime_ns == before
    assert run(made, tmp_path, new=True) != first
    base = read_part(first, "all")
    for change in (dict(null="shift"), dict(draws=25), dict(seed=1), dict(lags=3), dict(num_episodes=60)):
        other = read_part(run(made, tmp_path, **change), "all")
        assert other.keys() != base.keys() or any(
            other[key].shape != base[key].shape or not np.array_equal(other[key], base[key], equal_nan=True)
            for key in base
        )
    both = made[0] / "env.safetensors"
    loose, strict = (
        read_numbers(run(made, tmp_path, fdr=rate, env_directions=both))["sets"]["all"]["significant"]
        for rate in (0.5, 1e-40)
    )
    assert loose > strict == 0
    assert read_numbers(run(made, tmp_path, num_episodes=60))["sets"]["all"]["episodes"] == 60


def test_figures_need_artefacts_only(made, tmp_path, monkeypatch):
    directory = run(made, tmp_path, clusters_dir=made[1], env_directions=made[0] / "env.safetensors")
    monkeypatch.setattr(Rollouts, "open", None)
    monkeypatch.setattr(style, "DPI", 40)
    plots = tmp_path / "xcorr_plots" / directory.name

    def drawn(**changed):
        plot(PlotArgs(out_dir=tmp_path, log_level=40, **changed))
        return {file.name: file.read_bytes() for file in plots.iterdir()}

    base = drawn()
    assert {"all.png", "clusters.png", f"cluster_{KINDS}.png"} <= base.keys()
    other = drawn(shown_lags=(0, 1), overview_lag=2)
    assert other["all.png"] != base["all.png"]
    assert other["clusters.png"] != base["clusters.png"]
    again = drawn(precomp_dir=directory, order="fitted")
    assert again["all.png"] != base["all.png"]
    with pytest.raises(UsageError, match="lags from 0 to 4"):
        drawn(shown_lags=(9,))


def test_pairs_are_read_both_ways_and_alike_scores_are_adjacent():
    values = np.arange(2 * 9).reshape(2, 3, 3)
    assert two_sided(values, 0, 1).tolist() == [values[1, 1, 0], values[0, 0, 1], values[1, 0, 1]]
    alike = np.eye(5)
    for i, j in ((0, 3), (1, 4)):
        alike[i, j] = alike[j, i] = -0.9
    place = np.argsort(clustered_order(alike))
    assert abs(place[0] - place[3]) == abs(place[1] - place[4]) == 1
    rng = np.random.default_rng(0)
    length = np.full(60, 12)
    scores = rng.normal(size=(720, 3))
    scores[:, 2] += 2 * scores[:, 1]
    found = lagged_correlations(scores, length, 1, draws=20)
    marks = np.zeros((2, 3, 3), bool)
    assert strongest(found, marks) == []
    marks[0, 1, 2] = marks[1, 1, 0] = True
    assert strongest(found, marks) == [(1, 2), (0, 1)]


def test_field_chunks_are_the_masked_steps(made):
    store = Rollouts.open(made[0] / "store")
    kept = np.random.default_rng(0).random(store.num_steps) < 0.3
    for field, values in (("env_state", store.steps("env_state")), ("hidden_after", store.hidden_after())):
        np.testing.assert_array_equal(np.concatenate(list(field_chunks(store, field, kept))), values[kept])
    assert episode_groups(store).tolist() == (np.arange(120) // 2).tolist()
    assert "recorded frames" in levels_in_words(store, kept)


def test_lags_are_lowered_to_the_longest_episode(made, tmp_path, caplog):
    directory = run(made, tmp_path, lags=40, draws=20, log_level=30)
    assert "--lags 40 to 15 (the longest episode has 16 steps)" in caplog.text
    assert len(read_part(directory, "all")["pairs"]) == 16


@pytest.mark.parametrize(
    ("methods", "names"), [(("ica", "pca"), ["unit_0", "unit_1"]), (("pca",), ["unit_0", "unit_1", "unit_2"])]
)
def test_without_ica_the_leading_principal_components_are_used(made, tmp_path, methods, names):
    step = open_step(tmp_path, map_summary.STEP, map_summary.VERSION, {"components": 3}, {})
    for method in methods:
        save_directions(step.dir / f"{method}.safetensors", units(WIDTH, 2 if method == "ica" else WIDTH))
    finish_step(step, {"methods": {key: {} for key in methods}, "refused": {"ica": "all Gaussian"}})
    main(Args(None, made[0] / "store", lags=1, draws=20, out_dir=tmp_path))
    assert read_numbers(tmp_path / "xcorr_precomp" / "latest")["names"] == names


def test_invalid_input_is_refused_in_one_line(made, tmp_path):
    path = made[0]
    with pytest.raises(UsageError, match="too few for lagged correlations: 10 episodes"):
        run(made, tmp_path, num_episodes=10)
    with pytest.raises(UsageError, match="no finished artefacts at .*hidden_analysis_precompute.py"):
        main(Args(None, path / "store", out_dir=tmp_path))
    with pytest.raises(UsageError, match="rate between 0 and 1"):
        run(made, tmp_path, fdr=0.0)
    with pytest.raises(UsageError, match="have width 6, and the env_state"):
        run(made, tmp_path, env_directions=path / "agent.safetensors")
    make_loop_store(tmp_path / "other", seed=5)
    with pytest.raises(UsageError, match="clusters of another store"):
        main(
            Args(
                path / "agent.safetensors",
                tmp_path / "other",
                clusters_dir=made[1],
                out_dir=tmp_path,
                draws=30,
                lags=2,
            )
        )
