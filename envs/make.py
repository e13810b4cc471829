"""An environment from its config: Procgen, wrapped where the config asks for it."""

from envs.blink import BlinkVecEnv
from envs.procgen import ProcgenConfig, ProcgenVecEnv


def make_env(num: int, config: ProcgenConfig, seed: int = 0, num_threads: int = 2) -> ProcgenVecEnv | BlinkVecEnv:
    """`num` environments; level draws are pinned by `seed`, and the blanks of CoinRun-blink by the level alone."""
    env = ProcgenVecEnv(num, config, seed, num_threads)
    return BlinkVecEnv(env) if config.blink else env
