"""Clips side by side: each in its cell, complete, and dark after its end."""

import numpy as np

from analysis.rendering.tiles import Tile, tile_clips

GAP = 6
STRIP = 26
TITLE = 30


def clip(length, shade):
    return (
        np.full((length, 8, 8, 3), shade, np.uint8) + np.arange(length, dtype=np.uint8)[:, None, None, None]
    )


def test_every_clip_is_in_its_cell_and_ends_dark():
    tiles = [Tile(clip(3, 100), "one"), None, Tile(clip(1, 200), "two", (1, 0)), Tile(clip(2, 50), "three")]
    frames = list(tile_clips(tiles, 2, "title", scale=4))
    assert len(frames) == 3
    assert frames[0].shape == (
        TITLE + 2 * (32 + STRIP + GAP) + GAP,
        2 * (32 + GAP) + GAP,
        3,
    )

    def seen(t, place):
        row, column = divmod(place, 2)
        top = TITLE + row * (32 + STRIP + GAP) + STRIP
        left = GAP + column * (32 + GAP)
        (shade,) = np.unique(frames[t][top : top + 32, left : left + 32, 0])
        return shade

    assert [seen(t, 0) for t in range(3)] == [100, 101, 102]
    assert [seen(t, 2) for t in range(3)] == [200, 70, 70]
    assert [seen(t, 3) for t in range(3)] == [50, 51, 17]
    empty = frames[0][TITLE + STRIP : TITLE + STRIP + 32, 2 * GAP + 32 : 2 * GAP + 64]
    assert len(np.unique(empty.reshape(-1, 3), axis=0)) == 1


def test_labels_arrows_and_the_step_are_drawn():
    def first(tile, t=0):
        return list(tile_clips([tile], 1, "title", scale=20))[t]

    plain = first(Tile(clip(2, 9), "one"))
    strip = slice(TITLE, TITLE + STRIP)
    assert (first(Tile(clip(2, 9), "two"))[strip] != plain[strip]).any()
    assert (first(Tile(clip(2, 9), "one", (0, -1)))[strip] != plain[strip]).any()
    later = first(Tile(clip(2, 9), "one"), 1)
    assert (later[:TITLE] != plain[:TITLE]).any()
    assert (later[strip] == plain[strip]).all()
