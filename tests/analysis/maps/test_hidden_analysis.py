"""The hidden-state analysis from stores to figures: inputs, flags, and plots from artefacts only."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from analysis import hidden_analysis_plotting as plotting
from analysis import hidden_analysis_precompute as precompute
from analysis.io.steps import read_numbers, read_part
from analysis.maps import direction_fits, hidden_state_analysis, hidden_state_pages
from analysis.maps.hidden_state_pages import describe_episode
from analysis.maps.hidden_states import load_hidden_states, step_labels
from analysis.maps.map_artefacts import read_hidden_state_map
from analysis.maps.map_pictures import episode_paths
from analysis.maps.map_summary import COMMAND, mean_over_episodes
from analysis.plotting import map_figures, style
from analysis.plotting import rotating_map as map_spin
from analysis.plotting.colourings import HIDDEN_COLOURINGS
from common.runs import UsageError
from common.video import read_video
from envs.vecenv import ActionSpace
from interpret.directions.dictionary import fit_dictionary
from interpret.directions.directions import load_directions
from interpret.subsample import scores_of
from rollouts.store import Rollouts
from tests.helpers.map_store import MIXING, WIDTH, write_map_store

FAST = dict(
    methods=("pca",),
    maps=(),
    draws=0,
    clusters=3,
    components=3,
    counts=(2,),
    points=300,
    path_episodes=4,
    frames_per_cluster=4,
    num_threads=1,
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stores")
    real = write_map_store(directory / "real")
    write_map_store(directory / "sim", 20, seed=1, source=real)
    write_map_store(directory / "far", 20, seed=1, shift=6, source=real)
    return directory


def run(stores: Path, out: Path, sim: str | None = None, **changed) -> Path:
    args = precompute.Args(
        data_dir=stores / "real", sim_data_dir=stores / sim if sim else None, out_dir=out, **(FAST | changed)
    )
    precompute.main(args)
    return (out / "hx_analysis_precomp" / "latest").resolve()


@pytest.fixture(scope="module")
def whole(stores, tmp_path_factory):
    """A run with every part, of which the stores are then deleted."""
    out = tmp_path_factory.mktemp("whole")
    copy = tmp_path_factory.mktemp("copy") / "stores"
    shutil.copytree(stores, copy)
    with pytest.MonkeyPatch.context() as patch:

        def small(x, groups, count, seed):
            return fit_dictionary(x, groups, 4 * count, count, seed, steps=50, batch=64)

        patch.setitem(direction_fits.METHODS, "dictionary", small)
        made = run(
            copy, out, "sim", methods=tuple(direction_fits.METHODS), maps=("tsne",), draws=20, points=900
        )
    shutil.rmtree(copy)
    return out, made


@pytest.fixture(scope="module")
def drawn(whole):
    """The pictures of that run, small ones."""
    out, made = whole
    with pytest.MonkeyPatch.context() as patch:
        for module, name, small in (
            (style, "DPI", 40),
            (map_figures, "_PIXELS", 60),
            (map_spin, "FRAMES", 5),
        ):
            patch.setattr(module, name, small)
        plotting.main(plotting.Args(out_dir=out, animations=("value", "cluster")))
    return out / "hx_plots" / made.name


def test_all_figures_are_drawn_without_stores_agent_and_simulator(drawn):
    names = {str(path.relative_to(drawn)) for path in drawn.rglob("*.*")}
    maps = (f"{picture}_{kind}.png" for picture in ("grid", "paths") for kind in ("pca", "tsne"))
    rest = (
        "numbers.png",
        "numbers.json",
        "worlds.png",
        "hidden_analysis.html",
        "explorer.html",
        "spin_value.mp4",
        "spin_cluster.mp4",
    )
    assert names == {*maps, *rest, *(f"clusters/cluster_{i:03d}.png" for i in range(3))}
    assert len(read_video(drawn / "spin_value.mp4")[0]) == 5
    page = (drawn / "hidden_analysis.html").read_text()
    assert "explorer.html" in page
    assert "untested" not in page
    assert len({(drawn / f"clusters/cluster_{i:03d}.png").read_bytes() for i in range(3)}) == 3


@pytest.mark.parametrize(("game", "reward"), [("coinrun", "coin"), ("ninja", "reward")])
def test_short_paths_come_first_and_long_ones_are_truncated(whole, tmp_path, monkeypatch, game, reward):
    made = read_hidden_state_map(whole[1])
    made.numbers["stores"]["game"] = game
    labels = made.labels["followed"]
    longest = int(labels["length"].max())
    paths = episode_paths(made, "pca", describe_episode(made), longest - 1)
    assert len(paths) == len(np.unique(labels["episode"]))
    assert "first" in paths[-1][0]
    assert "first" not in paths[0][0]
    assert all(title.endswith((f", {reward}", f", no {reward}")) for title, _ in paths)
    cut = episode_paths(made, "pca", describe_episode(made), 2)
    assert all("first 2 of" in title and len(steps) == 2 for title, steps in cut)
    monkeypatch.setattr(map_figures, "_PIXELS", 60)
    assert map_figures.draw_paths(
        "pca", made.maps["pca"]["real"], cut, map_figures.Caption("1", "0"), tmp_path / "paths"
    ).exists()


def test_a_colouring_without_labels_is_named_in_a_warning(whole, caplog):
    made = read_hidden_state_map(whole[1])
    complete = made.available(HIDDEN_COLOURINGS, COMMAND)
    assert not caplog.text
    for label in ("value", "nmf"):
        del made.labels["real"][label]
    left = made.available(HIDDEN_COLOURINGS, COMMAND)
    assert {one.label for one in complete} - {one.label for one in left} == {"value", "nmf"}
    assert "no labels for value, so" in caplog.text
    assert f"{COMMAND} --new" in caplog.text


def test_animations_and_explorer_can_be_left_out(whole, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_state_pages, "draw_numbers", lambda *args: drawn / "numbers.png")
    for name in ("_figures", "draw_clusters"):
        monkeypatch.setattr(hidden_state_pages, name, lambda *args: ())
    monkeypatch.setattr(map_spin, "FRAMES", 2)
    plotting.main(
        plotting.Args(precomp_dir=whole[1], out_dir=tmp_path, animations=("entropy",), explorer=False)
    )
    assert {path.name for path in tmp_path.rglob("*.*")} == {
        "numbers.json",
        "hidden_analysis.html",
        "spin_entropy.mp4",
    }


def test_an_unknown_animation_label_is_refused_before_any_work(whole, tmp_path):
    with pytest.raises(UsageError, match="unknown label 'velocity' .*entropy"):
        plotting.main(plotting.Args(precomp_dir=whole[1], out_dir=tmp_path, animations=("value", "velocity")))
    assert not list(tmp_path.iterdir())


def test_the_explorer_fits_a_narrow_screen(drawn):
    text = (drawn / "explorer.html").read_text()
    assert '<meta name="viewport" content="width=device-width' in text
    (rule,) = (line for line in text.splitlines() if line.startswith("canvas#map"))
    assert "max-width: 100%" in rule
    assert "height: auto" in rule


def test_the_explorer_embeds_the_frame_of_every_point_and_loads_nothing(whole, drawn):
    made = whole[1]
    text = (drawn / "explorer.html").read_text()
    assert not re.search(r"https?:|src=\"(?!data:)|<link|import ", text)
    data = json.loads(re.search(r'application/json">(.*?)</script>', text, re.S)[1])
    frames = read_part(made, "frames")
    labels = read_part(made, "labels")
    assert (
        len(data["episode"])
        == len(frames["followed"]) + len(frames["simulated"])
        == sum(episode["length"] for episode in data["episodes"])
    )
    assert [episode["source"] for episode in data["episodes"]] == ["real"] * 4 + ["simulated"] * 4
    episode = data["episodes"][1]
    sheet = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(episode["sheet"].split(",")[1]))).convert("RGB")
    )
    t = 5
    shown = sheet[:8, t * 8 : t * 8 + 8].reshape(-1, 3).mean(0)
    truth = frames["followed"][episode["first"] + t].reshape(-1, 3).mean(0)
    assert np.abs(shown - truth).max() < 8
    assert data["t"][episode["first"] + t] == t
    taken = next(how for how in data["colourings"] if how["title"] == "action taken")
    row = episode["first"] + t
    assert taken["words"][taken["word"][row]] == read_numbers(made)["actions"][labels["followed.taken"][row]]


def test_states_are_after_the_observation_and_labels_match_them(whole, stores):
    _, made = whole
    labels = read_part(made, "labels")
    axes = read_part(made, "axes")["real"]
    real = Rollouts.open(stores / "real")
    rows = real.first_step[labels["real.episode"]] + labels["real.t"]
    scores = scores_of(load_directions(made / "pca.safetensors"), real.hidden_after()[rows])[:, :3]
    assert np.allclose(scores, axes, atol=1e-4)
    assert not np.allclose(
        scores_of(load_directions(made / "pca.safetensors"), real.steps("hidden")[rows])[:, :3],
        axes,
        atol=0.1,
    )
    assert np.array_equal(labels["real.value"], real.steps("value")[rows])
    assert np.array_equal(labels["real.done"], real.steps("terminated")[rows])
    frames = read_part(made, "frames")
    assert np.array_equal(frames["member_frames"][:, 0, 0, 0], frames["member_episode"] * 3 % 256)
    assert np.array_equal(frames["member_frames"][:, 0, 0, 1], frames["member_step"] * 16)


def test_labels_match_a_direct_computation(stores):
    real = Rollouts.open(stores / "real")
    states = load_hidden_states(real, np.array([3, 10]))
    twice = ActionSpace(("left", "right", "up", "down", "none"), 4, (0, 1, 2, 4, 4))
    found = step_labels(states, twice)
    length = real.episodes["length"][[3, 10]]
    p = np.exp(states.columns["logits"][0].astype(float))
    p = np.array([*p[:3], p[3] + p[4]]) / p.sum()
    assert np.isclose(found["entropy"][0], -(p * np.log(p)).sum(), atol=1e-5)
    assert found["likeliest"][0] == [0, 1, 2, 4][p.argmax()]
    assert set(found["taken"]) <= {0, 1, 2, 4}
    assert found["length"].tolist() == [*[length[0]] * length[0], *[length[1]] * length[1]]
    assert found["progress"][[0, length[0] - 1, length[0]]].tolist() == [0, 1, 0]
    assert np.flatnonzero(found["done"]).tolist() == [length[0] - 1, length.sum() - 1]
    assert not found["rewarded"][: length[0]].any()
    assert found["rewarded"][length[0] :].all()


def test_directions_span_all_features_and_recover_the_sources(whole, stores):
    _, made = whole
    ica = load_directions(made / "ica.safetensors")
    std = Rollouts.open(stores / "real").hidden_after().std(0)[:-1]
    write = ica.write.numpy()[:-1] / std[:, None]
    truth = MIXING.T / std[:, None]
    cosines = np.abs((write / np.linalg.norm(write, axis=0)).T @ (truth / np.linalg.norm(truth, axis=0)))
    assert ica.width == WIDTH
    assert (cosines.max(0) > 0.9).all()
    assert not ica.write[-1].any()
    numbers = read_numbers(made)
    assert numbers["axes"] == 3, "three sources hold 95%"
    assert numbers["methods"]["ica"]["stable"] == 3
    assert numbers["refused"] == {}


def test_the_parquet_table_has_one_row_per_point(whole):
    _, made = whole
    table = parquet.read_table(made / "map_tsne.parquet")
    assert table.column_names[:5] == ["episode", "t", "source", "x", "y"]
    points = read_part(made, "map_tsne")
    labels = read_part(made, "labels")
    both = np.concatenate([points["real"], points["simulated"]])
    assert np.allclose(table["x"], both[:, 0])
    assert np.allclose(table["y"], both[:, 1])
    assert table["source"].to_pylist() == ["real"] * len(points["real"]) + ["simulated"] * len(
        points["simulated"]
    )
    assert np.array_equal(table["t"], np.concatenate([labels["real.t"], labels["simulated.t"]]))
    assert {"cluster", "ica", "nmf", "entropy"} <= set(table.column_names)
    assert table["taken"][0].as_py() == read_numbers(made)["actions"][labels["real.taken"][0]]


def test_simulated_states_are_projected_and_outliers_are_counted(stores, tmp_path):
    own, far = (read_numbers(run(stores, tmp_path, sim)) for sim in ("sim", "far"))
    assert abs(own["outliers"]["simulated"] - own["outliers"]["real"]) < 0.06
    assert far["outliers"]["simulated"] > 0.9


CHANGES = [
    ({"num_episodes": 60}, lambda d, n: n["stores"]["episodes"]),
    ({"num_sim_episodes": 5}, lambda d, n: n["stores"]["sim_episodes"]),
    ({"outlier_neighbours": 9}, lambda d, n: n["outliers"]["limit"]),
    ({"outlier_sigmas": 1.0}, lambda d, n: n["outliers"]["real"]),
    ({"methods": ("pca", "nmf")}, lambda d, n: sorted(n["methods"])),
    ({"methods": ("nmf",), "components": 2}, lambda d, n: n["methods"].get("nmf", {}).get("directions")),
    ({"counts": (1, 3)}, lambda d, n: [row["count"] for row in n["equal_counts"]]),
    ({"draws": 20}, lambda d, n: (n["methods"]["pca"]["stable"], "rand" in n["clusters"])),
    ({"variance_share": 0.6}, lambda d, n: n["axes"]),
    ({"clusters": 4}, lambda d, n: len(n["clusters"]["sizes"])),
    ({"maps": ("tsne",)}, lambda d, n: sorted(n["maps"])),
    ({"points": 200}, lambda d, n: n["maps"]["pca"]["points"]),
    (
        {"path_episodes": 2},
        lambda d, n: [len(read_part(d, "frames")[name]) for name in ("followed", "simulated")],
    ),
    ({"frames_per_cluster": 6}, lambda d, n: read_part(d, "frames")["members"].shape),
    ({"seed": 1}, lambda d, n: read_part(d, "labels")["real.episode"].tolist()),
]


@pytest.fixture(scope="module")
def base(stores, tmp_path_factory):
    made = run(stores, tmp_path_factory.mktemp("base"), "sim")
    return made, read_numbers(made)


@pytest.mark.parametrize(
    ("changed", "output"), CHANGES, ids=lambda value: "-".join(value) if isinstance(value, dict) else ""
)
def test_every_flag_changes_its_output(stores, base, tmp_path, changed, output):
    made = run(stores, tmp_path, "sim", **changed)
    assert output(made, read_numbers(made)) != output(*base)


def test_a_finished_command_does_nothing_and_new_recomputes(stores, tmp_path):
    first = run(stores, tmp_path)
    stamp = (first / "numbers.json").stat().st_mtime_ns
    assert run(stores, tmp_path, num_threads=2) == first
    assert (first / "numbers.json").stat().st_mtime_ns == stamp
    again = run(stores, tmp_path, new=True)
    assert again != first
    assert read_numbers(again) == read_numbers(first)


def test_an_interrupted_run_resumes_from_its_parts(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_state_analysis, "map_frames", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(stores, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(hidden_state_analysis, "find_clusters", lambda *args: 1 / 0)  # it is there already
    assert read_numbers(run(stores, tmp_path))["clusters"]["count"] == 3


BAD = [
    ({"methods": ("pca", "umap")}, "unknown method 'umap'"),
    ({"maps": ("pca",)}, "unknown map 'pca'"),
    ({"maps": ("none",)}, "--maps alone for none"),
    ({"draws": 5}, "--draws is 5: 20 or more"),
    ({"draws": -1}, "--draws is -1"),
    ({"clusters": 1}, "--clusters is 1: give 2 or more"),
    ({"path_episodes": 0}, "--path_episodes is 0: give 1 or more"),
    ({"variance_share": 1.5}, "--variance_share is 1.5"),
    ({"num_episodes": 0}, "--num_episodes is 0"),
    ({"points": 90}, "--points is 90: give 91 or more"),
    (
        {"num_episodes": 3},
        "--components needs 1 or more, and 3 levels, 6 hidden units allow 0; "
        ".*--clusters needs 2 .*--points needs 91",
    ),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_invalid_flags_are_refused(stores, tmp_path, changed, message):
    with pytest.raises(UsageError, match=message):
        run(stores, tmp_path, **changed)


def test_sizes_are_lowered_to_what_the_store_allows_in_one_line(tmp_path, caplog):
    write_map_store(tmp_path / "real", 16)
    sizes = {"components": 16, "counts": (2, 8), "clusters": 32, "points": 20_000, "methods": ("pca", "nmf")}
    precompute.main(precompute.Args(data_dir=tmp_path / "real", out_dir=tmp_path, **(FAST | sizes)))
    (line,) = [record.message for record in caplog.records if record.message.startswith("sizes are lowered")]
    assert "--components 16 to 4 (16 levels, 6 hidden units), --counts 2 8 to 2 " in line
    assert "--clusters 32 to 8 (16 levels), --points 20000 to " in line
    numbers = read_numbers(tmp_path / "hx_analysis_precomp" / "latest")
    assert numbers["clusters"]["count"] == 8
    assert numbers["methods"]["nmf"]["directions"] == 4
    assert {row["count"] for row in numbers["equal_counts"]} == {2}


def test_wrong_stores_are_refused(stores, tmp_path):
    write_map_store(tmp_path / "stores" / "real", 10)
    real = Rollouts.open(tmp_path / "stores" / "real")
    write_map_store(tmp_path / "stores" / "sim", 10, source=real, policy="another")
    write_map_store(tmp_path / "stores" / "fake", 10, seed=2)
    for sim, message in (("sim", "one map needs the states of one agent"), ("fake", "holds real episodes")):
        with pytest.raises(UsageError, match=message):
            run(tmp_path / "stores", tmp_path, sim)
    with pytest.raises(UsageError, match="pass it as --sim_data_dir"):
        precompute.main(precompute.Args(data_dir=stores / "sim", out_dir=tmp_path))


def test_a_store_with_nan_is_refused_with_episode_and_step(tmp_path, monkeypatch):
    real = write_map_store(tmp_path / "real", 20)
    bad = real.hidden_after()
    bad[real.first_step[4] + 2] = np.nan
    monkeypatch.setattr(Rollouts, "hidden_after", lambda self: bad)
    with pytest.raises(UsageError, match="NaN or infinity, the first in episode 4, step 2.*--check"):
        precompute.main(precompute.Args(data_dir=tmp_path / "real", out_dir=tmp_path, **FAST))


def test_a_plot_without_artefacts_names_the_command(tmp_path, whole):
    with pytest.raises(UsageError, match="hidden_analysis_precompute.py"):
        plotting.main(plotting.Args(out_dir=tmp_path))
    copy = tmp_path / "copy"
    shutil.copytree(whole[1], copy)
    (copy / "frames.safetensors").unlink()
    with pytest.raises(UsageError, match="--new"):
        plotting.main(plotting.Args(out_dir=tmp_path, precomp_dir=copy))


def test_episodes_count_equally_in_the_neighbours_kept():
    assert mean_over_episodes(np.array([1.0, 0, 0, 0, 0.5]), np.array([7, 9, 9, 9, 2])) == 0.5


@pytest.mark.parametrize(
    "flag",
    [
        {"outlier_sigmas": -1.0},
        {"outlier_sigmas": float("nan")},
        {"outlier_sigmas": float("inf")},
        {"outlier_neighbours": 0},
    ],
)
def test_an_invalid_outlier_rule_is_refused(flag):
    with pytest.raises(UsageError, match=f"--{next(iter(flag))} is .*: give "):
        precompute.check(precompute.Args(data_dir=Path("store"), **flag))
