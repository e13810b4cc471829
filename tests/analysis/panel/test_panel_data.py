"""A panel holds what the run holds, to the bit; every flag changes the page; bad requests are refused."""

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch

from analysis.panel.run_samples import read_samples
from analysis.panel.sample_clusters import clusters_of_samples
from analysis.saliency_panel import Args, main
from common.checkpoints import save_checkpoint, write_json
from common.runs import UsageError
from interpret.attribution.saliency_store import SaliencyStore, directions_path
from interpret.directions.directions import load_directions, save_directions
from interpret.directions.pca import fit_pca
from tests.helpers.saliency_run import (
    AGENT,
    FUNCTIONS,
    HIDDEN,
    LATER,
    STEP,
    STEPS,
    read_page,
    script_text,
    write_directions,
    write_run,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def directions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("directions")
    return write_directions(folder / "ica.safetensors"), write_directions(
        folder / "pca.safetensors", 4, 1, method="pca"
    )


@pytest.fixture(scope="module")
def make(run, directions, tmp_path_factory):
    """Writes a page with the given flags; returns facts, table and clips. Pages are kept by their flags."""
    pages = {}

    def page(**flags):
        key = repr(sorted(flags.items()))
        if key not in pages:
            path = tmp_path_factory.mktemp("page") / "panel.html"
            base = {
                "saliency_dir": run,
                "direction_files": directions[:1],
                "draws": 0,
                "clusters": 2,
                "nmf_components": 2,
            }
            main(Args(**base | {"out_file": path} | flags))
            pages[key] = read_page(flags.get("out_file", path))
        return pages[key]

    return page


def store(path) -> SaliencyStore:
    return SaliencyStore.open(path)


def test_frames_and_maps_are_those_of_the_run_to_the_bit(make, run):
    _, _, clips = make()
    assert len(clips) == 24
    for sample, clip in zip(store(run).samples, clips):
        stored = store(run).clip(sample)
        assert set(clip) == {"obs", *(f"map/{f}" for f in FUNCTIONS)}
        for name, array in clip.items():
            assert array.dtype == stored[name].dtype
            assert np.array_equal(array, stored[name])


def test_scales_and_step_fields_are_those_of_the_run_to_the_bit(make, run):
    _, table, _ = make()
    for i, sample in enumerate(store(run).samples):
        stored = store(run).clip(sample)
        for name in ("action", "value", "reward", "done", *(f"scale/{f}" for f in FUNCTIONS)):
            assert np.array_equal(table[name][i], stored[name])
        likely = torch.softmax(torch.from_numpy(stored["logits"]).double(), -1).float().numpy()
        assert np.allclose(table["probability"][i], likely, rtol=1e-6)


def test_scores_are_of_the_hidden_state_after_each_frame(make, run, directions):
    _, table, _ = make()
    fit = load_directions(directions[0])
    for i, sample in enumerate(store(run).samples):
        hidden = store(run).clip(sample)["hidden"].astype(np.float64)
        assert np.allclose(
            table["scores"][i], hidden @ fit.read.numpy().T + fit.offset.numpy(), rtol=1e-4, atol=1e-4
        )


def test_a_gradient_is_what_writing_a_score_after_the_frame_adds(make, run, directions):
    """The stored gradient of a step is of the state before its frame: the page's is one step later."""
    _, table, _ = make()
    write = load_directions(directions[0]).write.numpy()
    for i, sample in enumerate(store(run).samples):
        for function in FUNCTIONS:
            gradient = store(run).hidden_gradient(sample, function).astype(np.float64)
            added = np.array([[gradient[t + 1] @ write[:, k] for k in range(3)] for t in range(LATER)])
            assert np.allclose(table[f"gradient/{function}"][i], added, rtol=1e-4, atol=1e-4)


def test_a_small_picture_shows_the_step_that_is_read(make, run):
    _, table, _ = make()
    frame = store(run).clip(100)["obs"][STEP].astype(float)
    assert table["thumb"][0, 1, 2, 0] == round(frame[2:4, 4:6, 0].mean())


def test_samples_are_named_by_level_and_origin(make):
    facts, *_ = make()
    assert facts["samples"][1] == {"id": 101, "words": "sample 101 · level 5,101 · episode 707, step 1"}
    assert "24 simulated samples of 24 levels (5,100-5,123)" in facts["about"]
    assert f"read at step {STEP}" in facts["about"]


def test_a_run_from_random_latents_has_no_levels(make, tmp_path):
    nowhere = dict.fromkeys(("level", "episode", "step"), [-1] * 24)
    facts, *_ = make(saliency_dir=write_run(tmp_path, source=nowhere))
    assert facts["samples"][0]["words"] == "sample 100"
    assert facts["about"].startswith("24 simulated samples, 6 steps each")


def test_functions_summed_over_steps_are_read_nowhere(make, tmp_path):
    facts, *_ = make(saliency_dir=write_run(tmp_path, step="sum"))
    assert facts["step"] is None
    assert facts["sorting_step"] == STEPS - 1


def test_actions_have_an_arrow_where_their_name_says_one(make):
    facts, *_ = make()
    assert [action["arrow"] for action in facts["actions"]] == [[-1, 0], [1, 0], [0, -1], [0, 0], None]


def test_functions_have_words(make):
    facts, *_ = make()
    words = ["value", "log-probability of all actions leftwards", "entropy of the policy"]
    assert [function["words"] for function in facts["functions"]] == words
    assert [function["steps"] for function in facts["functions"]] == [LATER] * 3


def test_examples_are_the_maps_with_most_of_their_region(make, run):
    """Each region is one half of the frame: its examples have the largest share of their clip there."""
    facts, table, clips = make()
    half = {True: slice(0, 6), False: slice(6, 12)}
    at = 0
    for k, region in enumerate(facts["factors"]["regions"]):
        side = half[table["region"][k][:, 0].sum() > table["region"][k][:, -1].sum()]
        assert len({example["sample"] for example in region["examples"]}) == len(region["examples"]) == 4
        shares = []
        for clip in clips:
            for f in FUNCTIONS:
                size = np.abs(clip[f"map/{f}"].astype(float))
                shares.append((size[..., side].sum((1, 2)) / size.sum()).max())
        first = region["examples"][0]
        function = FUNCTIONS[first["function"]]
        size = np.abs(clips[first["sample"]][f"map/{function}"].astype(float))
        assert size[first["step"]][:, side].sum() / size.sum() == pytest.approx(max(shares), rel=0.02)
        for example in region["examples"]:
            clip = clips[example["sample"]]
            assert np.array_equal(table["example_obs"][at], clip["obs"][example["step"]])
            shown = clip[f"map/{FUNCTIONS[example['function']]}"][example["step"]]
            assert np.array_equal(table["example_map"][at], shown)
            at += 1


def test_shares_by_function_are_of_that_functions_magnitude(make):
    facts, *_ = make()
    shares = np.array([region["by_function"] for region in facts["factors"]["regions"]])
    assert shares.sum(0) == pytest.approx(np.ones(3), abs=0.05)
    assert shares.mean(1) == pytest.approx(
        [region["share"] for region in facts["factors"]["regions"]], abs=1e-3
    )


def test_clusters_find_planted_groups_at_the_step_that_is_read(make):
    _, table, _ = make()
    odd = np.arange(24) % 2
    assert np.array_equal(table["cluster"], odd) or np.array_equal(table["cluster"], 1 - odd)


def test_clusters_of_another_step_do_not_find_them(run):
    samples = read_samples(store(run))
    shifted = samples._replace(hidden=np.roll(samples.hidden, 1, axis=1))
    clusters = clusters_of_samples(shifted, 2, 0)
    odd = np.arange(24) % 2
    assert 4 < (clusters == odd).sum() < 20


def test_too_many_clusters_are_lowered_with_a_warning(make, caplog):
    _, table, _ = make(clusters=50)
    assert table["cluster"].max() == 11
    assert "12 clusters in place of 50" in caplog.text


def test_one_sample_makes_a_page(make, tmp_path):
    _, table, clips = make(saliency_dir=write_run(tmp_path, 1), clusters=8)
    assert len(clips) == 1
    assert list(table["cluster"]) == [0]


def write_map(path, agents=(AGENT,)):
    """A finished hidden-state analysis: components and centres that split states by their mean."""
    path.mkdir()
    rng = np.random.default_rng(0)
    states = rng.normal(size=(400, HIDDEN)) + rng.choice([-3, 3], (400, 1))
    pca = fit_pca(states.astype(np.float32), np.arange(400) // 4, 3)
    save_directions(path / "pca.safetensors", pca)
    low, high = (pca.scores(torch.full((1, HIDDEN), mean))[0, :2] for mean in (-3.0, 3.0))
    save_checkpoint(
        path / "clusters.safetensors", {"centres": torch.stack([high, low])}, {"part": "clusters"}
    )
    write_json(path / "numbers.json", {"stores": {"agents": list(agents)}, "axes": 2})
    write_json(path / "config.json", {"version": 2})
    write_json(path / "done.json", {})
    return path


def test_clusters_of_a_map_are_those_of_its_centres(make, tmp_path):
    facts, table, _ = make(map_dir=write_map(tmp_path / "map"))
    assert np.array_equal(table["cluster"], 1 - np.arange(24) % 2)  # odd samples lie around +3: cluster 0
    assert "map of hidden states" in facts["cluster_source"]


def test_a_map_of_another_agent_is_refused(make, tmp_path):
    with pytest.raises(UsageError, match=f"agent other, and these samples are of agent {AGENT}"):
        make(map_dir=write_map(tmp_path / "map", ["other"]))


def test_without_directions_principal_components_are_shown(make):
    facts, table, _ = make(direction_files=())
    assert {direction["set"] for direction in facts["directions"]} == {"pca"}
    assert table["scores"].shape == (24, STEPS, HIDDEN)
    assert {direction["status"] for direction in facts["directions"]} == {"untested"}


def test_a_page_loads_nothing(run, make, tmp_path):
    make(out_file=tmp_path / "panel.html")
    text = (tmp_path / "panel.html").read_text()
    code = text.replace(script_text(text, "table"), "").replace(script_text(text, "clips"), "")
    for loads in (
        "http:",
        "https:",
        "//cdn",
        "@import",
        "url(",
        "fetch(",
        "import(",
        "localStorage",
        " src=",
    ):
        assert loads not in code


def test_names_cannot_break_out_of_the_page(make, tmp_path):
    actions = ["</script><script>alert(1)</script>", "{{TABLE}}", "up", "none", "key-d"]
    facts, *_ = make(saliency_dir=write_run(tmp_path, action_names=actions))
    assert [action["name"] for action in facts["actions"]] == actions


FLAGS = {
    "direction_files": ("the names of directions", lambda page: [d["name"] for d in page[0]["directions"]]),
    "saliency_func_type": ("the functions", lambda page: [f["name"] for f in page[0]["functions"]]),
    "num_samples": ("the number of samples", lambda page: len(page[2])),
    "num_directions": ("the number of directions", lambda page: page[1]["scores"].shape),
    "clusters": ("the clusters", lambda page: page[1]["cluster"].max()),
    "nmf_components": (
        "the number of regions",
        lambda page: len((page[0]["factors"] or {"regions": ()})["regions"]),
    ),
    "draws": ("whether stability is tested", lambda page: page[0]["factors"]["draws"]),
}
"""Named output of every flag; gradient_check, seed, map_dir, saliency_dir, out_file and log_level have tests
of their own.
"""


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_changes_its_output(make, directions, flag):
    values = {
        "direction_files": directions,
        "saliency_func_type": ("entropy",),
        "num_samples": 7,
        "num_directions": 2,
        "clusters": 4,
        "nmf_components": 0,
        "draws": 20,
    }
    name, output = FLAGS[flag]
    assert output(make(**{flag: values[flag]})) != output(make()), name


def test_every_flag_is_tested():
    others = {"gradient_check", "seed", "map_dir", "saliency_dir", "out_file", "log_level"}
    assert {field.name for field in dataclasses.fields(Args)} == FLAGS.keys() | others


def test_functions_that_fail_the_check_of_gradients_are_marked(make, tmp_path):
    run = write_run(tmp_path / "run", functions=["value", "leftwards"])
    assert not any(function["untrusted"] for function in make(saliency_dir=run)[0]["functions"])
    assert "are unchecked" in make(saliency_dir=run)[0]["about"]
    paths = {name: {"greyed": name == "mixed"} for name in ("agent", "environment", "mixed")}
    write_json(tmp_path / "check.json", {"inputs": {"agent_file": AGENT}, "paths": paths})
    facts, *_ = make(saliency_dir=run, gradient_check=tmp_path / "check.json")
    assert [function["untrusted"] for function in facts["functions"]] == [True, True]
    assert "are unchecked" not in facts["about"]


def test_the_seed_draws_other_resamples(make):
    one, other = (make(draws=20, seed=seed)[0]["factors"]["regions"] for seed in (0, 1))
    assert [region["cosine"] for region in one] != [region["cosine"] for region in other]


def test_another_run_is_another_page(make, tmp_path):
    assert not np.array_equal(
        make(saliency_dir=write_run(tmp_path, seed=1))[2][0]["obs"], make()[2][0]["obs"]
    )


def test_the_page_lies_in_the_run_unless_another_file_is_named(tmp_path):
    main(
        Args(
            write_run(tmp_path, 2),
            nmf_components=0,
            direction_files=(write_directions(tmp_path / "d.safetensors"),),
        )
    )
    assert (tmp_path / "panel.html").exists()


def test_functions_are_in_the_order_asked_for(make):
    facts, table, _ = make(saliency_func_type=("entropy", "value"))
    assert [function["name"] for function in facts["functions"]] == ["entropy", "value"]
    assert np.array_equal(table["scale/entropy"], make()[1]["scale/entropy"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"saliency_func_type": ("valeu",)}, "no maps of 'valeu'; choose from: value, leftwards, entropy"),
        ({"num_samples": 0}, "--num_samples is 0: give 1 or more"),
        ({"draws": 3}, "take at least 20, or 0 for no test"),
        ({"nmf_components": 999}, "ask for 1 to"),
    ],
)
def test_bad_flags_are_refused(make, flags, words):
    with pytest.raises(UsageError, match=words):
        make(**flags)


def test_directions_of_another_width_are_refused(make, tmp_path):
    with pytest.raises(UsageError, match="of width 7, and hidden states have 5"):
        make(direction_files=(write_directions(tmp_path / "wide.safetensors", width=7),))


def test_directions_of_another_agent_are_refused(make, tmp_path):
    path = write_directions(tmp_path / "other.safetensors", agent="other")
    with pytest.raises(UsageError, match=f"fit on agent other, not on {AGENT}"):
        make(direction_files=(path,))


def test_the_directions_of_the_run_are_shown_unless_others_are_given(make, tmp_path):
    run = write_run(tmp_path, directions={"nmf": {}})
    write_directions(directions_path(run, "nmf"), 2, method="nmf")
    facts, *_ = make(saliency_dir=run, direction_files=())
    assert [(one["set"], one["name"]) for one in facts["directions"]] == [("nmf", "nmf_0"), ("nmf", "nmf_1")]
    others, *_ = make(saliency_dir=run)
    assert {one["set"] for one in others["directions"]} == {"ica"}


def test_too_few_levels_for_directions_are_refused(make, tmp_path):
    with pytest.raises(UsageError, match="2 levels, too few to fit directions"):
        make(saliency_dir=write_run(tmp_path, 2), direction_files=(), nmf_components=0)


def test_a_directory_without_maps_is_refused(make, tmp_path):
    with pytest.raises(UsageError, match="no saliency maps at"):
        make(saliency_dir=tmp_path / "none", out_file=None)
    assert not (tmp_path / "none").exists()


def test_the_log_level_is_the_shared_flag():
    assert Args("x").log_level == logging.INFO


def test_facts_are_plain_json(make):
    json.dumps(make()[0], allow_nan=False)


def test_steps_without_any_gradient_are_left_out(make, tmp_path):
    """Functions that read the next step have one step more than others; their arrays have one length."""
    run = write_run(tmp_path, empty_last=("value", "entropy"))
    facts, table, clips = make(saliency_dir=run)
    assert [function["steps"] for function in facts["functions"]] == [LATER - 1, LATER, LATER - 1]
    assert [clips[0][f"map/{f}"].shape[0] for f in FUNCTIONS] == [LATER - 1, LATER, LATER - 1]
    assert table["gradient/leftwards"].shape[1] == LATER


def test_recorded_frames_are_called_so(make, tmp_path):
    facts, *_ = make(saliency_dir=write_run(tmp_path, real_frames=True))
    assert facts["recorded"]
    assert facts["about"].startswith("24 recorded samples")
    assert not make()[0]["recorded"]
