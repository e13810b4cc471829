"""An environment from its config: Procgen, wrapped where the config asks for it. And which config an agent is
to play.
"""

import logging
from dataclasses import replace

from common.runs import UsageError
from envs.blink import BlinkVecEnv
from envs.procgen import ProcgenConfig, ProcgenVecEnv


def make_env(
    num: int, config: ProcgenConfig, seed: int = 0, num_threads: int = 2
) -> ProcgenVecEnv | BlinkVecEnv:
    """`num` environments; level draws are pinned by `seed`, and the blanks of CoinRun-blink by the level
    alone.
    """
    env = ProcgenVecEnv(num, config, seed, num_threads)
    return BlinkVecEnv(env) if config.blink else env


OPTIONS = ("env_name", "distribution_mode", "use_backgrounds", "paint_vel_info", "blink")
"""The flags of every script that lets an agent play: the game, and how it is made and drawn. Left out (None),
each is the agent's own.
"""


def game_of(flags, own: dict, **levels: int) -> ProcgenConfig:
    """The game that an agent is to play: its own, with the OPTIONS that `flags` asks for in place of its own
    ones.

    flags: has every name in OPTIONS. own: the `env` of the agent's description, or nothing. levels:
    num_levels and start_level, in place of the agent's own. An option that is not the agent's own is said in
    one line. Raises UsageError.
    """
    asked = {name: getattr(flags, name) for name in OPTIONS if getattr(flags, name) is not None}
    try:
        trained = replace(ProcgenConfig(), **(own | {"use_sequential_levels": False}))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the agent's file describes a game that this version does not have ({error}): take another checkpoint"
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
