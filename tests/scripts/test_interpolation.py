"""Paths between latents are straight or great circles, evenly spaced, and can be simulated along."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import interpolation_exp
from common.checkpoints import load_checkpoint
from common.runs import UsageError
from common.video import read_video
from generative import starts
from generative.interpolation import interpolate_latents
from generative.noise_keys import NoiseKeys
from generative.simulator_file import load_simulator
from rollouts.store import Rollouts
from tests.helpers.toy_simulator import save_toy_files


def on_sphere(n, width=16, seed=0):
    x = torch.randn(n, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=-1)


def test_a_straight_path_is_evenly_spaced_on_the_line():
    a, b = on_sphere(2)
    path = interpolate_latents(a, b, 5, spherical=False)
    torch.testing.assert_close(
        path, torch.stack([a, 0.75 * a + 0.25 * b, (a + b) / 2, 0.25 * a + 0.75 * b, b])
    )
    assert path[2].norm() < 0.99
    assert interpolate_latents(torch.stack([a, b]), torch.stack([b, a]), 3, False).shape == (3, 2, 16)


def test_a_great_circle_stays_on_the_sphere_and_turns_evenly():
    a, b = on_sphere(2, seed=3)
    path = interpolate_latents(a, b, 7, spherical=True)
    torch.testing.assert_close(path.norm(dim=-1), torch.ones(7, dtype=torch.float64))
    turns = torch.arccos((path[1:] * path[:-1]).sum(-1))
    torch.testing.assert_close(turns, torch.full_like(turns, (torch.arccos(a @ b) / 6).item()))
    torch.testing.assert_close(path[[0, -1]], torch.stack([a, b]))
    spanned = torch.linalg.svdvals(path)
    assert spanned[2] < 1e-9 < spanned[1]  # in the plane of a and b


def test_great_circle_endpoints_may_coincide_but_not_be_antipodal():
    a = on_sphere(1)[0]
    near = torch.nn.functional.normalize(a + 1e-9 * on_sphere(1, seed=1)[0], dim=-1)
    for b in (a, near):
        path = interpolate_latents(a, b, 4, spherical=True)
        assert torch.isfinite(path).all()
        torch.testing.assert_close(path, a.expand(4, -1), atol=1e-8, rtol=0)
    with pytest.raises(ValueError, match="antipodal"):
        interpolate_latents(a, -a, 4, spherical=True)
    with pytest.raises(ValueError, match="needs 2 or more"):
        interpolate_latents(a, a, 1, spherical=False)


@pytest.fixture(scope="module", params=["gaussian", "sphere"])
def made(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    save_toy_files(path, end_bias=-9.0, latent=request.param)
    return path, request.param


def run(made, out_dir, **changed) -> Path:
    path = made[0]
    given = (
        dict(
            num_pairs=2,
            num_points=3,
            num_sim_steps=4,
            device="cpu",
            out_dir=out_dir,
            rand_init="data_dir" not in changed,
        )
        | changed
    )
    interpolation_exp.main(
        interpolation_exp.Args(path / "model.safetensors", path / "agent.safetensors", **given)
    )
    return max(out_dir.iterdir(), key=lambda run: run.stat().st_mtime_ns)


def test_videos_show_what_is_simulated_along_the_path_that_the_latent_asks_for(made, tmp_path):
    directory = run(made, tmp_path)
    done = json.loads((directory / "done.json").read_text())
    assert done["path"] == {"gaussian": "straight", "sphere": "great circle"}[made[1]]
    assert len(done["pairs"]) == 2
    latents = load_checkpoint(directory / "random_pair_001.safetensors")[0]["latents"]
    torch.testing.assert_close(latents, interpolate_latents(latents[0], latents[2], 3, made[1] == "sphere"))
    simulator, _ = load_simulator(made[0] / "model.safetensors", made[0] / "agent.safetensors")
    out = simulator.simulate(latents, 4, NoiseKeys(0, np.full(3, 1)), greedy=True, use_mode=True)
    frames, fps = read_video(directory / "random_pair_001.mp4")
    assert len(frames) == out.mask.sum(0).max() == max(done["pairs"][1]["length"])
    assert fps == 10
    tile = frames[0, 30 + 26 : 30 + 26 + 16, 6:22].astype(int)
    assert np.abs(tile - out.obs[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()).mean() < 25


def test_the_same_command_is_done_and_every_flag_changes_what_is_made(made, tmp_path):
    first = run(made, tmp_path)
    latents = load_checkpoint(first / "random_pair_000.safetensors")[0]["latents"]
    before = (first / "random_pair_000.mp4").stat().st_mtime_ns
    assert run(made, tmp_path) == first
    assert (first / "random_pair_000.mp4").stat().st_mtime_ns == before
    for change in (dict(seed=1), dict(data_dir=made[0] / "store"), dict(num_points=4)):
        other = run(made, tmp_path / next(iter(change)), **change)
        assert not torch.equal(
            load_checkpoint(next(other.glob("*pair_000.safetensors")))[0]["latents"][:3], latents
        )
    assert (
        json.loads((run(made, tmp_path / "data_dir", data_dir=made[0] / "store") / "done.json").read_text())[
            "pairs"
        ][0]["ends"][0][0]
        >= 0
    )
    assert len(list(run(made, tmp_path / "pairs", num_pairs=3).glob("*.mp4"))) == 3
    longer = json.loads((run(made, tmp_path / "long", num_sim_steps=9) / "done.json").read_text())
    assert max(longer["pairs"][0]["length"]) > 4
    assert read_video(run(made, tmp_path / "fps", fps=5) / "random_pair_000.mp4")[1] == 5
    drawn = run(made, tmp_path / "drawn", stochastic=True)
    videos = [read_video(directory / "random_pair_000.mp4")[0] for directory in (first, drawn)]
    assert np.abs(videos[0].astype(int) - videos[1]).max() > 20
    assert run(made, tmp_path, new=True) != first


def test_paths_end_in_the_data_unless_asked_otherwise_and_random_ends_are_labelled(
    made, tmp_path, monkeypatch
):
    monkeypatch.setattr(starts, "RECORDINGS", made[0])  # the model's training store is there
    rollouts = Rollouts.open(made[0] / "store")
    monkeypatch.setattr(starts.InformedStarts, "source", lambda self, places: np.stack([places, places], 1))
    meta = {"data": rollouts.id}
    assert starts.training_store(meta) == made[0] / "store"
    monkeypatch.setattr(
        interpolation_exp,
        "load_simulator",
        lambda *files, device: (load_simulator(*files, device=device)[0], meta),
    )
    assert {path.name for path in run(made, tmp_path / "data", rand_init=False).glob("*.mp4")} == {
        "pair_000.mp4",
        "pair_001.mp4",
    }
    assert {path.name for path in run(made, tmp_path / "random").glob("*.mp4")} == {
        "random_pair_000.mp4",
        "random_pair_001.mp4",
    }
    assert "random latent" in interpolation_exp.title_of(
        starts.RandomStarts(load_simulator(made[0] / "model.safetensors", made[0] / "agent.safetensors")[0]),
        np.arange(2),
    )
    with pytest.raises(UsageError, match="give one of them"):
        run(made, tmp_path, rand_init=True, data_dir=made[0] / "store")
    monkeypatch.setattr(starts, "RECORDINGS", tmp_path / "none")
    with pytest.raises(UsageError, match="--data_dir, any store .* or --rand_init"):
        run(made, tmp_path, rand_init=False)


def test_a_path_without_points_is_refused(made, tmp_path):
    for change in (
        dict(num_points=1),
        dict(num_pairs=0),
        dict(num_sim_steps=0),
        dict(fps=0.0),
        dict(fps=float("nan")),
    ):
        with pytest.raises(UsageError, match="or more of each|--fps must be a positive number"):
            run(made, tmp_path, **change)
