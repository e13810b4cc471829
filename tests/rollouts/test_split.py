"""No held-out level has the layout of a training level, and earlier splits are seen to fail this."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from envs.layouts import first_states, geometry_hash, layout_hash
from envs.procgen import ProcgenConfig, ProcgenVecEnv
from rollouts import split
from rollouts.split import HELD_OUT, episode_layouts, split_by_layout
from tests.helpers.made_store import make_store

LEVELS = np.arange(10_000, 11_000)
GRID_GAMES = ("coinrun", "ninja", "maze")


def store_of(game: str, seeds):
    """As much of a store as its layouts need."""
    return SimpleNamespace(
        episodes={"level_seed": np.asarray(seeds)}, manifest={"env": vars(ProcgenConfig(env_name=game))}
    )


def grids(game: str) -> list[bytes]:
    """The tile grid of every level, from an environment of its own."""
    env = ProcgenVecEnv(1, ProcgenConfig(env_name=game), num_threads=0)
    found = [state.grid.tobytes() for state in first_states(env, LEVELS.tolist())]
    env.close()
    return found


def shared_with_training(parts, grid: list[bytes]) -> int:
    """How many held-out levels have the grid of a training level."""
    training = {tiles for part, tiles in zip(parts, grid) if part == "train"}
    return sum(part != "train" and tiles in training for part, tiles in zip(parts, grid))


@pytest.mark.parametrize("game", GRID_GAMES)
def test_no_held_out_level_has_the_grid_of_a_training_level(game):
    grid = grids(game)
    parts = split_by_layout(episode_layouts(store_of(game, LEVELS)))
    assert shared_with_training(parts, grid) == 0
    for name in HELD_OUT:
        assert len({tiles for part, tiles in zip(parts, grid) if part == name}) >= 20


@pytest.mark.parametrize("game", GRID_GAMES)
def test_a_split_by_seed_would_be_caught(game):
    assert shared_with_training(split_by_layout(LEVELS), grids(game)) >= 10


def test_a_split_by_grid_and_entities_would_be_caught(monkeypatch):
    monkeypatch.setattr(split, "layout_hash", lambda state: geometry_hash(state, with_entities=True))
    parts = split_by_layout(episode_layouts(store_of("coinrun", LEVELS)))
    assert shared_with_training(parts, grids("coinrun")) >= 10


def test_no_held_out_level_begins_like_a_training_level_where_all_grids_are_alike():
    parts = split_by_layout(episode_layouts(store_of("plunder", LEVELS)))
    env = ProcgenVecEnv(1, ProcgenConfig(env_name="plunder"), num_threads=0)
    begins = [state.entities.tobytes() for state in first_states(env, LEVELS.tolist())]
    env.close()
    assert set(parts) == {"train", *HELD_OUT}
    assert shared_with_training(parts, begins) == 0
    assert shared_with_training(split_by_layout(LEVELS), begins) > 0


def test_every_episode_has_the_layout_of_its_level():
    seeds = LEVELS[:40]
    env = ProcgenVecEnv(1, ProcgenConfig(), num_threads=0)
    expected = {seed: layout_hash(state) for seed, state in zip(seeds, first_states(env, seeds.tolist()))}
    env.close()
    assert len(set(expected.values())) < len(seeds)  # different seeds, one place
    shuffled = np.random.default_rng(0).permutation(np.repeat(seeds, 2))
    assert episode_layouts(store_of("coinrun", shuffled)).tolist() == [expected[seed] for seed in shuffled]


@pytest.mark.parametrize("env", [{}, {"env": {"env_name": "toy"}}])
def test_a_game_without_a_grid_is_split_by_level_seed(env, tmp_path):
    store = make_store(tmp_path / "store", [3, 1, 4], [2, 7])
    store.manifest |= env
    assert np.array_equal(episode_layouts(store), store.episodes["level_seed"].astype(str))


def test_the_split_depends_on_the_layout_alone_and_holds_out_a_tenth():
    layouts = np.repeat([f"{i:016x}" for i in range(4000)], 2)
    parts = split_by_layout(layouts)
    assert set(parts) == {"train", "validation", "test"}
    assert (parts[::2] == parts[1::2]).all()
    for name, share in HELD_OUT.items():
        assert abs((parts == name).mean() - share) < 0.015
    assert np.array_equal(split_by_layout(layouts[500:1500]), parts[500:1500])
    assert np.array_equal(split_by_layout(layouts[::-1]), parts[::-1])
    assert np.array_equal(split_by_layout(np.arange(50)), split_by_layout(np.arange(50).astype(str)))
    assert len(split_by_layout(np.array([]))) == 0
    assert split_by_layout(np.array(["a", "f", "0"])).tolist() == [part_of("a"), part_of("f"), part_of("0")]


def part_of(name):
    """The rule once more: the first 4 bytes of the name's SHA-256 as a share of all."""
    score = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8
    return "validation" if score < 0.05 else "test" if score < 0.1 else "train"
