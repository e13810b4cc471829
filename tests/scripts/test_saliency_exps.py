"""saliency_exps.py: every flag changes what is stored, mistakes are one line, the same command resumes."""

import json
from pathlib import Path

import numpy as np
import pytest

import saliency_exps
from common.checkpoints import write_json
from common.cli import parse
from common.runs import UsageError, file_id
from common.video import read_video
from generative.model.world_model_file import load_world_model, save_world_model
from interpret.attribution.saliency_run import name_of
from interpret.attribution.saliency_store import SaliencyStore, batch_path
from interpret.directions.by_kind import load_by_kind
from interpret.directions.directions import Directions, save_directions
from interpret.sample_ids import check_ids, parse_sample_ids
from tests.helpers.linear_loop import skewed_directions
from tests.helpers.refusal_checks import HUGE
from tests.helpers.toy_simulator import save_toy_files
from tests.helpers.toy_world import toy_agent, toy_episode, with_agent, write_toy_store

pytestmark = pytest.mark.usefixtures("float32")
STEPS, STEP = 5, 2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An agent, its world model, a store, and directions of the agent's hidden state."""
    path = tmp_path_factory.mktemp("made")
    save_toy_files(path)
    model, meta = load_world_model(path / "model.safetensors")
    meta["env"] = {"env_name": "toy", "distribution_mode": "hard"}
    save_world_model(
        path / "model.safetensors", model, {k: meta[k] for k in ("agent", "noop", "action_names", "env")}
    )
    agent = file_id(path / "agent.safetensors")
    rng = np.random.default_rng(1)  # other episodes than those of the store
    played = [with_agent(toy_episode(rng, 10), toy_agent()) for _ in range(12)]
    write_toy_store(path / "own", played, toy_agent(), policy_id=agent)
    save_directions(path / "ica.safetensors", directions("ica", agent))
    save_directions(path / "pca.safetensors", directions("pca", agent, seed=9))
    save_directions(path / "other.safetensors", directions("ica", "another agent"))
    save_directions(path / "wide.safetensors", directions("ica", agent, width=9))
    return path


def directions(method: str, agent: str, width: int = 8, seed: int = 5) -> Directions:
    return skewed_directions(width, 3, seed).with_provenance(method=method, agent=agent)


def args_of(made, out_dir: Path, **changed) -> saliency_exps.Args:
    given = dict(
        data_dir=made / "store", num_sim_steps=STEPS, step=STEP, sample_ids=("3", "1", "4"), batch_size=2,
        draws=2, noise=0.05, device="cpu", out_dir=out_dir, log_level=40,
    )  # fmt: skip
    return saliency_exps.Args(made / "model.safetensors", made / "agent.safetensors", **given | changed)


def run(made, out_dir: Path, **changed) -> SaliencyStore:
    saliency_exps.main(args_of(made, out_dir, **changed))
    return SaliencyStore.open((out_dir / "latest").resolve())


@pytest.fixture(scope="module")
def base(made, tmp_path_factory):
    return run(made, tmp_path_factory.mktemp("base"))


def test_the_documented_command_line_is_read(made):
    words = (
        "--distribution_mode=hard --agent_file=a --model_file=m --batch_size=2 --num_sim_steps=28 "
        "--saliency_func_type value leftwards --sample_ids 33 39 56 84"
    )
    args = parse(saliency_exps.Args, "", words.split())
    assert args.world_model_file == Path("m")
    assert (args.batch_size, args.num_sim_steps, args.step) == (2, 28, 4)
    assert args.saliency_func_type == ("value", "leftwards")
    assert parse_sample_ids(args.sample_ids) == [33, 39, 56, 84]
    args = parse(saliency_exps.Args, "", [*words.split()[:3], "--sample_ids", "0", "to", "100"])
    assert list(parse_sample_ids(args.sample_ids)) == list(range(100))
    assert parse(saliency_exps.Args, "", [*words.split(), "--step", "sum"]).step == "sum"
    assert parse(saliency_exps.Args, "", [*words.split(), "--directions", "x", "y"]).direction_files == (
        Path("x"), Path("y"),
    )  # fmt: skip


def test_what_is_stored_says_what_it_is_of(base, made):
    facts = base.facts
    assert base.samples == (3, 1, 4)
    assert base.functions == ("value", "action")
    assert (facts["step"], facts["steps"], facts["grad_steps"], facts["draws"]) == (STEP, STEPS, STEP + 1, 2)
    assert facts["batches"] == [[3, 1], [4]]
    assert facts["action_names"] == ["up", "down", "left", "right", "none"]
    assert facts["inputs"]["agent_file"] == file_id(made / "agent.safetensors")
    assert [len(facts["source"][name]) for name in ("episode", "step", "level")] == [3, 3, 3]
    clip = base.clip(1)
    shapes = {"obs": (STEPS, 8, 8, 3), "action": (STEPS,), "logits": (STEPS, 5), "hidden": (STEPS, 8)}
    assert {name: clip[name].shape for name in shapes} == shapes
    assert clip["obs"].dtype == np.uint8
    assert base.map(1, "value").shape == (STEP + 1, 8, 8)
    assert base.hidden_gradient(1, "value").shape == (STEP + 2, 8)


def test_the_documented_ranges_and_modes_work(made, tmp_path):
    store = run(made, tmp_path, sample_ids=("0", "to", "3"), distribution_mode="hard")
    assert store.samples == (0, 1, 2)
    assert store.path.name.startswith("simulated_0_to_3_")
    combined = run(made, tmp_path, combine_samples_not_iterate=True)
    assert combined.path.name.startswith("combined_3_1_4_")
    assert combined.path.name.replace("_", "").isalnum()
    assert combined.facts["combined"] == [3, 1, 4]
    assert combined.samples == (-1,)
    assert combined.map(-1, "value").any()


CHANGED_MAPS = {
    "step": dict(step=1),
    "sum": dict(step="sum"),
    "draws": dict(draws=3),
    "noise": dict(noise=0.2),
    "sampling": dict(sampling="modal"),
    "greedy": dict(greedy=True),
    "seed": dict(seed=1),
}


@pytest.mark.parametrize("flag", CHANGED_MAPS)
def test_a_flag_changes_the_maps(made, base, tmp_path, flag):
    other = run(made, tmp_path, **CHANGED_MAPS[flag])
    both = [
        np.concatenate([store.map(one, "value")[:2].ravel() for one in (3, 1, 4)]) for store in (base, other)
    ]
    assert np.abs(both[0] - both[1]).max() > 1e-3 * np.abs(both[0]).max()


def test_the_store_of_the_starting_points_changes_the_clips(made, tmp_path, base):
    other = run(made, tmp_path, data_dir=made / "store", num_sim_steps=STEPS + 2)
    assert other.clip(3)["obs"].shape[0] == STEPS + 2
    np.testing.assert_array_equal(other.clip(3)["action"][:STEPS], base.clip(3)["action"])
    elsewhere = run(made, tmp_path, data_dir=made / "own")
    assert elsewhere.facts["inputs"]["data_dir"] != base.facts["inputs"]["data_dir"]
    assert (elsewhere.clip(3)["obs"] != base.clip(3)["obs"]).any()


def test_functions_are_those_that_are_named(made, tmp_path):
    names = ("leftwards", "hidden_2", "hx_direction", "value_delta")
    files = (made / "ica.safetensors", made / "pca.safetensors")
    store = run(made, tmp_path, saliency_func_type=names, direction_files=files)
    kinds = [f"hx_direction_{d}_{kind}" for kind in ("ica", "pca") for d in range(3)]
    assert store.functions == ("leftwards", "hidden_2", *kinds, "value_delta")
    assert store.facts["grad_steps"] == STEP + 2
    assert store.facts["directions"]["ica"]["names"] == ["d0", "d1", "d2"]
    assert np.abs(store.map(3, kinds[0]) - store.map(3, kinds[3])).max() > 0


def test_hx_direction_gradients_are_those_of_the_scores(made, tmp_path):
    """After the frame of the step, the gradient to the hidden state is the direction's own row."""
    store = run(
        made, tmp_path, saliency_func_type=("hx_direction",), direction_files=(made / "ica.safetensors",)
    )
    read = directions("ica", "").read.numpy()
    for d in range(3):
        found = store.hidden_gradient(4, f"hx_direction_{d}_ica")[STEP + 1]
        np.testing.assert_allclose(found, read[d], rtol=2e-3, atol=1e-4)


def test_inputs_are_those_that_are_named(made, tmp_path, base):
    store = run(made, tmp_path, wrt=("env_state", "actions", "latent"))
    assert {"env/value", "actions/value", "latent/value"} <= store.clip(3).keys()
    assert not {"map/value", "hx/value"} & store.clip(3).keys()
    assert {"map/value", "hx/value"} <= base.clip(3).keys()
    with pytest.raises(UsageError, match="holds no map of value"):
        store.map(3, "value")


def test_paths_are_stored_as_functions_and_sum_to_the_map(made, tmp_path):
    store = run(made, tmp_path, paths=True, saliency_func_type=("value",), keep_float=True)
    assert store.functions == ("value", "value@agent", "value@environment", "value@mixed")
    clip = store.clip(3)
    parts = sum(clip[f"frames/value@{path}"] for path in ("agent", "environment", "mixed"))
    np.testing.assert_allclose(parts, clip["frames/value"], rtol=1e-4, atol=1e-6)


def test_float_gradients_are_kept_on_request(made, tmp_path, base):
    store = run(made, tmp_path, keep_float=True)
    assert "frames/value" not in base.clip(3)
    whole = store.clip(3)["frames/value"].sum(-1)
    assert np.abs(store.map(3, "value") - whole).max() <= np.abs(whole).max() / 127
    assert np.abs(store.map(3, "value")).max() == pytest.approx(np.abs(base.map(3, "value")).max(), rel=1e-3)


def test_the_batch_size_changes_the_files_and_not_the_maps(made, tmp_path, base):
    store = run(made, tmp_path, batch_size=3)
    assert [len(list(one.path.glob("batch_*.safetensors"))) for one in (store, base)] == [1, 2]
    for sample in (3, 1, 4):
        limit = 0.02 * np.abs(base.map(sample, "value")).max()
        np.testing.assert_allclose(store.map(sample, "value"), base.map(sample, "value"), atol=limit)


def test_several_jobs_make_the_maps_of_one(made, tmp_path, base):
    for job in (2, 0, 1):
        saliency_exps.main(args_of(made, tmp_path, batch_size=1, job=(job, 3)))
        assert (tmp_path / "latest").exists() == (job == 1)
    store = SaliencyStore.open((tmp_path / "latest").resolve())
    assert (store.path / "done.json").exists()
    alone = run(made, tmp_path / "alone", batch_size=1)
    for name in ("batch_0", "batch_1", "batch_2"):
        one, other = ((path / f"{name}.safetensors").read_bytes() for path in (store.path, alone.path))
        assert one == other


def test_recorded_frames_are_shown_as_recorded(made, tmp_path, base, caplog):
    with caplog.at_level(30):
        store = run(made, tmp_path, data_dir=made / "own", real_frames=True, sample_ids=("0", "to", "20"))
    assert "left out" in caplog.text
    assert store.path.name.startswith("recorded_")
    assert 3 < len(store.samples) < 20
    assert store.facts["real_frames"]
    assert not base.facts["real_frames"]
    sample = store.samples[0]
    assert store.map(sample, "value").any()
    assert set(np.unique(store.clip(sample)["obs"])) == {0, 255}  # the game's frames are black and white


def test_pictures_are_drawn_on_request_and_need_no_new_maps(made, tmp_path, base):
    assert not (base.path / "videos").exists()
    asked = dict(saliency_func_type=("value",), sample_ids=("3",))
    store = run(made, tmp_path, **asked)
    before = batch_path(store.path, 0).stat().st_mtime_ns
    assert run(made, tmp_path, save_videos=True, **asked).path == store.path
    assert batch_path(store.path, 0).stat().st_mtime_ns == before
    frames, _ = read_video(store.path / "videos" / "sample_00003_saliency_value.mp4")
    assert len(frames) == STEPS
    assert (store.path / "videos" / "sample_00003_saliency_value.png").exists()


def test_the_demonstration_compares_maps_with_and_without_gradients_through_the_environment(made, tmp_path):
    store = run(made, tmp_path, env_gradients_demo=True, saliency_func_type=("value",))
    assert "value@mixed" in store.functions
    names = {file.name for file in (store.path / "demo_with_without_env_grads").iterdir()}
    assert names == {f"sample_{one:05d}_value.{kind}" for one in (3, 1, 4) for kind in ("mp4", "png")}
    numbers = json.loads((store.path / "env_gradients.json").read_text())["value"]
    norms = np.array(
        [
            [np.linalg.norm(store.map(one, f"value@{path}")) for path in ("agent", "environment", "mixed")]
            for one in (3, 1, 4)
        ]
    )
    share = (norms / norms.sum(1, keepdims=True)).mean(0)
    assert numbers["share of the mixed path"]["mean"] == pytest.approx(share[2], rel=1e-4)
    assert share[2] > 1e-3
    assert share[1] == 0  # frames reach the environment through actions alone


def test_a_check_of_gradients_takes_the_colour_of_the_paths_that_fail(made, tmp_path):
    asked = dict(env_gradients_demo=True, saliency_func_type=("value",), sample_ids=("3",))
    paths = {name: {"greyed": name == "agent"} for name in ("agent", "environment", "mixed")}
    store = run(made, tmp_path, **asked)
    picture = store.path / "demo_with_without_env_grads" / "sample_00003_value.png"
    unchecked = picture.read_bytes()
    write_json(tmp_path / "check.json", {"inputs": store.facts["inputs"], "paths": paths})
    assert run(made, tmp_path, gradient_check=tmp_path / "check.json", **asked).path == store.path
    assert picture.read_bytes() != unchecked


def test_the_same_command_is_done_and_new_makes_another(made, tmp_path):
    first = run(made, tmp_path)
    written = batch_path(first.path, 0).stat().st_mtime_ns
    assert run(made, tmp_path).path == first.path
    assert batch_path(first.path, 0).stat().st_mtime_ns == written
    assert run(made, tmp_path, new=True).path != first.path


def test_an_interrupted_run_computes_what_is_missing(made, tmp_path):
    store = run(made, tmp_path)
    before = store.map(4, "value")
    (store.path / "done.json").unlink()
    batch_path(store.path, 1).unlink()
    kept = batch_path(store.path, 0).stat().st_mtime_ns
    resumed = run(made, tmp_path)
    assert resumed.path == store.path
    assert batch_path(store.path, 0).stat().st_mtime_ns == kept
    np.testing.assert_array_equal(resumed.map(4, "value"), before)


def test_the_precision_is_recorded_and_the_default_is_float32(made, tmp_path):
    assert parse(saliency_exps.Args, "", ["--model_file", "m", "--agent_file", "a"]).precision == "fp32"
    manifests = [
        json.loads((run(made, tmp_path, precision=name).path / "manifest.json").read_text())
        for name in ("fp32", "bf16")
    ]
    assert [one["precision"] for one in manifests] == ["fp32", "bf16"]


REFUSED = {
    "no sample 500": dict(sample_ids=("2", "500")),
    "takes numbers from 0 on, or a range": dict(sample_ids=("a",)),
    "names no sample": dict(sample_ids=("7", "to", "7")),
    "is no range": dict(sample_ids=("0", "to")),
    "no function 'speed'; there are: value, value_delta, action": dict(saliency_func_type=("speed",)),
    "hx_direction needs directions": dict(saliency_func_type=("hx_direction",)),
    "--step 5 is beyond the rollout: value has a value at steps 0 to 4": dict(step=5),
    "value_delta has a value at steps 0 to 3": dict(step=4, saliency_func_type=("value_delta",)),
    "--step -1 is beyond": dict(step=-1),
    "--draws is 0": dict(draws=0),
    "--num_sim_steps is 0": dict(num_sim_steps=0),
    "--batch_size is 0": dict(batch_size=0),
    "--noise is -1": dict(noise=-1.0),
    "is easy, and .* is a model of mode hard": dict(distribution_mode="easy"),
    "no latent to differentiate by": dict(real_frames=True, wrt=("latent",)),
    "done is predicted by the simulator": dict(real_frames=True, saliency_func_type=("done",)),
    "--paths is about simulated samples": dict(real_frames=True, paths=True),
    "--combine_samples_not_iterate is about": dict(real_frames=True, combine_samples_not_iterate=True),
    "--greedy is about simulated": dict(real_frames=True, greedy=True),
    "this agent recorded no episode": dict(real_frames=True),
    "add frames to --wrt": dict(wrt=("hidden",), save_videos=True),
    "nothing to differentiate": dict(wrt=()),
    "--batch_size 1000000000000 in 2 draws .* takes .* GiB": dict(batch_size=HUGE),
    "in 1000000000000 draws": dict(draws=HUGE),
    "takes .* GiB, and this machine has": dict(num_sim_steps=HUGE),
    "there is no sample [0-9]+:": dict(sample_ids=("0", "to", "100000000")),
    "has a number of 13 digits": dict(sample_ids=("0", "to", str(HUGE))),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_done_is_one_line(made, tmp_path, message):
    with pytest.raises(UsageError, match=message) as refused:
        run(made, tmp_path, **REFUSED[message])
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("*/batch_*"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("other.safetensors",), "was fit on agent another agent, not on"),
        (("wide.safetensors",), "width 9, and hidden states have 8"),
        (("ica.safetensors", "ica.safetensors"), "second file of kind ica"),
    ],
)
def test_directions_of_another_agent_or_width_are_refused(made, tmp_path, files, message):
    with pytest.raises(UsageError, match=message):
        run(made, tmp_path, direction_files=tuple(made / one for one in files))


def test_the_agent_of_directions_is_also_read_from_the_step_that_saved_them(tmp_path, caplog):
    save_directions(tmp_path / "ica.safetensors", skewed_directions(8, 3).with_provenance(method="ica"))
    assert list(load_by_kind([tmp_path / "ica.safetensors"], 8, "mine")) == ["ica"]
    assert "does not say which agent" in caplog.text
    (tmp_path / "numbers.json").write_text(json.dumps({"stores": {"agents": ["other"]}}))
    with pytest.raises(UsageError, match="fit on agent other, not on mine"):
        load_by_kind([tmp_path / "ica.safetensors"], 8, "mine")


def test_names_of_runs_are_plain():
    assert name_of([5], "simulated") == "simulated_5"
    assert name_of(list(range(100)), "combined") == "combined_0_to_100"
    assert name_of([4, 2, 9, 7, 1, 0], "recorded") == "recorded_4_2_9_7_and_2_more"


def test_ids_are_in_order_without_repetition():
    assert list(parse_sample_ids(["4", "2", "4"])) == [4, 2]
    check_ids([4, 2], 5, Path("store"))
    with pytest.raises(UsageError, match="there is no sample 5: store has 5 starting points, 0 to 4"):
        check_ids([4, 5], 5, Path("store"))
