"""Creates environments from a config, and resolves which game an agent plays."""

import logging
from dataclasses import replace

from common.runs import UsageError
from envs.blink import BlinkVecEnv
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv, described_game
from envs.random_coin import RandomCoinVecEnv


def make_env(
    num: int, config: ProcgenConfig, seed: int = 0, num_threads: int = 2
) -> ProcgenVecEnv | RandomCoinVecEnv | BlinkVecEnv:
    """Creates `num` environments; `seed` determines level draws, and levels alone determine CoinRun-blink's
    blanks and the places of random coins.
    """
    env = ProcgenVecEnv(num, config, seed, num_threads)
    env = RandomCoinVecEnv(env) if config.random_coin else env
    return BlinkVecEnv(env) if config.blink else env


OPTIONS = ("env_name", "distribution_mode", "use_backgrounds", "paint_vel_info", "blink", "random_coin")
"""Flags that select the game and how it is drawn; left out (None), each is the agent's own."""


def game_of(flags, own: dict, **levels: int) -> ProcgenConfig:
    """The game that an agent plays: its own, with the options that flags override; logs those that differ.

    Args:
        flags: object with every name in OPTIONS.
        own: the `env` of the agent's description, or None.
        levels: num_levels and start_level, in place of the agent's own.

    Raises:
        UsageError: this version does not have the game.
    """
    asked = {name: getattr(flags, name) for name in OPTIONS if getattr(flags, name) is not None}
    try:
        trained = replace(ProcgenConfig(), **(own | {"use_sequential_levels": False}))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the agent's file describes a game that this version does not have ({error}): take"
            " another checkpoint"
        ) from error
    config = replace(trained, **asked, **levels)
    changed = [
        f"{name} = {value}, not {getattr(trained, name)}"
        for name, value in asked.items()
        if own and value != getattr(trained, name)
    ]
    if changed:
        logging.info("the agent plays otherwise than it was trained: %s", "; ".join(changed))
    return config


def game_of_recording(env: dict | None, source: str) -> ProcgenConfig:
    """The game of a recording's description, all its levels. Raises UsageError if it is none of Procgen's."""
    if (env or {}).get("env_name") not in GAMES:
        raise UsageError(f"{source} was not recorded in a game of Procgen, which this command plays")
    return replace(described_game(env, source), num_levels=0, start_level=0)
