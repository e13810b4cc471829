"""Prints which of the fifteen actions of each Procgen game have the same effect: the table in
envs/procgen.py.

    python benchmarks/measure_effect_classes.py [--games coinrun ninja] [--modes easy hard] [--points 200]

All games at 200 forked states each in two modes take about a minute on one core.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    games: tuple[str, ...] = ()
    """Games to measure; default: all sixteen."""
    modes: tuple[str, ...] = ("easy", "hard")
    """Distribution modes, pooled."""
    points: int = 200
    """Forked states per game and mode."""
    seed: int = 0
    """Seed of levels and play."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.errors import UsageError
from envs.effects import differ, effect_classes, fork_points
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv, action_space

POINTS_AT_ONCE = 8


def measure(game: str, modes: Sequence[str], points: int, seed: int) -> tuple[int, ...]:
    """Effect classes, pooled over the modes."""
    space = action_space(game)
    actions = len(space.names)
    different = np.zeros((actions, actions), bool)
    for mode in modes:
        config = ProcgenConfig(env_name=game, distribution_mode=mode)
        env = ProcgenVecEnv(POINTS_AT_ONCE * actions, config, seed, num_threads=0)
        different |= differ(env, fork_points(config, points, seed), seed)
        env.close()
    return effect_classes(different, space.names, space.noop)


def main(args: Args) -> None:
    if args.points < 1 or not args.modes:
        raise UsageError("a measurement takes 1 or more --points and one or more --modes")
    games = args.games or tuple(GAMES)
    for game in games:
        for mode in args.modes:
            ProcgenConfig(game, distribution_mode=mode)  # refuses what there is not, before any work
    for game in games:
        classes = measure(game, args.modes, args.points, args.seed)
        verdict = "as in the table" if classes == action_space(game).effect_classes else "NOT as in the table"
        print(f'    "{game}": {classes},  # {len(set(classes))} acts, {verdict}', flush=True)


if __name__ == "__main__":
    run_main(main, ARGS)
