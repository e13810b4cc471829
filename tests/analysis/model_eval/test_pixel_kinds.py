"""Kinds of pixels against the real game's own drawing, against a walk through the pixels one by one, and on
walks whose answer is known.
"""

import numpy as np
import pytest

from analysis.model_eval.camera import Camera, shifted_copy
from analysis.model_eval.ground_truth import GroundTruth, frames_truth
from analysis.model_eval.pixel_kinds import (
    PIXEL_KINDS,
    PLAYER_HALF_SIZE,
    box_mask,
    in_view_all_along,
    pixel_kinds,
    pixel_scores,
)
from analysis.model_eval.window_scores import visible_areas
from envs.layouts import first_states
from envs.make import make_env
from envs.procgen import ProcgenConfig
from tests.helpers.coinrun_states import PIXEL, drawn_from

SIZE = 64
UNIT = 64 / 13


def walk(offsets, given=1, frames=None) -> GroundTruth:
    """One window whose camera, and player at its middle, stand at `offsets` [n] pixels to the right of the
    start (or [n, 2], to the right and up); the first `given` frames are given.
    """
    offsets = np.asarray(offsets, np.float64)
    right, up = offsets.T if offsets.ndim == 2 else (offsets, 0 * offsets)
    one = np.ones((len(right), 1))
    camera = Camera(right[:, None] + 40, up[:, None] + 3, UNIT * one, 13 * one)
    place = np.stack([(right + 40 + SIZE / 2) / UNIT, 13 - (SIZE / 2 - up - 3) / UNIT], -1)[:, None]
    shape = len(right) - given + 1, 1
    frames = np.zeros((*shape, SIZE, SIZE, 3), np.uint8) if frames is None else frames
    later = camera[given - 1 :]
    visible = np.stack([_brute_visible(camera[:given], later[s]) for s in range(shape[0])])
    return GroundTruth(
        frames, np.ones(shape, bool), later, camera[:given], visible, place[given - 1 :], objects=None
    )


def _brute_visible(earlier: Camera, later: Camera) -> np.ndarray:
    return np.any([_brute_inside(earlier[k], later) for k in range(len(earlier.x_off))], 0)


def _brute_inside(other: Camera, camera: Camera) -> np.ndarray:
    """[1, H, W]: whether the world place of each pixel of a frame lies on another frame's screen."""
    inside = np.zeros((1, SIZE, SIZE), bool)
    for row in range(SIZE):
        for column in range(SIZE):
            x = (column + 0.5 + camera.x_off[0]) / UNIT
            y = 13 - (row + 0.5 - camera.y_off[0]) / UNIT
            left, bottom = other.x_off[0] / UNIT, (other.y_off[0] - SIZE) / UNIT + 13
            inside[0, row, column] = left <= x < left + 13 and bottom < y <= bottom + 13
    return inside


def test_the_players_box_holds_every_pixel_that_the_game_draws_of_it_and_few_more():
    moves = [(0, 0), (7, 0), (0.4, 5.3), (-9.7, 6)]
    with_player, scenes = drawn_from(moves)
    without = drawn_from(moves, alpha=0.0)[0]
    sprite = (with_player != without).any(-1)
    box = box_mask(scenes.camera, scenes.player, SIZE, margin=0)
    assert (sprite.sum((1, 2)) > 10).all()
    assert not (sprite & ~box).any()
    assert (box.sum((1, 2)) <= 7 * 6).all()
    elsewhere = scenes.player + [3 * PIXEL, 0]
    assert (sprite & ~box_mask(scenes.camera, elsewhere, SIZE, margin=0)).any((1, 2)).all()


def test_the_box_has_the_size_that_states_give():
    env = make_env(1, ProcgenConfig())
    for state in first_states(env, [10_004, 10_005, 10_006]):
        assert (state.player["rx"], state.player["ry"]) == pytest.approx(PLAYER_HALF_SIZE, abs=1e-4)
    env.close()


def test_what_the_shifted_copy_gets_wrong_in_a_still_world_is_the_player_and_its_ghost():
    frames, scenes = drawn_from([(0, 0), (14, 0), (18, 6)])
    camera = scenes.camera[:, None]
    truth = GroundTruth(
        frames[:, None],
        np.ones((3, 1), bool),
        camera,
        camera[:1],
        np.stack([_brute_visible(camera[:1], camera[s]) for s in range(3)]),
        scenes.player[:, None],
        objects=None,
    )
    copy = np.stack([shifted_copy(frames[:1, None], camera[:1], camera[s]) for s in range(3)])
    wrong = (copy != frames[:, None]).any(-1) & truth.visible
    kinds = pixel_kinds(truth)
    in_player, elsewhere = wrong & kinds["player"], wrong & ~kinds["player"]
    for s in (1, 2):
        ghost_and_sprite = 2 * 17
        assert in_player[s].sum() >= ghost_and_sprite
        assert elsewhere[s].sum() < 0.02 * truth.visible[s].sum()  # Qt rounds some edges the other way
    of_the_frame_before = box_mask(truth.camera[2], truth.player[1], SIZE, margin=0)
    assert not (of_the_frame_before & ~kinds["player"][2]).any()
    assert (of_the_frame_before & ~box_mask(truth.camera[2], truth.player[2], SIZE)).any()
    no_ghost = box_mask(truth.camera, truth.player, SIZE)
    assert (wrong & kinds["player"] & ~no_ghost)[1:].sum((1, 2, 3)).min() >= 15


def test_every_pixel_is_of_one_kind_and_the_kinds_agree_with_a_walk_through_the_pixels():
    rng = np.random.default_rng(0)
    truth = walk(np.concatenate([[(0, 0)], rng.normal(0, 9, (7, 2))]).cumsum(0), given=3)
    kinds = pixel_kinds(truth)
    np.testing.assert_array_equal(np.sum([kinds[kind] for kind in PIXEL_KINDS], axis=0), 1)
    for s in (1, 3, 5):
        along = np.all([_brute_inside(truth.camera[j], truth.camera[s]) for j in range(s + 1)], 0)
        np.testing.assert_array_equal(in_view_all_along(truth.camera, s, SIZE), along)
        rest = ~kinds["player"][s]
        np.testing.assert_array_equal(kinds["in_view"][s], along & rest)
        np.testing.assert_array_equal(kinds["returned"][s], truth.visible[s] & ~along & rest)
        np.testing.assert_array_equal(kinds["new"][s], ~truth.visible[s] & rest)
    assert kinds["returned"].any()


def test_what_leaves_and_comes_back_is_told_from_what_stays_and_from_what_is_new():
    kinds = pixel_kinds(walk([0, 20, 5]))
    row = {kind: mask[2, 0, 0] for kind, mask in kinds.items()}  # the top row, far from the player
    assert np.flatnonzero(row["returned"]).tolist() == list(range(15))  # columns 5 to 19 of the first frame
    assert np.flatnonzero(row["in_view"]).tolist() == list(range(15, 59))
    assert np.flatnonzero(row["new"]).tolist() == list(range(59, 64))
    assert not kinds["returned"][:2].any()
    assert kinds["new"][1, 0, 0].sum() == 20
    straight = pixel_kinds(walk([0, 3, 5]))  # the same last frame, without the detour
    assert not straight["returned"].any()


def test_what_an_earlier_given_frame_showed_comes_back_and_is_not_new():
    kinds = pixel_kinds(walk([0, 20, 5], given=2))
    assert np.flatnonzero(kinds["returned"][1, 0, 0]).tolist() == list(range(15))


def test_sums_by_kind_add_up_to_the_whole_and_a_planted_error_is_found_in_its_kind():
    truth = walk([0, 20, 5])
    rng = np.random.default_rng(1)
    noisy = rng.integers(0, 256, truth.frames.shape).astype(np.uint8)
    planted = np.where(pixel_kinds(truth)["returned"][..., None], 51, truth.frames).astype(np.uint8)
    scores = pixel_scores({"noisy": noisy, "planted": planted}, truth) | visible_areas(truth)
    kinds = pixel_kinds(truth)
    new = ((noisy / 255.0) ** 2).mean(-1) * kinds["new"]
    parts = sum(scores[f"{kind}_error/noisy"] for kind in ("player", "in_view", "returned"))
    np.testing.assert_allclose(parts + new.sum((2, 3)), scores["error/noisy"] * SIZE**2, rtol=1e-5)
    np.testing.assert_array_equal(sum(scores[f"{kind}_pixels"] for kind in PIXEL_KINDS), SIZE**2)
    assert not scores["in_view_error/planted"].any()
    assert scores["returned_error/planted"][2, 0] == pytest.approx(
        0.04 * scores["returned_pixels"][2, 0], rel=1e-5
    )


def test_seen_by_the_card_is_the_visibility_of_the_brute_walk():
    truth = walk([0, 20, 5], given=2)

    class Recorded:
        mask = None
        obs = None

    import torch

    recorded = Recorded()
    recorded.mask = torch.ones(3, 1, dtype=torch.bool)
    recorded.obs = torch.zeros(3, 1, SIZE, SIZE, 3, dtype=torch.uint8)
    whole = Camera(*(np.concatenate([g[:1], c]) for g, c in zip(truth.given_camera, truth.camera)))
    np.testing.assert_array_equal(frames_truth(recorded, whole, 2).visible, truth.visible)
