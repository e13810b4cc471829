"""target_function_exps.py: every flag changes a named output, a killed run resumes to the same bits, and bad
input is refused in one line.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import target_function_exps
from analysis.targets import target_run
from analysis.targets.places import moments_place
from common.checkpoints import BadCheckpoint, load_checkpoint, save_checkpoint
from common.runs import UsageError, file_id
from common.video import read_video
from interpret.directions.directions import Directions, save_directions
from interpret.targets import target_rollouts
from interpret.targets.latent_optimisation import LatentOptimiser
from rollouts.store import Rollouts
from tests.helpers.toy_simulator import save_toy_files, toy_store

pytestmark = pytest.mark.usefixtures("float32")

SMALL = dict(
    targets=("increase_hidden_2",), step=2, num_sim_steps=4, num_starts=2, start_pool=1, num_iterations=3,
    num_rollouts=2, eval_every=2, eval_rollouts=2, report_rollouts=2, num_moments=24, num_shown=2,
    batch_size=8, device="cpu", log_level=40, seed=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("files")
    save_toy_files(path, end_bias=-9.0)
    toy_store(path / "many", episodes=40)  # on ten levels
    return path


def run(files: Path, out_dir: Path, pictures: bool = False, **changed) -> Path:
    """Runs the script with small sizes; returns the run's directory. Pictures take longer than numbers."""
    given = {"data_dir": files / "many", "out_dir": out_dir, "world_model_file": files / "model.safetensors"}
    given |= {"agent_file": files / "agent.safetensors"} | SMALL | changed
    with pytest.MonkeyPatch.context() as patch:
        for name in () if pictures else ("draw_target", "draw_run", "draw_priors"):
            patch.setattr(target_function_exps, name, lambda *_: None)
        target_function_exps.main(target_function_exps.Args(**given))
    return max(out_dir.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def numbers(directory: Path) -> dict:
    return json.loads((directory / "numbers.json").read_text())


def latents(directory: Path, target: str = "increase_hidden_2") -> dict[str, torch.Tensor]:
    return load_checkpoint(directory / f"{target}.safetensors")[0]


@pytest.fixture(scope="module")
def base(files, tmp_path_factory):
    return run(files, tmp_path_factory.mktemp("base"))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_has_numbers_latents_curves_pictures_and_a_video(files, tmp_path):
    directory = run(files, tmp_path, pictures=True)
    target = numbers(directory)["targets"]["increase_hidden_2"]
    assert set(target["arms"]) == {"start", "optimised", "best_recorded", "best_random"}
    assert target["arms"]["optimised"]["value"]["n"] == 2
    assert np.array(target["curves"]["value"]).shape == (3, 2)  # at 0, 2 and 3 iterations
    assert {name: tuple(z.shape) for name, z in latents(directory).items()} == dict.fromkeys(
        target["arms"], (2, 37)
    )
    frames, fps = read_video(directory / "increase_hidden_2.mp4")
    assert (len(frames), fps) == (4, 5)
    drawn = {path.name for path in directory.glob("*.png")}
    assert drawn == {"targets_0.png", "increase_hidden_2_strip.png", "priors.png"}


def test_the_same_command_is_done_and_new_starts_another(files, base):
    before = (base / "numbers.json").stat().st_mtime_ns
    assert run(files, base.parent) == base
    assert (base / "numbers.json").stat().st_mtime_ns == before
    again = run(files, base.parent, new=True)
    assert again != base
    assert same(latents(again), latents(base))
    assert numbers(again) == numbers(base)


CHANGES_LATENTS = {
    "seed": 1,
    "step": 1,
    "start_pool": 3,
    "num_iterations": 2,
    "lr": 0.3,
    "num_rollouts": 3,
    "common_noise": True,
    "latent_noise": 0.5,
    "grad_clip_norm": 1e-3,
    "prior": "standard",
    "prior_weight": 2.0,
    "diversity": 3.0,
    "detach_agent": False,
    "detach_actions": False,
    "eval_every": 1,
    "rand_init": True,
    "num_moments": 16,
    "num_starts": 3,
}


@pytest.mark.parametrize("flag", CHANGES_LATENTS)
def test_a_flag_changes_the_optimised_latents(flag, files, base, tmp_path):
    other = run(files, tmp_path, **{flag: CHANGES_LATENTS[flag]})
    found = latents(other)["optimised"]
    assert not torch.equal(found[:2], latents(base)["optimised"])
    assert len(found) == (3 if flag == "num_starts" else 2)


@pytest.mark.parametrize(
    ("flag", "value", "changed"),
    [
        ("eval_rollouts", 3, lambda one: one["curves"]["value"]),
        ("report_rollouts", 3, lambda one: one["arms"]["start"]["value"]),
        ("num_moments", 16, lambda one: one["real"]["n"]),
    ],
)
def test_a_flag_changes_a_number(flag, value, changed, files, base, tmp_path):
    other = run(files, tmp_path, **{flag: value})
    found, before = (changed(numbers(one)["targets"]["increase_hidden_2"]) for one in (other, base))
    assert found != before


def test_flags_of_the_video_change_it(files, tmp_path):
    one = run(files, tmp_path, pictures=True, num_shown=1, fps=10, num_sim_steps=5)
    frames, fps = read_video(one / "increase_hidden_2.mp4")
    assert (len(frames), fps) == (5, 10)
    both = read_video(run(files, tmp_path / "both", pictures=True) / "increase_hidden_2.mp4")[0]
    assert frames.shape[2] < both.shape[2]


def test_batch_size_bounds_the_rollouts_at_a_time(files, tmp_path, monkeypatch):
    seen = []
    for name in ("simulated_trace", "plain_trace"):
        original = getattr(target_rollouts, name)

        def spy(simulator, z, *args, original=original, **options):
            seen.append(len(z))
            return original(simulator, z, *args, **options)

        monkeypatch.setattr(target_rollouts, name, spy)
        if hasattr(target_run, name):
            monkeypatch.setattr(target_run, name, spy)
    run(files, tmp_path / "small", batch_size=3, num_starts=4)
    assert max(seen) == 3
    seen.clear()
    run(files, tmp_path / "large", batch_size=16, num_starts=4)
    assert max(seen) > 3


def test_a_killed_run_resumes_to_the_same_bits(files, base, tmp_path, monkeypatch):
    original = LatentOptimiser.step

    def killed(self):
        if self.iteration == 2:
            raise KeyboardInterrupt
        original(self)

    scored = []

    def killed_too(*args):
        if len(scored) == 3:
            raise KeyboardInterrupt
        scored.append(target_run_score(*args))
        return scored[-1]

    target_run_score = target_run.score_candidates
    monkeypatch.setattr(target_run, "score_candidates", killed_too)
    monkeypatch.setattr(LatentOptimiser, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(files, tmp_path)
    monkeypatch.setattr(target_run, "score_candidates", target_run_score)
    with pytest.raises(KeyboardInterrupt):
        run(files, tmp_path)
    monkeypatch.undo()
    iterations = []
    monkeypatch.setattr(
        LatentOptimiser, "step", lambda self: (iterations.append(self.iteration), original(self))
    )
    resumed = run(files, tmp_path)
    assert iterations == [2]
    assert same(latents(resumed), latents(base))
    assert numbers(resumed) == numbers(base)


def test_optimisation_goes_on_from_stored_latents(files, base, tmp_path):
    stored = base / "increase_hidden_2.safetensors"
    other = run(files, tmp_path, start_latents=stored)
    assert torch.equal(latents(other)["start"], latents(base)["optimised"])


def test_a_target_in_a_direction_and_a_place(files, tmp_path):
    read = np.eye(8)[:3]
    parts = dict(offset=np.zeros(3), write=read.T, origin=np.zeros(8), names=("a", "b", "c"))
    path = tmp_path / "ica.safetensors"
    save_directions(path, Directions(read=read, **parts, provenance={"method": "ica"}))
    names = ("increase_hx_direction_2_ica", "hx_direction_1_ica=0.2", "reach_moments")
    given = dict(targets=names, direction_files=(path,), moments=("0:1", "3:2"), num_iterations=1)
    directory = run(files, tmp_path / "out", **given)
    assert list(numbers(directory)["targets"]) == list(names)
    same_unit = run(files, tmp_path / "unit", num_iterations=1)
    torch.testing.assert_close(
        latents(directory, names[0])["optimised"], latents(same_unit)["optimised"], rtol=1e-4, atol=1e-5
    )
    elsewhere = run(files, tmp_path / "else", **given | {"moments": ("1:0",)})
    assert not torch.equal(
        latents(directory, "reach_moments")["optimised"], latents(elsewhere, "reach_moments")["optimised"]
    )


REFUSED = {
    "function": (dict(targets=("increase_speed",)), "no function 'speed'; there are: value"),
    "goal": (dict(targets=("value",)), "'value' is no target; there are increase_<function>"),
    "place": (dict(targets=("reach_cluster_3",)), "give --clusters_dir or --moments"),
    "nothing": (dict(targets=()), "--targets names nothing"),
    "step": (dict(step=4), "--step 4 of increase_hidden_2 lies beyond the rollout"),
    "delta": (dict(targets=("increase_value_delta",), step=3), "at steps 0 to 2"),
    "moment": (dict(targets=("reach_moments",), moments=("0-3",)), "words such as 12:30"),
    "episode": (dict(targets=("reach_moments",), moments=("99:0",)), "has episodes 0 to 39"),
    "time": (dict(targets=("reach_moments",), moments=("0:99",)), "episode 0 has steps 0 to"),
    "starts": (dict(num_starts=500), "starting points, and 500 were asked for"),
    "prior": (dict(num_moments=1), "needs 4 or more"),
    "lr": (dict(lr=0.0), "--lr is 0.0"),
    "weight": (dict(prior_weight=-1.0), "--prior_weight is -1.0"),
    "sizes": (dict(num_rollouts=0, num_starts=0), "--num_starts is 0.*--num_rollouts is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line(case, files, tmp_path):
    changed, message = REFUSED[case]
    with pytest.raises(UsageError, match=message) as refused:
        run(files, tmp_path, **changed)
    assert "\n" not in str(refused.value)


def test_latents_of_another_model_are_refused(files, base, tmp_path):
    stored = base / "increase_hidden_2.safetensors"
    tensors, facts = load_checkpoint(stored)
    save_checkpoint(tmp_path / "other.safetensors", tensors, facts | {"world_model_file": "0" * 16})
    with pytest.raises(UsageError, match="latents of world model 0000000000000000, and this is"):
        run(files, tmp_path / "out", start_latents=tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="holds no optimised latents"):
        run(files, tmp_path / "out", start_latents=files / "agent.safetensors")
    with pytest.raises(UsageError, match="give one of them"):
        run(files, tmp_path / "out", start_latents=stored, rand_init=True)
    assert not (tmp_path / "out").exists()  # refused before anything is read or begun


def test_a_sum_over_steps_is_another_target(files, base, tmp_path):
    other = run(files, tmp_path, step="sum")
    target = numbers(other)["targets"]["increase_hidden_2"]
    assert (target["step"], target["steps"]) == ("sum", 4)
    assert not torch.equal(latents(other)["optimised"], latents(base)["optimised"])


def test_a_start_is_the_best_of_its_pool(files, tmp_path):
    one, many = (
        numbers(run(files, tmp_path / str(pool), start_pool=pool, report_rollouts=16))["targets"]
        for pool in (1, 12)
    )
    values = [found["increase_hidden_2"]["arms"]["start"]["value"]["mean"] for found in (one, many)]
    assert values[1] > values[0]
    costs = [found["increase_hidden_2"]["simulated_steps_per_start"] for found in (one, many)]
    assert costs[1] - costs[0] == 12 * 2 * 3  # candidates, rollouts and steps


def test_best_recorded_moments_have_values_in_the_real_game(files, base):
    """The value that the agent's unit had in the recording, at the moments that latents were encoded from."""
    store = Rollouts.open(files / "many")
    found = load_checkpoint(base / "increase_hidden_2_own.safetensors")[0]
    states = [store.episode(i)["hidden"][1:, 2] for i in range(len(store))]
    for arm in ("start", "best_recorded"):
        for value in found[arm][found[arm].isfinite()]:
            assert (
                min(np.abs(episode[4:] - float(value)).min() for episode in states if len(episode) > 4) < 1e-3
            )
    assert set(found) == {"start", "best_recorded"}


def test_directions_of_another_agent_are_refused(files, tmp_path):
    read = np.eye(5)[:1]
    parts = dict(offset=np.zeros(1), write=read.T, origin=np.zeros(5), names=("a",))
    path = tmp_path / "ica.safetensors"
    save_directions(path, Directions(read=read, **parts, provenance={"method": "ica"}))
    with pytest.raises(UsageError, match="directions of width 5, and hidden states have 8"):
        run(files, tmp_path / "out", direction_files=(path,))


def test_a_damaged_state_is_refused(files, tmp_path, monkeypatch):
    original = LatentOptimiser.step
    monkeypatch.setattr(LatentOptimiser, "step", lambda self: original(self) if self.iteration < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(files, tmp_path)
    (state,) = tmp_path.glob("*/*_state.safetensors")
    state.write_bytes(state.read_bytes()[:-4])
    with pytest.raises(BadCheckpoint, match="delete increase_hidden_2_state.safetensors"):
        run(files, tmp_path)


def test_spherical_latents_stay_on_the_sphere(tmp_path):
    save_toy_files(tmp_path, end_bias=-9.0, latent="sphere")
    directory = run(tmp_path, tmp_path / "out", pictures=True, data_dir=tmp_path / "store")
    found = latents(directory)
    for z in found.values():
        torch.testing.assert_close(z.norm(dim=1), torch.ones(2))
    assert not torch.equal(found["start"], found["optimised"])
    assert numbers(directory)["targets"]["increase_hidden_2"]["arms"]["optimised"]["percentile"] is None


def test_the_run_names_what_it_read(files, base):
    ids = numbers(base)["ids"]
    assert ids["world_model_file"] == file_id(files / "model.safetensors")
    assert load_checkpoint(base / "increase_hidden_2.safetensors")[1]["target"] == "increase_hidden_2"


def test_a_place_is_the_state_after_the_moment(files):
    store = Rollouts.open(files / "many")
    place = moments_place(store, ("0:1", "3:0"))["moments"]
    after = [store.episode(0)["hidden"][2], store.episode(3)["hidden"][1]]
    np.testing.assert_allclose(place.centre, np.mean(after, 0), rtol=1e-6)
    assert moments_place(store, ()) == {}
