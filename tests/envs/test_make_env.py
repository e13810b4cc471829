"""Creating environments from a config, and resolving which game an agent plays."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from common.runs import UsageError
from envs.make import OPTIONS, game_of, make_env
from envs.procgen import ProcgenConfig


@pytest.mark.parametrize("blink", [False, True])
def test_blink_blanks_frames_and_nothing_else(blink):
    env = make_env(4, ProcgenConfig(blink=blink), seed=3)
    plain = make_env(4, ProcgenConfig(), seed=3)
    blank = []
    for _ in range(60):
        (reward, obs, first), (plain_reward, plain_obs, plain_first) = env.observe(), plain.observe()
        dark = ~obs.any(axis=(1, 2, 3))
        assert (obs[~dark] == plain_obs[~dark]).all()
        assert (reward == plain_reward).all()
        assert (first == plain_first).all()
        blank.append(dark)
        env.act(np.full(4, 7))
        plain.act(np.full(4, 7))
    assert np.any(blank) == blink


OWN = vars(
    ProcgenConfig(
        "jumper", 200, 7, "hard", use_backgrounds=True, center_agent=False, use_sequential_levels=True
    )
)
OTHER = {
    "env_name": "maze",
    "distribution_mode": "easy",
    "use_backgrounds": False,
    "paint_vel_info": True,
    "blink": True,
}


def asked(**flags):
    return SimpleNamespace(**(dict.fromkeys(OPTIONS) | flags))


def test_left_out_options_are_the_agents_own(caplog):
    caplog.set_level(logging.INFO)
    own = ProcgenConfig(**(OWN | {"use_sequential_levels": False}))  # an episode is one level
    assert game_of(asked(), OWN) == own
    assert game_of(asked(), {}) == ProcgenConfig()
    assert not caplog.text
    assert vars(game_of(asked(), OWN, num_levels=0, start_level=3)) == vars(own) | {
        "num_levels": 0,
        "start_level": 3,
    }
    assert game_of(asked(env_name="maze"), {}).env_name == "maze"
    assert not caplog.text


def test_a_random_coin_moves_coins_and_can_be_asked_for_in_coinrun_alone():
    (moved, plain) = (make_env(16, game_of(asked(random_coin=on), {}, num_levels=50)) for on in (True, False))
    grids = [env.symbols().grid for env in (moved, plain)]
    assert (grids[0] != grids[1]).any((1, 2)).mean() > 0.2
    with pytest.raises(UsageError, match="random_coin moves the coin of coinrun, and jumper has none"):
        game_of(asked(random_coin=True), OWN)


@pytest.mark.parametrize("option", OTHER)
def test_each_option_can_be_asked_for_and_a_difference_is_said(option, caplog):
    caplog.set_level(logging.INFO)
    same = game_of(asked(**{option: OWN[option]}), OWN)
    assert not caplog.text
    other = game_of(asked(**{option: OTHER[option]}), OWN)
    assert vars(other) == vars(same) | {option: OTHER[option]}
    assert [record.getMessage() for record in caplog.records] == [
        f"the agent plays otherwise than it was trained: {option} = {OTHER[option]}, not {OWN[option]}"
    ]


def test_several_differences_are_one_line(caplog):
    caplog.set_level(logging.INFO)
    game_of(asked(**OTHER), OWN)
    assert len(caplog.records) == 1
    assert caplog.text.count(";") == len(OTHER) - 1


@pytest.mark.parametrize("own", [{"gravity": 2}, {"env_name": "pong"}, "coinrun"])
def test_a_description_of_another_version_is_named(own):
    with pytest.raises(
        UsageError, match="describes a game that this version does not have .* take another checkpoint"
    ):
        game_of(asked(), own)
