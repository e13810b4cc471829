"""Frame scores against sums done by hand on a toy world."""

import numpy as np
import pytest
import torch
from toy_world import NOOP, toy_agent, toy_config, toy_episode, with_agent, write_toy_store

from analysis.frame_scores import frame_scores, open_loop_frames
from generative.model import WorldModel
from generative.simulator import Simulator

K, STEPS = 3, 5


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A simulator, untrained, and windows of toy play, some of which end early."""
    torch.manual_seed(0)
    agent, rng = toy_agent(), np.random.default_rng(0)
    episodes = [with_agent(toy_episode(rng, 9), agent) for _ in range(12)]
    store = write_toy_store(tmp_path_factory.mktemp("toy") / "store", episodes, agent)
    windows = store.windows(K + STEPS - 1, anchor="start", pad="right", min_steps=K)
    return Simulator(WorldModel(toy_config()), agent, NOOP), windows.batch(np.arange(len(windows)))


def pooled(real, frames, mask):
    """PSNR of all frames at a step together, pixel by pixel."""
    out = []
    for step in range(len(real)):
        errors = [((frames[step, b].numpy() / 255 - real[step, b].numpy() / 255.0) ** 2) for b in np.flatnonzero(mask[step])]
        out.append(np.mean(errors))
    with np.errstate(divide="ignore"):
        return -10 * np.log10(out)


def test_scores_pool_errors_over_the_frames_that_exist(scored):
    simulator, segment = scored
    scores = frame_scores(simulator, segment)
    real, mask = segment.obs[K - 1 :], segment.mask[K - 1 :]
    assert scores.n.tolist() == mask.sum(1).tolist() and scores.n[-1] < scores.n[0] == scores.windows
    assert np.isinf(scores.psnr["copy of the last seen frame"][0])
    copies = pooled(real, real[:1].expand_as(real), mask)[1:]
    np.testing.assert_allclose(scores.psnr["copy of the last seen frame"][1:], copies, rtol=1e-5)
    open_loop = open_loop_frames(simulator, segment, 0)
    np.testing.assert_allclose(scores.psnr["open loop"], pooled(real, open_loop, mask), rtol=1e-5)
    everywhere = pooled(real, open_loop, torch.ones_like(mask))
    assert not np.allclose(scores.psnr["open loop"], everywhere, rtol=1e-3)  # frames after an end would count


def test_open_loop_follows_the_recorded_actions_and_the_seed(scored):
    simulator, segment = scored
    frames = open_loop_frames(simulator, segment, 0)
    other = segment.to("cpu")
    other.action = (segment.action + 1) % 5
    assert not torch.equal(frames[1:], open_loop_frames(simulator, other, 0)[1:])
    assert not torch.equal(frames, open_loop_frames(simulator, segment, 1))
    assert torch.equal(frames, open_loop_frames(simulator, segment, 0))
