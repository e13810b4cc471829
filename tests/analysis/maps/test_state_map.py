"""Maps of simulated states: planted behaviours are recovered as clusters, wide blocks do not outweigh narrow
ones, every flag changes the artefacts.
"""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from agents.actor_critic import save_agent
from analysis import combined_agent_env_hx_analysis_precompute as combined
from analysis import env_h_analysis_precompute as env_h
from analysis import sml_analysis_precompute as sml
from analysis.io.shared_args import MapPlotArgs
from analysis.io.steps import read_numbers, read_part
from analysis.maps import simulated_state_pages
from analysis.maps.hidden_states import load_hidden_states
from analysis.maps.joint_states import joint_vectors, rows_with_future
from analysis.maps.simulated_state_maps import most_common_cluster
from analysis.maps.simulated_state_pages import draw_page
from analysis.maps.simulated_state_steps import COMBINED, ENV_H, SML
from analysis.plotting import style
from common.runs import UsageError, file_id
from interpret.directions.directions import load_directions
from interpret.directions.pca import fit_pca
from rollouts.store import Rollouts
from tests.helpers.loop_store import DEAD, ENV, kinds, make_loop_store
from tests.helpers.toy_world import toy_agent

SMALL = dict(
    start_step=0,
    clusters=4,
    draws=0,
    nmf_components=0,
    maps=(),
    points=200,
    path_episodes=3,
    frames_per_cluster=3,
    num_threads=1,
    log_level=40,
)
SCRIPTS = {"env_h": (env_h, ENV_H), "combined": (combined, COMBINED), "sml": (sml, SML)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of the made-up loop and the agent whose encoder sees its frames."""
    path = tmp_path_factory.mktemp("made")
    save_agent(path / "agent.safetensors", toy_agent(), {"env": {"env_name": "toy"}})
    make_loop_store(path / "store", policy_id=file_id(path / "agent.safetensors"))
    return path


def run(made, out, which="env_h", **changed):
    """The finished step's directory."""
    module, step = SCRIPTS[which]
    given = SMALL | ({"agent_file": made / "agent.safetensors"} if which == "sml" else {}) | changed
    module.main(module.Args(**({"data_dir": made / "store", "out_dir": out} | given)))
    return (out / f"{step.name}_precomp" / "latest").resolve()


@pytest.fixture(scope="module")
def mapped(made, tmp_path_factory):
    """One finished step of each kind."""
    out = tmp_path_factory.mktemp("mapped")
    return out, {which: run(made, out, which) for which in SCRIPTS}


@pytest.fixture(scope="module")
def judged(made, tmp_path_factory):
    """A finished step with everything that may be left out."""
    return run(made, tmp_path_factory.mktemp("judged"), draws=2, nmf_components=2)


@pytest.mark.parametrize("which", SCRIPTS)
def test_planted_behaviours_are_recovered(mapped, which):
    directory = mapped[1][which]
    labels = read_part(directory, "labels")
    found = read_part(directory, "behaviours")
    true = kinds(120)
    assert adjusted_rand_score(true[labels["real.episode"]], labels["real.cluster"]) > 0.95
    assert adjusted_rand_score(true[found["episode"]], found["cluster"]) > 0.98
    assert (
        labels["real.behaviour"]
        == found["cluster"][np.searchsorted(found["episode"], labels["real.episode"])]
    ).all()
    numbers = read_numbers(directory)
    assert numbers["clusters"] == 4
    assert sum(numbers["clusterings"]["cluster"]["sizes"]) == numbers["steps"]


def test_environment_axes_are_the_states_principal_components_without_constant_features(made, mapped):
    store = Rollouts.open(made / "store")
    directory = mapped[1]["env_h"]
    axes = load_directions(directory / "env_pca.safetensors")
    numbers = read_numbers(directory)["env"]
    x = np.delete(store.steps("env_state").astype(np.float32), DEAD, 1)
    whole = fit_pca(x, np.arange(len(x)), 5)
    np.testing.assert_allclose(axes.provenance["variance"][:5], whole.provenance["variance"], rtol=0.01)
    assert numbers["width"] == ENV
    assert numbers["changing"] == ENV - 1 == len(axes)
    assert sum(numbers["shares"]) == pytest.approx(1, abs=1e-3)
    labels = read_part(directory, "labels")
    flat = read_part(directory, "map_pca")["real"]
    row = store.first_step[labels["real.episode"]] + labels["real.t"]
    np.testing.assert_allclose(
        np.abs(flat[:, 0]), np.abs(whole.scores(torch.from_numpy(x)).numpy()[row, 0]), atol=0.1
    )


def test_labels_and_frames_match_the_steps(made, mapped):
    store = Rollouts.open(made / "store")
    directory = mapped[1]["env_h"]
    labels = read_part(directory, "labels")
    frames = read_part(directory, "frames")
    assert len(labels["real.t"]) == 200
    assert len(np.unique(labels["followed.episode"])) == 3
    row = store.first_step[labels["real.episode"]] + labels["real.t"]
    for name in ("value", "reward"):
        np.testing.assert_array_equal(labels[f"real.{name}"], store.steps(name)[row])
    for i in range(0, 200, 17):
        episode = store.episode(labels["real.episode"][i])
        assert labels["real.ever_done"][i] == episode["terminated"].any()
        assert labels["real.max_reward"][i] == episode["reward"].max()
    members = frames["members"]
    assigned = frames["members"][frames["members"] >= 0]
    np.testing.assert_array_equal(
        frames["member_frames"], store.steps("obs")[assigned]
    )  # every step is a point here, in order
    assert members.shape == (4, 3)


def test_blocks_have_equal_weight_for_any_width_and_units():
    rng = np.random.default_rng(0)
    blocks = {"wide": 100 * rng.normal(size=(500, 90)) + 7, "narrow": 0.01 * rng.normal(size=(500, 2))}
    rows = np.arange(0, 490, 3)
    vectors = joint_vectors(blocks, rows, (1, 4))
    parts = np.split(vectors, [90, 92, 182, 184, 274], 1)
    assert [part.shape[1] for part in parts] == [90, 2, 90, 2, 90, 2]
    np.testing.assert_allclose([part.var(0).sum() for part in parts], 1, rtol=1e-4)
    change = blocks["narrow"][rows + 4] - blocks["narrow"][rows]
    np.testing.assert_allclose(np.corrcoef(parts[5].T)[0, 1], np.corrcoef(change.T)[0, 1], atol=1e-5)
    np.testing.assert_allclose(parts[5], (change - change.mean(0)) / np.sqrt(change.var(0).sum()), atol=1e-5)
    assert not joint_vectors({"dead": np.ones((10, 2))}, np.arange(10)).any()


def test_rows_with_future_have_later_steps_in_the_same_episode(made):
    store = Rollouts.open(made / "store")
    states = load_hidden_states(store, np.array([3, 7, 8]))
    length = store.episodes["length"][[3, 7, 8]]
    begin = np.cumsum(length) - length
    by_hand = [at + t for at, T in zip(begin, length) for t in range(T) if t + 6 < T and t < 4]
    assert rows_with_future(states, 0, 6, 4).tolist() == by_hand
    assert rows_with_future(states, 2, 6).tolist() == [
        at + t for at, T in zip(begin, length) for t in range(2, T - 6)
    ]
    assert rows_with_future(states, 1, 0, 2).tolist() == [at + t for at in begin for t in (1, 2)]
    with pytest.raises(UsageError, match="no episode lasts 41 steps"):
        rows_with_future(states, 0, 40)


def test_a_behaviour_is_the_most_common_cluster():
    found = most_common_cluster(np.array([5, 5, 5, 9, 9, 2]), np.array([1, 0, 1, 3, 2, 0]))
    assert found["episode"].tolist() == [2, 5, 9]
    assert found["cluster"].tolist() == [0, 1, 2]


def test_the_loop_contains_the_agents_encoder_output(made, mapped):
    store = Rollouts.open(made / "store")
    kept = np.zeros(store.num_steps, bool)
    kept[[3, 50, 1200]] = True
    frames = torch.from_numpy(store.steps("obs")[kept])
    with torch.no_grad():
        np.testing.assert_allclose(
            sml.encoder_output(made / "agent.safetensors", store, kept, "fp32"),
            toy_agent().encoder(frames).numpy(),
            atol=1e-5,
        )
    assert {"cluster", "moving"} == read_numbers(mapped[1]["sml"])["clusterings"].keys()


def differ(a, b) -> bool:
    """Whether two finished steps hold other arrays."""
    names = {path.stem for directory in (a, b) for path in directory.glob("*.safetensors")} - {
        "nmf",
        "env_pca",
    }
    if any(not (directory / f"{name}.safetensors").exists() for directory in (a, b) for name in names):
        return True
    pairs = [(read_part(a, name), read_part(b, name)) for name in names]
    return any(p.keys() != q.keys() or any(not np.array_equal(p[key], q[key]) for key in p) for p, q in pairs)


CHANGES = [
    ("env_h", dict(seed=1)),
    ("env_h", dict(start_step=2)),
    ("combined", dict(start_step=2)),
    ("sml", dict(start_step=2)),
    ("env_h", dict(clusters=3)),
    ("env_h", dict(maps=("tsne",))),
    ("env_h", dict(points=150)),
    ("env_h", dict(path_episodes=2)),
    ("env_h", dict(frames_per_cluster=2)),
    ("env_h", dict(num_episodes=100)),
    ("env_h", dict(components=3)),
    ("combined", dict(steps_per_episode=2)),
    ("combined", dict(change_lags=(1,))),
    ("combined", dict(env_components=2)),
    ("combined", dict(components=3)),
    ("sml", dict(env_components=2)),
    ("sml", dict(components=3)),
]


@pytest.mark.parametrize(("which", "change"), CHANGES, ids=str)
def test_every_flag_changes_the_artefacts(made, mapped, tmp_path, which, change):
    assert differ(run(made, tmp_path, which, **change), mapped[1][which])


def test_steps_before_start_step_are_excluded(made, tmp_path):
    store = Rollouts.open(made / "store")
    directory = run(made, tmp_path, start_step=3, points=5000)
    late = store.step_table()[:, 1] >= 3
    assert read_numbers(directory)["steps"] == late.sum()
    assert read_part(directory, "labels")["real.t"].min() == 3
    whole = fit_pca(
        np.delete(store.steps("env_state")[late].astype(np.float32), DEAD, 1), np.arange(late.sum()), 3
    )
    np.testing.assert_allclose(
        load_directions(directory / "env_pca.safetensors").provenance["variance"][:3],
        whole.provenance["variance"],
        rtol=0.01,
    )


def test_stability_and_nmf_are_computed_only_if_asked_for(mapped, judged):
    bare = read_numbers(mapped[1]["env_h"])["clusterings"]["cluster"]
    whole = read_numbers(judged)["clusterings"]["cluster"]
    assert "jaccard" not in bare
    assert min(whole["jaccard"]) > 0.9 > max(whole["null_jaccard"])
    assert "real.nmf" not in read_part(mapped[1]["env_h"], "labels")
    assert set(read_part(judged, "labels")["real.nmf"]) <= {0, 1}


def test_a_finished_command_does_nothing_and_new_recomputes(made, mapped):
    out, directories = mapped
    before = (directories["env_h"] / "labels.safetensors").stat().st_mtime_ns
    assert run(made, out) == directories["env_h"]
    assert (directories["env_h"] / "labels.safetensors").stat().st_mtime_ns == before
    again = run(made, out, new=True)
    assert again != directories["env_h"]
    assert not differ(again, directories["env_h"])


def test_figures_need_artefacts_only(judged, tmp_path, monkeypatch):
    monkeypatch.setattr(Rollouts, "open", None)
    monkeypatch.setattr(style, "DPI", 40)
    page = draw_page(ENV_H, MapPlotArgs(judged, out_dir=tmp_path, log_level=40))
    assert {path.name for path in page.parent.glob("*.png")} == {
        "numbers.png",
        "grid_pca.png",
        "paths_pca.png",
    }
    assert page.stat().st_size > 10_000
    clusters = [path.read_bytes() for path in (page.parent / "clusters").glob("*.png")]
    assert len(set(clusters)) == 4
    monkeypatch.setattr(simulated_state_pages, "_figures", lambda *given: [])
    assert not (
        draw_page(ENV_H, MapPlotArgs(judged, False, tmp_path / "bare", 40)).parent / "clusters"
    ).exists()


@pytest.mark.parametrize("which", SCRIPTS)
def test_every_colouring_has_its_labels(mapped, judged, which):
    labels = read_part(mapped[1][which], "labels") | ({"real.nmf": None} if which != "combined" else {})
    assert {f"real.{how.label}" for how in SCRIPTS[which][1].colourings} <= labels.keys()
    assert len(SCRIPTS[which][1].colourings) == 9


@pytest.mark.parametrize("which", SCRIPTS)
def test_sizes_are_lowered_to_what_the_store_allows_in_one_line(made, tmp_path, caplog, which):
    small = make_loop_store(
        tmp_path / "store", episodes=24, shards=1, policy_id=file_id(made / "agent.safetensors")
    )
    directory = run(
        made, tmp_path, which, data_dir=small.path, clusters=64, nmf_components=16, points=5000, log_level=30
    )
    (line,) = [record.message for record in caplog.records if record.message.startswith("sizes are lowered")]
    assert "--clusters 64 to 6 (12 start states)" in line
    assert "--nmf_components 16 to 3 (12 start states)" in line
    assert "--points 5000 to " in line
    assert read_numbers(directory)["clusters"] == 6
    assert len(load_directions(directory / "nmf.safetensors")) == 3


def test_invalid_input_is_refused_in_one_line(made, tmp_path):
    with pytest.raises(UsageError, match="unknown map 'som'"):
        run(made, tmp_path, maps=("som",))
    for begin, said in (
        (-1, "--start_step is -1: give 0 or more"),
        (30, "--points needs 91 or more, and 0 steps from step 30 on allow 0"),
    ):
        with pytest.raises(UsageError, match=said):
            run(made, tmp_path, start_step=begin)
    with pytest.raises(UsageError, match="--change_lags needs one lag"):
        run(made, tmp_path, "combined", change_lags=())
    bare = make_loop_store(tmp_path / "bare", shards=1, env_state=False)
    with pytest.raises(
        UsageError, match="holds no env_state: record it with record_gen_samples.py and without"
    ):
        run(made, tmp_path, data_dir=bare.path)
    other = make_loop_store(tmp_path / "other", shards=1)
    with pytest.raises(UsageError, match="is of agent abc"):
        run(made, tmp_path, "sml", data_dir=other.path)
    real = make_loop_store(tmp_path / "real", shards=1, simulated=False)
    with pytest.raises(UsageError, match="holds real episodes"):
        run(made, tmp_path, data_dir=real.path)
