"""Labels of frames: tile maps hold what stands in the state; positions are exact on the edges of tiles."""

import numpy as np
import pytest

from envs.coinrun import COIN, CRATE, ENEMY, PLAYER, SAW
from envs.frame_labels import (
    HAS_SUPPORT,
    ON_CRATE,
    SIDE,
    TILE_KINDS,
    corner_tile,
    frame_labels,
    label_shapes,
    view_position,
)
from envs.make import make_env
from envs.procgen import GAMES, ProcgenConfig
from envs.procgen_body import State, parse, serialize
from envs.symbols import read_symbols

KIND = {name: kind for kind, name in enumerate(TILE_KINDS)}
IN_VIEW = 4  # tiles right of and above the player's


def first_state(game: str = "coinrun", level: int = 12) -> State:
    env = make_env(1, ProcgenConfig(game), num_threads=0)
    env.open_level(0, level)
    (snapshot,) = env.snapshot()
    env.close()
    return parse(snapshot.data)


@pytest.fixture
def state():
    return first_state()


def labels_of(*states: State) -> dict[str, np.ndarray]:
    return frame_labels(read_symbols([serialize(state) for state in states]))


def tile_at(state: State, x: int, y: int) -> str:
    """The labelled kind of the grid cell (x, y), y upwards."""
    labels = labels_of(state)
    row, column = corner_tile(labels["position"], state.scene["unit"])[0]
    return TILE_KINDS[labels["tiles"][0, len(state.grid) - 1 - y - row, x - column]]


def put(state: State, kind: int, x: float, y: float) -> None:
    thing = state.entities[:1].copy()
    thing["type"], thing["x"], thing["y"] = kind, x, y
    state.entities = np.concatenate([thing, state.entities])


def place_in_view(state: State) -> tuple[int, int]:
    return int(state.player["x"]) + IN_VIEW, int(state.player["y"]) + IN_VIEW


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (16, "wall top"),
        (15, "wall inner"),
        (18, "lava top"),
        (17, "lava inner"),
        (COIN, "coin"),
        (19, "empty"),
        (100, "empty"),
    ],
)
def test_a_tile_is_what_its_grid_cell_holds(state, thing, kind):
    x, y = place_in_view(state)
    state.grid[y, x] = thing
    assert tile_at(state, x, y) == kind


@pytest.mark.parametrize(("thing", "kind"), [(CRATE, "crate"), (SAW, "saw"), (ENEMY, "enemy")])
@pytest.mark.parametrize("inside", [0.01, 0.5, 0.99])
def test_a_thing_stands_in_the_tile_that_contains_its_centre(state, thing, kind, inside):
    x, y = place_in_view(state)
    state.entities = state.entities[state.entities["type"] == PLAYER]
    put(state, thing, x + inside, y + inside)
    assert tile_at(state, x, y) == kind
    others = [tile_at(state, x + dx, y + dy) for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    assert kind not in others


@pytest.mark.parametrize("things", [(CRATE, ENEMY, SAW), (ENEMY, SAW, CRATE), (SAW, CRATE, ENEMY)])
def test_of_several_things_in_a_tile_an_enemy_counts(state, things):
    x, y = place_in_view(state)
    for thing in things:
        put(state, thing, x + 0.5, y + 0.5)
    assert tile_at(state, x, y) == "enemy"


def test_things_beyond_the_map_are_left_out(state):
    before = labels_of(state)["tiles"]
    for x, y in ((60.5, 2.5), (2.5, 60.5), (-20.5, 2.5)):
        put(state, ENEMY, x, y)
    np.testing.assert_array_equal(labels_of(state)["tiles"], before)


def test_what_is_outside_of_the_world_is_marked(state):
    put(state, ENEMY, 0.5, 0.5)  # the corner of the world, in view from a level's start
    tiles = labels_of(state)["tiles"][0]
    (row, column), *others = np.argwhere(tiles == KIND["enemy"]).tolist()
    assert not others
    outside = tiles == KIND["outside"]
    expected = np.zeros_like(outside)
    expected[row + 1 :] = expected[:, :column] = True
    assert row < SIDE - 1
    assert column > 0
    np.testing.assert_array_equal(outside, expected)


def test_states_do_not_mix(state):
    other = first_state(level=15)
    apart = [labels_of(one) for one in (state, other)]
    for name, values in labels_of(state, other).items():
        np.testing.assert_array_equal(values, np.concatenate([labels[name] for labels in apart]))


@pytest.mark.parametrize(("support", "crate"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_contact_and_facing_are_the_games(state, support, crate):
    state.tail["has_support"], state.tail["is_on_crate"], state.tail["facing_right"] = support, crate, 0
    labels = labels_of(state)
    assert labels["support"].tolist() == [HAS_SUPPORT * support + ON_CRATE * crate]
    assert labels["facing"].tolist() == [0]


def test_velocity_counts_rows_downwards(state):
    state.player["vx"], state.player["vy"] = 0.25, 1.5
    assert labels_of(state)["velocity"].tolist() == [[-1.5, 0.25]]


def test_a_corner_on_the_edge_of_a_tile_has_no_phase(state):
    """The game's float32 offsets lie next to the edge, on either side."""
    symbols = read_symbols([serialize(state)] * 121)
    scene = symbols.scene.copy()
    tiles = np.arange(-60, 61)
    for epsilon in (-2e-6, 0.0, 2e-6):
        scene["x_off"] = ((tiles + epsilon) * scene["unit"].astype(np.float64)).astype(np.float32)
        moved = type(symbols)(**{**vars(symbols), "scene": scene})
        column = view_position(moved)[:, 1] / scene["unit"].astype(np.float64)
        assert np.abs(column - tiles).max() < 1e-12
        assert np.floor(column).tolist() == tiles.tolist()


@pytest.mark.parametrize("game", GAMES)
def test_fields_are_as_declared_in_every_game(game):
    labels = labels_of(first_state(game))
    found = {name: (values.dtype.name, values.shape[1:]) for name, values in labels.items()}
    assert found == label_shapes(game)
    assert ("tiles" in found) == (game == "coinrun")
