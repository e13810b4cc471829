"""Runs in two worlds as one animated picture."""

import numpy as np
from PIL import Image

from analysis.rendering.two_rows import two_rows, write_animation

STEPS, RUNS, SIDE = 5, 2, 8


def pictures(alive=None):
    """A white game above a grey simulator, two runs of five steps, of which two frames are given."""
    game = np.full((STEPS, RUNS, SIDE, SIDE, 3), 255, np.uint8)
    going = np.ones((STEPS, RUNS), bool) if alive is None else alive
    rows = (game, game // 2), (np.ones((STEPS, RUNS), bool), going)
    return list(two_rows(*rows, ("game", "simulator"), given=2, scale=20))


def test_there_is_one_picture_per_step():
    assert len(pictures()) == STEPS


def test_the_game_is_drawn_above_the_simulator():
    column = pictures()[0][:, 110].max(axis=1)
    assert np.flatnonzero(column == 255).max() < np.flatnonzero(column == 127).min()


def test_a_run_is_darkened_after_its_end():
    alive = np.ones((STEPS, RUNS), bool)
    alive[3:, 1] = False
    before, after = (pictures(alive)[t][250, 280].max() for t in (2, 3))
    assert after < before


def test_the_animation_keeps_every_step(tmp_path):
    write_animation(tmp_path / "a.gif", pictures(), fps=8)
    assert Image.open(tmp_path / "a.gif").n_frames == STEPS
