"""Jacobians of stored episodes: they repeat the episodes, equal those of one sample at a time, resume, and
every flag changes a named output.
"""

import json
import shutil

import numpy as np
import pytest
import torch

import worldlens as wl
from analysis import jacobian_analysis_precompute as script
from analysis.io.steps import read_labels, read_numbers, read_part
from analysis.jacobian_analysis_plotting import Args as PlotArgs
from analysis.jacobian_analysis_plotting import main as plot
from analysis.jacobian_analysis_precompute import main
from analysis.lagged import stored_jacobians
from analysis.lagged.jacobian_points import check_replayed, map_blocks
from analysis.lagged.stored_jacobians import find_jacobians
from analysis.maps import map_summary
from analysis.plotting import style
from common.runs import UsageError, file_id
from generative.simulator_file import load_simulator
from interpret.attribution.jacobians import in_scores, score_jacobians
from interpret.attribution.replay import check_recorded_with, replayed_trace, same_actions, stored_sampling
from interpret.directions.directions import Directions, load_directions, save_directions
from rollouts.store import Rollouts
from tests.helpers.jacobian_store import WIDTH, asked, make_jacobian_files, record
from tests.helpers.linear_loop import skewed_directions
from tests.helpers.map_store import write_map_store
from tests.helpers.refusal_checks import refused_at_once


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_jacobian_files(tmp_path_factory.mktemp("made"))


def run(made, out, **changed):
    """Directories of the finished Jacobians and of their map."""
    main(asked(made, out, **changed))
    names = ("jacobians", "jacobian_analysis")
    return tuple((out / f"{name}_precomp" / "latest").resolve() for name in names)


@pytest.fixture(scope="module")
def usual(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("usual")
    return out, *run(made, out)


def alone(made, episode: int, step: int = 3) -> dict[str, torch.Tensor]:
    """Jacobians of one stored episode by itself, with respect to whole states."""
    simulator, _ = load_simulator(made / "model.safetensors", made / "agent.safetensors")
    store = Rollouts.open(made / "simulated")
    trace = replayed_trace(simulator, store, np.array([episode]), step + 1)
    assert same_actions(trace, store, np.array([episode])).all()
    directions = load_directions(made / "directions.safetensors")
    return score_jacobians(trace, directions, step, simulator.model)


def test_episodes_are_repeated_and_every_sample_has_its_own_jacobian(made, usual):
    stored = find_jacobians(usual[0])
    store = Rollouts.open(made / "simulated")
    assert stored.numbers["not_replayed"] == 0
    assert stored.numbers["largest_difference"] < 1e-4
    assert (store.episodes["length"][stored.samples["episode"]] > 3).all()
    assert 91 < stored.numbers["samples"] < 150  # some episodes end before step 3
    env = load_directions(usual[1] / "env_pca.safetensors")
    for sample in (5, 50):
        mine = alone(made, int(stored.samples["episode"][sample]))
        for name in ("hidden/total", "hidden/agent"):
            np.testing.assert_allclose(stored.arrays[name][sample], mine[name][0], atol=2e-3, rtol=2e-3)
        expected = env.score_gradients(mine["env_state/total"])[0]
        np.testing.assert_allclose(stored.arrays["env_state/total"][sample], expected, atol=2e-3, rtol=5e-3)


def test_scores_are_those_of_whole_episodes_and_effects_are_in_standard_deviations(made, usual):
    stored = find_jacobians(usual[0])
    store = Rollouts.open(made / "simulated")
    member = np.isin(store.step_table()[:, 0], stored.samples["episode"])
    scores = stored.directions.scores(torch.from_numpy(store.hidden_after()[member])).numpy()
    np.testing.assert_allclose(stored.samples["scores"], scores, atol=1e-5)
    std = scores.std(0)
    raw = in_scores(torch.from_numpy(stored.arrays["hidden/total"].astype(np.float32)), stored.directions)
    found = stored.in_scores("total")
    np.testing.assert_allclose(found[:, 1, 0, 2], raw[:, 1, 0, 2] * std[0] / std[2], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found[:, 0], np.tile(np.eye(3), (len(found), 1, 1)), atol=0.02)


def test_a_notebook_opens_them_by_their_directory(usual, tmp_path):
    stored = wl.StoredJacobians.open(usual[1])
    same = find_jacobians(usual[0])
    assert all(np.array_equal(x, same.arrays[name]) for name, x in stored.arrays.items())
    n = len(stored.samples["episode"])
    assert repr(stored).startswith(f"StoredJacobians({n} samples, 3 scores, lags 0 to 3: ")
    with pytest.raises(UsageError, match="no finished Jacobians at .*jacobian_analysis_precompute.py"):
        wl.StoredJacobians.open(tmp_path)
    shutil.copytree(usual[1], tmp_path / "copy")
    (tmp_path / "copy" / "samples.safetensors").unlink()
    with pytest.raises(UsageError, match="lacks a part"):
        wl.StoredJacobians.open(tmp_path / "copy")


def test_map_features_are_the_jacobian_at_one_lag(usual):
    stored = find_jacobians(usual[0])
    env_std = np.array([1, 2, 3, 4], np.float32)
    raw = map_blocks(stored, env_std, 2, False)
    later = stored.samples["score_std"][:, None]
    expected = stored.arrays["hidden/total"][:, 2].astype(np.float32) * stored.samples["hidden_std"] / later
    np.testing.assert_allclose(raw["hidden"], expected.reshape(len(expected), -1), rtol=1e-5)
    assert raw["env_state"].shape == (len(expected), 3 * 4)
    unit = map_blocks(stored, env_std, 2, True)
    for name in unit:
        np.testing.assert_allclose(np.linalg.norm(unit[name], axis=1), 1, rtol=1e-5)
        cosine = (unit[name] * raw[name]).sum(1) / np.linalg.norm(raw[name], axis=1)
        np.testing.assert_allclose(cosine, 1, rtol=1e-5)


def test_means_of_clusters_are_those_of_their_members(usual):
    stored = find_jacobians(usual[0])
    means = read_part(usual[2], "cluster_means")
    behaviours = read_part(usual[2], "behaviours")
    np.testing.assert_array_equal(behaviours["episode"], stored.samples["episode"])
    for cluster in range(3):
        member = behaviours["cluster"] == cluster
        expected = stored.in_scores("total")[member, 1].mean(0)
        np.testing.assert_allclose(means["agent"][cluster], expected, atol=1e-5)
    assert means["environment"].shape == (3, 4, 3)
    assert np.abs(means["agent"][0] - means["agent"][1]).max() > 1e-3
    labels = read_labels(usual[2])["real"]
    assert (labels["t"] == 3).all()


def test_an_interrupted_run_goes_on_and_other_clusters_take_the_same_jacobians(
    made, usual, tmp_path, monkeypatch
):
    whole = stored_jacobians.jacobian_batch
    done = []

    def stops(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(whole(*args))
        return done[-1]

    monkeypatch.setattr(stored_jacobians, "jacobian_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path, batch_size=24)
    monkeypatch.setattr(stored_jacobians, "jacobian_batch", whole)
    first = next((tmp_path / "jacobians_precomp").glob("*/batch_0001.safetensors"))
    written = first.stat().st_mtime_ns
    directory, mapped = run(made, tmp_path, batch_size=24)
    assert first.stat().st_mtime_ns == written
    assert len(list(directory.glob("batch_*"))) == -(-stored_count(directory) // 24)
    for name, x in find_jacobians(tmp_path).arrays.items():  # batches change nothing but rounding
        np.testing.assert_allclose(x, find_jacobians(usual[0]).arrays[name], atol=5e-3, rtol=5e-3)
    other = run(made, tmp_path, batch_size=24, clusters=2)
    assert other[0] == directory
    assert other[1] != mapped
    assert run(made, tmp_path, batch_size=24) == (directory, mapped)


def stored_count(directory) -> int:
    return read_numbers(directory)["samples"]


@pytest.mark.parametrize(
    ("changed", "where", "part", "array"),
    [
        ({"num_episodes": 140}, 0, "samples", "episode"),
        ({"score_step": 2}, 0, "batch_0000", "hidden/total"),
        ({"env_components": 5}, 0, "batch_0000", "env_state/total"),
        ({"environment_path": True}, 0, "batch_0000", "env_state/environment"),
        ({"keep_float": True}, 0, "batch_0000", "full_env_state/total"),
        ({"directions": "two"}, 0, "batch_0000", "hidden/total"),
        ({"precision": "bf16"}, 0, "batch_0000", "hidden/total"),
        ({"lag": 2}, 1, "map_pca", "real"),
        ({"normalise": False}, 1, "map_pca", "real"),
        ({"components": 3}, 1, "jacobian_axes", "axes"),
        ({"clusters": 4}, 1, "cluster", "centres"),
        ({"frames_per_cluster": 3}, 1, "frames", "members"),
        ({"points": 92}, 1, "map_pca", "real"),
        ({"draws": 2}, 1, "cluster", "jaccard"),
        ({"maps": ("tsne",)}, 1, "map_tsne", "real"),
        ({"seed": 1}, 1, "frames", "members"),
    ],
)
def test_every_flag_changes_what_it_names(made, usual, tmp_path, changed, where, part, array):
    if "directions" in changed:
        changed = {"directions": made / "two.safetensors"}
    if "seed" not in changed and where == 1:
        link_jacobians(usual, tmp_path)
    directory = run(made, tmp_path, **changed)[where]
    found = read_part(directory, part)[array]
    try:
        before = read_part(usual[1 + where], part).get(array)
    except UsageError:  # no such part by default
        before = None
    assert before is None or found.shape != before.shape or not np.array_equal(found, before)


def link_jacobians(usual, out) -> None:
    """The finished Jacobians are found in another output directory."""
    (out / "jacobians_precomp").mkdir()
    (out / "jacobians_precomp" / usual[1].name).symlink_to(usual[1])


def test_full_gradients_are_kept_on_request_in_float(made, tmp_path):
    directory, _ = run(made, tmp_path, keep_float=True, environment_path=True)
    part = read_part(directory, "batch_0000")
    width = Rollouts.open(made / "simulated").step_fields["env_state"].shape[0]
    assert part["full_env_state/environment"].shape[-1] == width
    assert part["hidden/total"].dtype == np.float32
    env = load_directions(directory / "env_pca.safetensors")
    expected = env.score_gradients(torch.from_numpy(part["full_env_state/total"]))
    np.testing.assert_allclose(part["env_state/total"], expected, atol=1e-5)
    assert "full_env_state/total" not in find_jacobians(tmp_path).arrays
    mine = alone(made, int(find_jacobians(tmp_path).samples["episode"][0]))
    np.testing.assert_allclose(part["full_env_state/total"][0], mine["env_state/total"][0], atol=1e-3)
    np.testing.assert_allclose(
        part["full_env_state/environment"][0], mine["env_state/environment"][0], atol=1e-3
    )


@pytest.mark.parametrize("how", ["manual", "greedy", "modal"])
def test_stores_of_other_actions_are_repeated_too(made, tmp_path, how):
    flags = {
        "manual": {"manual_actions": ("up", "right")},
        "greedy": {"greedy": True},
        "modal": {"sampling": "modal"},
    }
    record(made, tmp_path / "store", num_samples=12, **flags[how])
    store = Rollouts.open(tmp_path / "store")
    simulator, _ = load_simulator(made / "model.safetensors", made / "agent.safetensors")
    episodes = np.arange(12)
    trace = replayed_trace(simulator, store, episodes, 4)
    assert same_actions(trace, store, episodes).all()
    last = np.minimum(store.episodes["length"], 4) - 1
    for b, t in enumerate(last):
        stored = store.hidden_after()[store.first_step[b] + t]
        np.testing.assert_allclose(trace.hidden[t + 1][b].detach(), stored, atol=1e-4)


def test_another_trajectory_is_found_out_and_left_out(made, caplog):
    simulator, _ = load_simulator(made / "model.safetensors", made / "agent.safetensors")
    store = Rollouts.open(made / "simulated")
    trace = replayed_trace(simulator, store, np.arange(20), 4)
    half = np.r_[0:10, 11:21]
    shifted = same_actions(trace, store, half)
    assert shifted[:10].all()
    assert shifted[10:].mean() < 0.5
    check_replayed(shifted, store)
    assert f"{(~shifted).sum()} of 20 episodes do not repeat" in caplog.text
    with pytest.raises(UsageError, match="no episode of .* repeats its stored actions"):
        check_replayed(np.zeros(3, bool), store)


def test_figures_need_artefacts_only(made, tmp_path, monkeypatch):
    run(made, tmp_path, draws=2)
    monkeypatch.setattr(Rollouts, "open", None)
    monkeypatch.setattr(style, "DPI", 40)
    page = plot(PlotArgs(out_dir=tmp_path, cluster_figures=False, log_level=40))
    names = {path.name for path in page.parent.iterdir()}
    assert {"cluster_jacobians.png", "grid_pca.png", "numbers.png", "jacobian_analysis.html"} <= names
    assert "clusters" not in names
    assert "at step 3 with respect to the states of agent and environment 1 step earlier" in page.read_text()
    plot(PlotArgs(out_dir=tmp_path, log_level=40, results=tmp_path / "r.json", images=tmp_path / "images"))
    assert len(list((page.parent / "clusters").iterdir())) == 3
    assert (tmp_path / "images" / "cluster_jacobians.png").exists()
    norms = json.loads((tmp_path / "r.json").read_text())["norms"]
    assert norms["total"]["median"][0] == pytest.approx(3**0.5, abs=0.02)  # of the identity
    assert norms["mixed"]["median"][0] < 1e-3
    assert norms["agent"]["median"][3] > 0


def test_directions_are_those_of_the_latest_analysis_by_default(made, tmp_path):
    step = script.open_step(tmp_path, map_summary.STEP, map_summary.VERSION, {"components": 2}, {})
    save_directions(step.dir / "pca.safetensors", skewed_directions(WIDTH, 4))
    script.finish_step(step, {"methods": {"pca": {}}, "refused": {"ica": "all Gaussian"}})
    directory, _ = run(made, tmp_path, directions=None)
    assert read_numbers(directory)["names"] == ["d0", "d1"]


def test_batches_that_do_not_fit_into_memory_are_refused(made, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr("common.integrity.machine_memory", lambda: 10**5)
    message = r"9 episodes at a time \(--batch_size, --score_step\) takes .* GiB of memory; ask for less"
    refused_at_once(main, asked(made, out, batch_size=9), out, message)


def test_invalid_input_is_refused_in_one_line(made, tmp_path):
    out = tmp_path / "out"
    refused_at_once(
        main, asked(made, out, score_step=6), out, "--score_step is 6, and the longest episode .* has 6 steps"
    )
    refused_at_once(
        main, asked(made, out, lag=4), out, "--lag is 4: at --score_step 3 there are lags from 0 to 3"
    )
    refused_at_once(main, asked(made, out, lag=0), out, "--lag is 0: give 1 or more")
    refused_at_once(main, asked(made, out, batch_size=0), out, "--batch_size is 0: give 1 or more")
    write_map_store(tmp_path / "real")
    refused_at_once(main, asked(made, out, data_dir=tmp_path / "real"), out, "holds real episodes")
    with pytest.raises(UsageError, match="holds no simulated episodes, and gradients need their latents"):
        stored_sampling(Rollouts.open(tmp_path / "real"))
    store = Rollouts.open(made / "simulated")
    agent = file_id(made / "agent.safetensors")
    with pytest.raises(UsageError, match="was recorded with --world_model_file .*, not abc"):
        check_recorded_with(store, "abc", agent)
    save_directions(
        tmp_path / "wide.safetensors",
        Directions(torch.eye(3, 9), torch.zeros(3), torch.eye(9, 3), torch.zeros(9), "abc"),
    )
    wide = asked(made, out, directions=tmp_path / "wide.safetensors")
    refused_at_once(main, wide, out, "have width 9, and the agent's hidden state has width 8")
