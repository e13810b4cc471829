"""Whole levels: the player stands where it is said to, and the picture is what the views show."""

import numpy as np
import pytest

from common.errors import UsageError
from envs import whole_level
from envs.coinrun import COIN, CRATE, ENEMY, LAVAS, SAW, WALLS
from envs.concepts import measure
from envs.layouts import first_states
from envs.make import make_env
from envs.procgen import ProcgenConfig
from envs.procgen_body import parse
from envs.whole_level import coin_moved, draw_level, level_extent, placed, player_places

LEVEL = 100_005
HEADROOM = 4


@pytest.fixture(scope="module")
def env():
    made = make_env(32, ProcgenConfig())
    yield made
    made.close()


@pytest.fixture(scope="module")
def state(env):
    return next(first_states(env, [LEVEL]))


@pytest.fixture(scope="module")
def places(state):
    return player_places(state, HEADROOM)


def restored(env, state, places, rows):
    env.restore([placed(state, places.x[i], places.y[i]) for i in rows], range(len(rows)))
    return env.symbols(range(len(rows)))


def test_the_player_stands_at_each_place(env, state, places):
    for at in range(0, len(places.x), env.num):
        rows = np.arange(at, min(at + env.num, len(places.x)))
        symbols = restored(env, state, places, rows)
        concepts = measure(symbols)
        np.testing.assert_allclose(concepts["x"], places.x[rows], atol=1e-5)
        np.testing.assert_allclose(concepts["y"], places.y[rows], atol=1e-5)
        # `supported` says which of them the game itself holds up
        np.testing.assert_array_equal(concepts["support"], places.supported[rows])


def test_a_supported_player_stays_there_and_another_falls(env, state, places):
    rows = np.concatenate([np.flatnonzero(places.supported)[:12], np.flatnonzero(~places.supported)[:12]])
    restored(env, state, places, rows)
    env.act(np.full(env.num, env.noop))
    after = measure(env.symbols(range(len(rows))))
    stays = places.supported[rows]
    np.testing.assert_allclose(after["x"], places.x[rows], atol=1e-5)
    np.testing.assert_allclose(after["y"][stays], places.y[rows][stays], atol=1e-5)
    assert (after["y"][~stays] < places.y[rows][~stays] - 1e-3).all()


def test_the_frame_shows_the_level_around_the_place(env, state, places):
    extent = level_extent(state, HEADROOM)
    picture = draw_level(env, state, extent)
    rows = np.flatnonzero((np.abs(places.x - extent.right / 2) < 6) & (places.y < 12))[:16]
    restored(env, state, places, rows)
    frames = env.observe()[1].astype(int)
    unit = float(state.scene["unit"])
    error = {}
    for shift in (-1, 0, 1):  # in tiles
        shown = [around(picture, (places.x[i] + shift) * unit, places.y[i] * unit) for i in rows]
        without_player = np.r_[0:24, 40:64]
        error[shift] = np.abs(np.stack(shown) - frames[: len(rows), 24:40])[:, :, without_player].mean()
    assert 2 * error[0] < min(error[-1], error[1])


def around(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """The part [16, 64, 3] of the picture around a point in pixels from its lower left corner."""
    row, column = round(len(picture) - y), round(x)
    padded = np.pad(picture, ((32, 32), (32, 32), (0, 0)))
    return padded[row + 24 : row + 40, column : column + 64]


def test_the_picture_is_put_together_from_views(env, state, monkeypatch):
    extent = level_extent(state, HEADROOM)
    whole = draw_level(env, state, extent)
    unit = float(state.scene["unit"])
    assert whole.shape[:2] == (round(extent.top * unit), round(extent.right * unit))
    (row, column) = np.argwhere(state.grid == COIN)[0]
    red, _, blue = whole[round(len(whole) - (row + 0.5) * unit), round((column + 0.5) * unit)]
    assert red > 150  # the coin is yellow
    assert blue < 100
    monkeypatch.setattr(whole_level, "_paste", lambda canvas, part, row, column: None)
    assert not draw_level(env, state, extent).any()


def test_places_are_empty_cells_near_the_ground(state, places):
    rows, columns = np.floor(places.y).astype(int), np.floor(places.x).astype(int)
    assert not np.isin(state.grid[rows, columns], (*WALLS, *LAVAS, COIN)).any()
    assert not np.isin(state.grid[rows + 1, columns], WALLS).any()
    for thing in state.entities[np.isin(state.entities["type"], (SAW, ENEMY, CRATE))]:
        apart = np.maximum(
            np.abs(thing["x"] - places.x) - thing["rx"] - 0.5,
            np.abs(thing["y"] - places.y) - thing["ry"] - 0.5,
        )
        assert apart.min() > -0.2
    fewer = player_places(state, HEADROOM - 2)
    assert set(zip(fewer.x, fewer.y)) < set(zip(places.x, places.y))


def test_the_coin_moves_and_nothing_else(state):
    moved = coin_moved(state)
    old, new = (np.argwhere(one.grid == COIN) for one in (state, moved))
    assert len(new) == 1
    assert new[0][1] == pytest.approx(old[0][1] / 2, abs=3)
    assert np.isin(moved.grid[new[0][0] - 1, new[0][1]], WALLS)
    changed = np.argwhere(state.grid != moved.grid)
    assert sorted(map(tuple, changed)) == sorted(map(tuple, np.concatenate([old, new])))
    np.testing.assert_array_equal(state.entities, moved.entities)
    assert np.argwhere(coin_moved(state, 3).grid == COIN)[0][1] == 3


@pytest.mark.parametrize("column", [0, 63, 30])
def test_a_column_where_no_coin_can_stand_is_refused(state, column):
    with pytest.raises(UsageError, match="cannot stand in column"):
        coin_moved(state, column)


def test_the_state_itself_is_unchanged(state):
    before = state.player.copy()
    placed(state, 5.5, 5.5)
    coin_moved(state)
    assert state.player == before
    assert parse(placed(state, 5.5, 6.5).data).player["y"] == 6.5
