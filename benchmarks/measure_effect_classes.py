"""Prints, for each Procgen game, which of its fifteen actions are the same act: the table in envs/procgen.py, measured.

    python benchmarks/measure_effect_classes.py [--games coinrun ninja] [--modes easy hard] [--points 200]

A minute or so for all games at 200 forked states each in two modes, on one core.
"""

import argparse

import numpy as np

from envs.effects import differ, effect_classes, fork_points
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv, action_space

POINTS_AT_ONCE = 8


def measure(game: str, modes: list[str], points: int, seed: int) -> tuple[int, ...]:
    """Effect classes over all the modes together."""
    space = action_space(game)
    actions = len(space.names)
    different = np.zeros((actions, actions), bool)
    for mode in modes:
        config = ProcgenConfig(env_name=game, distribution_mode=mode)
        env = ProcgenVecEnv(POINTS_AT_ONCE * actions, config, seed, num_threads=0)
        different |= differ(env, fork_points(config, points, seed), seed)
        env.close()
    return effect_classes(different, space.names, space.noop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES), choices=GAMES)
    parser.add_argument("--modes", nargs="+", default=["easy", "hard"])
    parser.add_argument("--points", type=int, default=200, help="forked states per game and mode")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for game in args.games:
        classes = measure(game, args.modes, args.points, args.seed)
        verdict = "as in the table" if classes == action_space(game).effect_classes else "NOT as in the table"
        print(f'    "{game}": {classes},  # {len(set(classes))} acts, {verdict}', flush=True)


if __name__ == "__main__":
    main()
