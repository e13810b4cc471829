"""Frame scores against sums done by hand on a toy world, and cameras against those of CoinRun's scenes."""

import numpy as np
import pytest
import torch

from agents.behaviours import make_behaviour
from analysis.model_eval.camera import Camera
from analysis.model_eval.frame_scores import compute_mean_frame, frame_errors, frame_scores, replay_cameras
from analysis.model_eval.ground_truth import baselines, frames_truth, pixel_errors
from analysis.model_eval.predictions import open_loop
from envs.make import make_env
from envs.procgen import ProcgenConfig, action_space
from generative.model.world_model import WorldModel
from generative.simulator import Simulator
from rollouts.play import EpisodeSpec
from rollouts.record import Actor, play_shard
from rollouts.store import Rollouts, create_store, write_shard
from tests.helpers.toy_world import NOOP, toy_agent, toy_config, toy_episode, with_agent, write_toy_store

K = 3
STEPS = 5


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A simulator, untrained, windows of toy play, some of which end early, and a camera that never moves."""
    torch.manual_seed(0)
    agent = toy_agent()
    rng = np.random.default_rng(0)
    episodes = [with_agent(toy_episode(rng, 9), agent) for _ in range(12)]
    store = write_toy_store(tmp_path_factory.mktemp("toy") / "store", episodes, agent)
    windows = store.windows(K + STEPS - 1, anchor="start", pad="right", min_steps=K)
    segment = windows.batch(np.arange(len(windows)))
    size = segment.obs.shape[2]
    still = Camera(*(np.full(segment.mask.shape, x, float) for x in (0.0, 0.0, 1.0, size)))
    return Simulator(WorldModel(toy_config()), agent, NOOP), segment, still


def pooled(real, frames, mask):
    """PSNR of all frames at a step together, pixel by pixel."""
    out = []
    for step in range(len(real)):
        errors = [
            ((frames[step, b].numpy() / 255 - real[step, b].numpy() / 255.0) ** 2)
            for b in np.flatnonzero(mask[step])
        ]
        out.append(np.mean(errors))
    with np.errstate(divide="ignore"):
        return -10 * np.log10(out)


def values(scores):
    return np.array([np.nan if score["value"] is None else score["value"] for score in scores])


def test_scores_pool_errors_over_the_frames_that_exist(scored):
    simulator, segment, still = scored
    errors = frame_errors({"ours": simulator}, segment, still, compute_mean_frame(segment))
    scores = frame_scores(errors, np.arange(segment.mask.shape[1]) // 3)
    real = segment.obs[K - 1 :]
    mask = segment.mask[K - 1 :]
    assert [score["n"] for score in scores["whole"]["copy"]] == mask.sum(1).tolist()
    assert mask.sum(1)[-1] < mask.sum(1)[0]
    copies = pooled(real, real[:1].expand_as(real), mask)[1:]
    np.testing.assert_allclose(values(scores["whole"]["copy"])[1:], copies, rtol=1e-5)
    drawn = open_loop(simulator, segment, 0).obs
    np.testing.assert_allclose(
        values(scores["whole"]["ours/open_loop"]), pooled(real, drawn, mask), rtol=1e-5
    )
    everywhere = pooled(real, drawn, torch.ones_like(mask))
    assert not np.allclose(
        values(scores["whole"]["ours/open_loop"]), everywhere, rtol=1e-3
    )  # frames after an end would count


def test_under_a_still_camera_the_shifted_copy_is_the_copy_and_every_pixel_is_seen(scored):
    simulator, segment, still = scored
    errors = frame_errors({"ours": simulator}, segment, still, compute_mean_frame(segment))
    np.testing.assert_array_equal(errors["error/shifted_copy"], errors["error/copy"])
    scores = frame_scores(errors, np.arange(segment.mask.shape[1]))
    np.testing.assert_allclose(
        values(scores["seen"]["mean_frame"]), values(scores["whole"]["mean_frame"]), atol=6
    )
    assert (errors["seen_pixels"] == segment.obs.shape[2] * segment.obs.shape[3] * errors["alive"]).all()


def test_simulators_that_take_other_first_frames_are_not_compared(scored):
    simulator, segment, still = scored
    other = Simulator(WorldModel(toy_config(num_initializing_steps=K + 1)), simulator.agent, NOOP)
    with pytest.raises(ValueError, match="3, 4"):
        frame_errors({"a": simulator, "b": other}, segment, still, compute_mean_frame(segment))


@pytest.fixture(scope="module")
def ninja(tmp_path_factory):
    """One episode of random play in a game without a reader of its states."""
    path = tmp_path_factory.mktemp("ninja") / "store"
    config = ProcgenConfig("ninja")
    actions = action_space("ninja")
    about = {
        "num_actions": 15,
        "action_names": actions.names,
        "noop": actions.noop,
        "hidden_size": 0,
        "env": vars(config),
    }
    policy = make_behaviour(None, "random", actions=actions)
    about["hidden_size"] = policy.hidden(policy.initial_state(1)).shape[1]
    create_store(path, about)
    env = make_env(1, config)
    write_shard(path, 0, *play_shard(env, Actor(policy, "random", "none"), [EpisodeSpec(3, 0)], 0))
    env.close()
    return Rollouts.open(path)


def test_the_camera_of_any_game_predicts_where_the_picture_moves(ninja):
    length = 12
    table = ninja.windows(length, anchor="start", pad="none")
    segment = table.batch(np.arange(0, len(table), max(len(table) // 8, 1)))
    camera = replay_cameras(ninja, segment)
    assert camera.x_off.shape == (length, segment.mask.shape[1])
    moved = (np.abs(camera.x_off[-1] - camera.x_off[2]) + np.abs(camera.y_off[-1] - camera.y_off[2])) > 3
    assert moved.any()
    errors = _floors_only(segment, camera)
    assert (
        errors["seen_error/shifted_copy"][-1][moved].sum() < 0.8 * errors["seen_error/copy"][-1][moved].sum()
    )


def _floors_only(segment, camera):
    truth = frames_truth(segment, camera, K)
    predicted = baselines(
        truth, segment.obs[:K].numpy(), compute_mean_frame(segment), np.zeros(segment.mask.shape[1], np.int64)
    )
    return {
        f"seen_error/{name}": pixel_errors(predicted[name], truth)[1] for name in ("copy", "shifted_copy")
    }
