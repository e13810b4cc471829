"""Registration by the camera, held against the pixels that the real game draws."""

import numpy as np
import pytest

from analysis.model_eval.camera import (
    Camera,
    columns_to_x,
    pixel_correspondence,
    rows_to_y,
    shifted_copy,
    visible_before,
    x_to_columns,
    y_to_rows,
)
from analysis.model_eval.frame_objects import read_scene, stack_scenes
from envs.make import make_env
from envs.procgen import ProcgenConfig
from envs.procgen_body import parse
from tests.helpers.coinrun_states import drawn_from

SIZE = 64
ABOUT_PLAYER = np.s_[24:40, 24:40]


@pytest.fixture(scope="module")
def moved():
    return drawn_from([(0, 0), (7, 0), (0, 5), (-9, 6)])


def without_players(frame_count, moves):
    """[n, H, W] bool: pixels at which neither the player nor its copy stands."""
    kept = np.ones((frame_count, SIZE, SIZE), bool)
    for i, (right, up) in enumerate(moves):
        kept[i][ABOUT_PLAYER] = False
        kept[i][max(24 + up, 0) : 40 + up, max(24 - right, 0) : 40 - right] = False
    return kept


def test_a_camera_moved_by_whole_pixels_shows_the_same_pixels_elsewhere(moved):
    frames, scenes = moved
    earlier = scenes.camera[np.array([0])]
    later = scenes.camera[1:]
    earlier = Camera(*(field[:, None].repeat(3, 1) for field in earlier))
    copy = shifted_copy(frames[:1, None].repeat(3, 1), earlier, later)
    compared = visible_before(earlier, later, SIZE) & without_players(3, [(7, 0), (0, 5), (-9, 6)])
    assert compared.mean() > 0.6
    same = (copy == frames[1:]).all(-1)[compared]
    assert same.mean() > 0.98  # Qt rounds the edges of some tiles the other way
    for wrong in (
        earlier._replace(x_off=2 * later.x_off - earlier.x_off),
        earlier._replace(y_off=2 * later.y_off - earlier.y_off),
    ):
        other = shifted_copy(frames[:1, None].repeat(3, 1), wrong, later)
        assert (other == frames[1:]).all(-1)[compared].mean() < same.mean() - 0.05


def test_seen_is_what_the_shift_leaves_on_the_screen(moved):
    _, scenes = moved
    right = visible_before(scenes.camera[np.array([0])], scenes.camera[1], SIZE)
    assert right[:, : SIZE - 7].all()
    assert not right[:, SIZE - 7 :].any()
    up = visible_before(scenes.camera[np.array([0])], scenes.camera[2], SIZE)
    assert up[5:].all()
    assert not up[:5].any()
    both = visible_before(scenes.camera[np.array([0, 1])], scenes.camera[1], SIZE)
    assert both.all()  # the frame itself is among the earlier ones


def test_a_pixel_comes_from_the_last_frame_that_shows_it_and_else_from_the_nearest_edge():
    flat = Camera(*(np.array([x, x]) for x in (0.0, 0.0, 5.0, 13.0)))
    earlier = flat._replace(x_off=np.array([0.0, 4.0]))
    frames = np.stack([np.full((8, 8, 1), 1), np.full((8, 8, 1), 2)]).astype(np.uint8)
    frames[1, :, -1] = 9
    later = Camera(np.array(-2.0), np.array(0.0), np.array(5.0), np.array(13.0))
    copy = shifted_copy(frames, earlier, later)
    assert copy[0, :, 0].tolist() == [
        2,
        2,
        1,
        1,
        1,
        1,
        2,
        2,
    ]  # columns 0-1 lie left of both: the last frame's edge, which is 2
    further = Camera(np.array(14.0), np.array(0.0), np.array(5.0), np.array(13.0))
    assert (shifted_copy(frames, earlier, further) == 9).all()


def test_places_and_pixels_are_each_others_inverse(moved):
    camera = moved[1].camera[1]
    columns = np.arange(SIZE)
    np.testing.assert_allclose(x_to_columns(camera, columns_to_x(camera, columns)), columns + 0.5)
    np.testing.assert_allclose(y_to_rows(camera, rows_to_y(camera, columns)), columns + 0.5)
    assert (np.diff(rows_to_y(camera, columns)) < 0).all()  # the world's y grows upwards
    same = pixel_correspondence(camera, camera, SIZE)
    assert (same[0] == columns).all()
    assert (same[1] == columns).all()


def test_registration_holds_along_real_play():
    env = make_env(4, ProcgenConfig(start_level=10_000, num_levels=50))
    rng = np.random.default_rng(0)
    frames = []
    scenes = []
    for _ in range(9):
        frames.append(env.observe()[1].copy())
        scenes.append([read_scene(parse(snapshot.data)) for snapshot in env.snapshot()])
        env.act(rng.choice([7, 7, 8, 5], 4))
    env.close()
    frames = np.stack(frames).astype(np.float32) / 255
    cameras = [stack_scenes(row).camera for row in scenes]

    def error(shift):
        first = Camera(*(field[None] for field in cameras[0]))._replace(x_off=cameras[0].x_off[None] + shift)
        total = count = 0.0
        for later, frame in zip(cameras[4:], frames[4:]):
            mask = visible_before(first, later, SIZE)
            total += (((shifted_copy(frames[:1], first, later) - frame) ** 2).mean(-1) * mask).sum()
            count += mask.sum()
        return total / count

    right = error(0)
    assert -10 * np.log10(right) > 18
    assert min(error(-3), error(3)) > 1.3 * right
