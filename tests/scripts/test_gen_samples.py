"""Simulated rollouts: their content, their source episodes, and independence of batching."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

import record_gen_samples
from agents.actor_critic import save_agent
from analysis.rendering.action_grid import grid_layout
from common.checkpoints import BadCheckpoint
from common.cli import parse
from common.runs import UsageError
from common.video import read_video
from generative.noise_keys import NoiseKeys
from generative.simulator_file import load_simulator
from rollouts.store import Rollouts
from tests.helpers.toy_simulator import NAMES, save_toy_files
from tests.helpers.toy_world import toy_agent

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An agent, a store that it recorded, and an untrained world model whose episodes often end."""
    path = tmp_path_factory.mktemp("made")
    save_toy_files(path)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(made, **changed):
    """Records with the given flags and returns the store's directory."""
    given = dict(num_samples=10, num_sim_steps=6, batch_size=4, device="cpu", log_level=40) | changed
    args = record_gen_samples.Args(
        made / "model.safetensors", made / "agent.safetensors", made / "store", **given
    )
    record_gen_samples.main(args)
    kind = (
        "manual_actions"
        if args.manual_actions or args.action_grid
        else "rand_init"
        if args.rand_init
        else "informed_init"
    )
    return args.out_dir or Path("results/simulated") / kind


def test_several_jobs_make_the_store_of_one(made):
    alone = Rollouts.open(record(made, out_dir=Path("alone")))
    for job in (1, 2, 0):
        record(made, out_dir=Path("together"), job=(job, 3))
        assert len(list(Path("together").glob("shard_*.h5"))) == {1: 1, 2: 2, 0: 3}[job]
    assert Rollouts.open(Path("together")).id == alone.id


def test_informed_samples_are_linked_to_the_frames_that_they_began_from(made):
    store = Rollouts.open(record(made))
    real = Rollouts.open(made / "store")
    simulator, _ = load_simulator(made / "model.safetensors", made / "agent.safetensors")
    assert len(store) == 10
    assert store.episodes["id"].tolist() == list(range(10))
    assert len(store.entries) == 3
    source = np.stack([store.episodes["source_episode"], store.episodes["source_step"]], 1)
    assert len(np.unique(source, axis=0)) == 10
    assert (source[:, 1] >= 2).all()
    assert (source[:, 1] < real.episodes["length"][source[:, 0]]).all()
    for i in (0, 5, 9):
        episode, step = source[i]
        frames = torch.from_numpy(real.episode(episode)["obs"][step - 2 : step + 1])[:, None]
        keys = NoiseKeys(0, np.array([i]))
        with torch.no_grad():
            latent = simulator.encode(frames)
            z = latent.sample(keys.normal(latent.mean.shape[1], latent.mean))
        torch.testing.assert_close(torch.from_numpy(store.episodes["latent"][i]), z[0], rtol=1e-4, atol=1e-4)
        again = simulator.simulate(z, 6, keys)
        kept = store.episode(i)
        length = store.episodes["length"][i]
        assert again.mask.sum() == length
        assert np.abs(again.obs[:length, 0].numpy().astype(int) - kept["obs"]).max() <= 1
        np.testing.assert_array_equal(again.action[:length, 0], kept["action"])
        np.testing.assert_allclose(again.hidden[: length + 1, 0], kept["hidden"], rtol=1e-3, atol=1e-4)
        # stored in float16
        np.testing.assert_allclose(
            again.extra["env_state"][:length, 0], kept["env_state"], rtol=1e-3, atol=2e-3
        )
        for name in ("done_prob", "reward_prob"):
            np.testing.assert_allclose(again.extra[name][:length, 0], kept[name], rtol=1e-3, atol=1e-4)


def test_episodes_end_where_the_model_says_or_are_cut_at_the_horizon(made):
    store = Rollouts.open(record(made, num_samples=40, batch_size=20))
    ends = store.episodes["end"]
    lengths = store.episodes["length"]
    assert set(ends) == {"terminated", "cut"}
    assert (lengths[ends == "cut"] == 6).all()
    assert lengths.min() < 6
    earned = [store.episode(i)["reward_prob"][-1] > 0.5 for i in range(len(store))]
    assert np.array_equal(store.episodes["complete"], (ends == "terminated") & np.array(earned))
    modal = Rollouts.open(record(made, sampling="modal", out_dir=Path("modal")))
    for i in range(len(modal)):
        done = modal.episode(i)["done_prob"] > 0.5
        assert not done[:-1].any()
        assert done[-1] == (modal.episodes["end"][i] == "terminated")


def test_random_latents_are_normal_and_have_no_source(made):
    store = Rollouts.open(record(made, rand_init=True, num_samples=200, num_sim_steps=1, batch_size=100))
    latent = store.episodes["latent"]
    assert abs(latent.mean()) < 0.06
    assert abs(latent.std() - 1) < 0.06
    assert (store.episodes["source_episode"] == -1).all()
    assert (store.episodes["source_step"] == -1).all()
    assert store.manifest["simulated"]
    assert store.manifest["inputs"]["data_dir"] is None


def test_every_flag_changes_what_is_recorded(made):
    base = Rollouts.open(record(made, num_samples=8, out_dir=Path("base")))
    changes = [
        dict(seed=1),
        dict(sampling="modal"),
        dict(greedy=True),
        dict(num_sim_steps=3),
        dict(rand_init=True),
        dict(num_samples=7),
    ]
    changes += [dict(manual_actions=("left",)), dict(action_grid=True), dict(env_state="float32")]
    for i, change in enumerate(changes):
        other = Rollouts.open(record(made, **{"num_samples": 8, "out_dir": Path(str(i))} | change))
        assert other.id != base.id, change
    assert set(Rollouts.open(Path("2")).episodes["behaviour"]) == {"greedy"}
    same = Rollouts.open(record(made, num_samples=8, out_dir=Path("same")))
    assert same.id == base.id


def test_the_environments_state_is_stored_as_asked(made):
    many = dict(rand_init=True, num_samples=200, batch_size=200)  # the file around them takes room too
    whole = Rollouts.open(record(made, env_state="float32", out_dir=Path("whole"), **many))
    half = Rollouts.open(record(made, out_dir=Path("half"), **many))
    none = Rollouts.open(record(made, env_state="none", out_dir=Path("none"), **many))
    assert whole.steps("env_state").dtype == np.float32
    assert np.abs(whole.steps("env_state")).max() > 0.1
    np.testing.assert_array_equal(half.steps("env_state"), whole.steps("env_state").astype(np.float16))
    assert "env_state" not in none.step_fields
    assert "env_state" not in none.windows(3).batch([0]).extra
    bytes_per_step = [store.entries[0]["data"]["bytes"] / store.num_steps for store in (whole, half, none)]
    assert bytes_per_step[0] - bytes_per_step[1] > 20 < bytes_per_step[1] - bytes_per_step[2]


def test_named_actions_are_taken_in_turn_and_the_agent_looks_on(made):
    store = Rollouts.open(record(made, manual_actions=("left", "up", "up"), num_sim_steps=7))
    assert store.path == Path("results/simulated/manual_actions")
    assert set(store.episodes["behaviour"]) == {"manual: left up up"}
    for i in range(len(store)):
        episode = store.episode(i)
        assert episode["action"].tolist() == [2, 0, 0, 2, 0, 0, 2][: len(episode["action"])]
        assert not episode["log_prob"].any()
        assert episode["logits"].std() > 0
    greedy = Rollouts.open(record(made, greedy=True, out_dir=Path("greedy")))
    assert not greedy.steps("log_prob").any()


def test_the_grid_holds_every_act_from_the_same_start_under_the_same_noise(made):
    store = Rollouts.open(record(made, action_grid=True, num_samples=3, batch_size=4))
    assert len(store) == 15
    assert store.episodes["behaviour"][0] == "manual: " + " or ".join(NAMES)
    source = np.stack([store.episodes["source_episode"], store.episodes["source_step"]], 1)
    for start in range(3):
        episodes = [store.episode(5 * start + k) for k in range(5)]
        assert all((episode["action"] == k).all() for k, episode in enumerate(episodes))
        assert (source[5 * start : 5 * start + 5] == source[5 * start]).all()
        shown = np.stack([episode["obs"][0] for episode in episodes])
        assert np.abs(shown.astype(int) - shown[0]).max() <= 1  # batches of other sizes round otherwise
        latent = store.episodes["latent"][5 * start : 5 * start + 5]
        np.testing.assert_allclose(latent, np.broadcast_to(latent[0], latent.shape), rtol=1e-4, atol=1e-4)
        video, _ = read_video(store.path / "videos" / f"grid_manual_actions_{start:05d}.mp4")
        assert len(video) == max(len(episode["action"]) for episode in episodes)
    assert len(np.unique(source, axis=0)) == 3
    later = [store.episode(k)["obs"][1] for k in range(5) if store.episodes["length"][k] > 1]
    assert len({frame.tobytes() for frame in later}) == len(later) > 1


def test_acts_stand_where_they_point():
    eight = ["down-left", "left", "up-left", "down", "none", "up", "down-right", "right", "up-right"]
    assert grid_layout(eight) == ([2, 5, 8, 1, 4, 7, 0, 3, 6], 3)
    assert grid_layout(["right", "none"]) == ([None, None, None, None, 1, 0, None, None, None], 3)
    assert grid_layout(["left", "key-d", "none"]) == ([0, 1, 2], 2)
    assert grid_layout(list("abcdefghij"))[1] == 4


def test_memory_does_not_grow_with_the_number_of_samples(made, monkeypatch):
    from generative import record as module

    real = module.write_shard
    held = []

    def weighed(*given):
        gc.collect()
        held.append(sum(x.nbytes for x in gc.get_objects() if type(x) is torch.Tensor))
        real(*given)

    monkeypatch.setattr(module, "write_shard", weighed)
    record(made, num_samples=32, batch_size=4)
    assert len(held) == 8
    assert held[-1] <= 1.02 * max(held[:3])


def test_samples_do_not_depend_on_the_batch(made):
    one = Rollouts.open(record(made, out_dir=Path("one"), batch_size=10))
    other = Rollouts.open(record(made, out_dir=Path("other"), batch_size=3))
    assert (len(one.entries), len(other.entries)) == (1, 4)
    np.testing.assert_array_equal(one.episodes["length"], other.episodes["length"])
    np.testing.assert_array_equal(one.steps("action"), other.steps("action"))
    np.testing.assert_allclose(one.steps("hidden"), other.steps("hidden"), rtol=1e-3, atol=1e-4)


def test_an_interrupted_recording_goes_on_to_the_same_bits_and_leaves_whole_shards_alone(made, monkeypatch):
    whole = Rollouts.open(record(made, out_dir=Path("whole")))
    from generative import record as module

    real = module.write_shard
    calls = []

    def stops_at_third(path, index, *rest):
        calls.append(index)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, index, *rest)

    monkeypatch.setattr(module, "write_shard", stops_at_third)
    with pytest.raises(KeyboardInterrupt):
        record(made, out_dir=Path("broken"))
    assert len(Rollouts.open(Path("broken")).entries) == 2
    again = Rollouts.open(record(made, out_dir=Path("broken")))
    assert calls[3:] == [2]
    assert again.id == whole.id


def test_bad_requests_are_refused_in_one_line(made, here):
    for change in (dict(num_samples=0), dict(num_sim_steps=0), dict(batch_size=0)):
        with pytest.raises(UsageError, match="nothing to record"):
            record(made, **change)
    with pytest.raises(UsageError, match="no action 'jump' here; choose from: up, down"):
        record(made, manual_actions=("up", "jump"))
    with pytest.raises(UsageError, match="give one of them"):
        record(made, manual_actions=("up",), greedy=True)
    with pytest.raises(UsageError, match="starting points, and 100000 were asked for"):
        record(made, num_samples=100_000)
    record(made)
    with pytest.raises(UsageError, match="sampling"):
        record(made, seed=3)
    other = toy_agent()
    other.value_head.bias.data += 1
    save_agent(here / "other.safetensors", other, {})
    args = record_gen_samples.Args(
        made / "model.safetensors", here / "other.safetensors", made / "store", num_samples=2, device="cpu"
    )
    with pytest.raises(BadCheckpoint, match="--allow_other_agent"):
        record_gen_samples.main(args)
    args.allow_other_agent = True
    args.out_dir = Path("off")
    record_gen_samples.main(args)
    assert Rollouts.open(Path("off")).manifest["allow_other_agent"]
    assert not Rollouts.open(record(made)).manifest["allow_other_agent"]


def test_the_older_flag_names_are_understood():
    args = parse(
        record_gen_samples.Args,
        words=["--world_model_file", "m", "--agent_file", "a", "--samples_to_record", "5", "--rand_init"],
    )
    assert args.num_samples == 5
    assert args.rand_init
