"""The split of a store's layouts into train, validation and test."""

import hashlib

import numpy as np

from common.progress import progress_bar
from envs.layouts import first_states, layout_hash
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv, described_game
from rollouts.store import Rollouts

HELD_OUT = {"validation": 0.05, "test": 0.05}
"""Fraction of the layouts in each held-out part."""
SPLIT_VERSION = 2
"""Version of the split; world models and their scores record it. 2: by layout, the tile grid. 1: by grid and
entities in CoinRun and by level seed in other games, so that some held-out levels had the grid of a training
level.
"""
_SLOTS = 64
"""Environments that open levels together."""


def episode_layouts(rollouts: Rollouts) -> np.ndarray:
    """The layout of every episode of a store, [E] str: `layout_hash` of its level, which levels with
    different seeds share.

    A store of another game than Procgen's has no tile grid; there it is the level seed. Opens every level
    once, which takes a millisecond each.
    """
    levels, index = np.unique(rollouts.episodes["level_seed"], return_inverse=True)
    game = rollouts.manifest.get("env", {})
    if game.get("env_name") not in GAMES:
        return levels.astype(str)[index]
    return level_layouts(levels, described_game(game, "the store"))[index]


def level_layouts(levels: np.ndarray, game: ProcgenConfig) -> np.ndarray:
    """The layout of each level seed [n] of a game, [n] str."""
    env = ProcgenVecEnv(min(_SLOTS, len(levels)), game)
    states = progress_bar(first_states(env, levels.tolist()), total=len(levels), unit="level", desc="layouts")
    hashes = np.array([layout_hash(state) for state in states])
    env.close()
    return hashes


def training_layouts(game: dict) -> np.ndarray:
    """Layouts of the levels that an agent was trained on, from the description of its game; none if it was
    trained on all levels.
    """
    config = described_game(game, "the agent")
    levels = config.start_level + np.arange(config.num_levels)
    return np.unique(level_layouts(levels, config)) if len(levels) else levels.astype(str)


def split_by_layout(layouts: np.ndarray) -> np.ndarray:
    """The part of each layout [n]: 'train', 'validation' or 'test', 90 : 5 : 5, by a hash of its name.

    The hash makes every run, store and report agree on the split.
    """
    edges = np.cumsum(list(HELD_OUT.values()))
    return np.array([*HELD_OUT, "train"])[np.searchsorted(edges, layout_scores(layouts), side="right")]


def layout_scores(layouts: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each layout [n], uniform over layouts: a hash of its name."""
    unique, index = np.unique(np.asarray(layouts).astype(str), return_inverse=True)
    score = np.array([int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32 for name in unique])
    return score[index]
