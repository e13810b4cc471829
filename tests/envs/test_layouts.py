"""A layout is the tile grid; where all levels share one grid, it is the grid with the entities."""

import numpy as np
import pytest

from envs import coinrun
from envs.layouts import OPEN_FIELD_GAMES, first_states, layout_hash
from envs.procgen import GAMES, ProcgenConfig, ProcgenVecEnv
from envs.procgen_body import State, parse, serialize

LEVELS = np.arange(3000, 3512)


def states(game: str, levels, **options) -> list[State]:
    env = ProcgenVecEnv(64, ProcgenConfig(env_name=game, **options), num_threads=0)
    found = list(first_states(env, levels))
    env.close()
    return found


@pytest.fixture(scope="module")
def easy() -> list[State]:
    return states("coinrun", LEVELS)


@pytest.mark.parametrize(
    "looks", ["use_backgrounds", "restrict_themes", "use_monochrome_assets", "paint_vel_info"]
)
def test_looks_do_not_change_layouts(looks, easy):
    others = states("coinrun", LEVELS[:64], **{looks: True})
    assert all(layout_hash(state) == layout_hash(other) for state, other in zip(easy, others))


def test_layouts_repeat_where_levels_are_short_and_rarely_else(easy):
    names = np.array([layout_hash(state) for state in easy])
    difficulty = coinrun.difficulty(LEVELS)
    repeats = [1 - len(set(names[difficulty == d])) / (difficulty == d).sum() for d in (1, 2, 3)]
    assert repeats[0] > 0.9
    assert repeats[1] < 0.2
    assert repeats[2] < 0.01


@pytest.fixture
def edited(easy):
    """Copies of a CoinRun level and of one of bossfight, with what an edit of each changes."""
    return {
        "coinrun": next(state for state in easy if len(state.entities) > 4),
        "bossfight": states("bossfight", [3000])[0],
    }


@pytest.mark.parametrize("game", ["coinrun", "bossfight"])
def test_seed_colours_and_order_are_no_part_of_a_layout(game, edited):
    same = parse(serialize(edited[game]))
    same.entities["image_theme"] = 0
    same.entities[1:] = same.entities[:0:-1]
    same.header["current_level_seed"], same.scene["background_index"] = 1, 1
    assert layout_hash(same) == layout_hash(edited[game])


@pytest.mark.parametrize("game", ["coinrun", "bossfight"])
def test_a_tile_is_part_of_every_layout(game, edited):
    other = parse(serialize(edited[game]))
    other.grid[2, 3] += 1
    assert layout_hash(other) != layout_hash(edited[game])


@pytest.mark.parametrize(("game", "counts"), [("coinrun", False), ("bossfight", True)])
def test_an_entity_is_part_of_a_layout_in_open_fields_only(game, counts, edited):
    moved = parse(serialize(edited[game]))
    fewer = parse(serialize(edited[game]))
    moved.entities["x"][1] += 1
    fewer.entities = fewer.entities[:-1]
    for other in (moved, fewer):
        assert (layout_hash(other) != layout_hash(edited[game])) == counts


@pytest.mark.parametrize("game", GAMES)
def test_grids_tell_levels_apart_in_all_games_but_open_fields(game):
    grids = [state.grid.tobytes() for state in states(game, range(128))]
    assert (len(set(grids)) < 0.1 * len(grids)) == (game in OPEN_FIELD_GAMES)
    assert (len(set(grids)) > 0.6 * len(grids)) == (game not in OPEN_FIELD_GAMES)


@pytest.mark.parametrize("game", GAMES)
def test_layouts_tell_levels_apart_in_every_game(game):
    names = [layout_hash(state) for state in states(game, range(128))]
    assert len(set(names)) > 0.6 * len(names)
