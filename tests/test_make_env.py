"""An environment from its config."""

import numpy as np
import pytest

from envs.make import make_env
from envs.procgen import ProcgenConfig


@pytest.mark.parametrize("blink", [False, True])
def test_blink_blanks_frames_and_nothing_else(blink):
    env, plain = make_env(4, ProcgenConfig(blink=blink), seed=3), make_env(4, ProcgenConfig(), seed=3)
    blank = []
    for _ in range(60):
        (reward, obs, first), (plain_reward, plain_obs, plain_first) = env.observe(), plain.observe()
        dark = ~obs.any(axis=(1, 2, 3))
        assert (obs[~dark] == plain_obs[~dark]).all() and (reward == plain_reward).all() and (first == plain_first).all()
        blank.append(dark)
        env.act(np.full(4, 7))
        plain.act(np.full(4, 7))
    assert np.any(blank) == blink
