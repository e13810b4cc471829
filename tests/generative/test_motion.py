"""Measured motion against planted shifts, moved pictures against rolled ones, and what stayed in view against
a walk by hand.
"""

import numpy as np
import pytest
import torch

from generative.model.motion import (
    MAX_MOTION,
    best_shift,
    estimate_motion,
    in_view,
    warp_features,
    warp_frame,
)

generator = torch.Generator().manual_seed(0)


def smooth_world(height=120, width=120):
    """A picture of slow waves [H, W, 3] in [0, 1], as a function of any place."""
    frequencies = torch.rand(3, 12, 2, generator=generator) - 0.5
    phases = torch.rand(3, 12, generator=generator) * 6.3

    def at(down, right):
        row = torch.arange(height)[:, None] - down
        column = torch.arange(width) - right
        waves = torch.sin(
            frequencies[..., 0, None, None] * row
            + frequencies[..., 1, None, None] * column
            + phases[..., None, None]
        )
        return (0.5 + waves.mean(1)).movedim(0, -1)

    return at


def as_frames(pictures):
    return torch.stack([(x * 255).round().to(torch.uint8) for x in pictures])[:, None]


@pytest.mark.parametrize(
    ("down", "right"), [(0, 0), (3, 0), (-7, 2), (8, -8), (0.5, -2.25), (-6.6, 0.3), (7.8, 1.1)]
)
def test_a_planted_shift_is_measured_to_a_fifth_of_a_pixel(down, right):
    world = smooth_world(64, 64)
    found = estimate_motion(as_frames([world(0, 0), world(down, right)]))[0, 0]
    assert (found - torch.tensor([down, right])).abs().max() < 0.2
    floats = torch.stack([world(0, 0), world(down, right)])[:, None]
    torch.testing.assert_close(estimate_motion(floats)[0, 0], found, atol=0.06, rtol=0)


def test_blocks_that_scroll_are_measured_exactly_in_frames_of_any_shape_and_number():
    ground = (
        np.random.default_rng(0).integers(0, 255, (1, 30, 40, 3)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    )
    ways = [(20, 20), (17, 22), (17, 22), (25, 14)]
    frames = torch.from_numpy(np.stack([ground[:, r : r + 16, c : c + 40] for r, c in ways]))
    found = estimate_motion(torch.cat([frames, frames.flip(0)], 1))
    expected = torch.tensor([[3.0, -2], [0, 0], [-8, 8]])
    torch.testing.assert_close(found[:, 0], expected, atol=0.3, rtol=0)
    torch.testing.assert_close(found[:, 1], -expected.flip(0), atol=0.3, rtol=0)


def test_a_picture_of_one_colour_says_nothing_and_does_not_move():
    flat = torch.full((3, 2, 64, 64, 3), 90, dtype=torch.uint8)
    assert not estimate_motion(flat).any()
    stripes = (
        (torch.arange(64)[:, None, None] * 4).expand(64, 64, 3).to(torch.uint8)
    )  # no column differs from the next
    moved = estimate_motion(torch.stack([stripes, stripes.roll(0, 0)])[:, None])
    assert moved.abs().max() < 1e-3


def test_pictures_are_carried_by_whole_pixels_as_they_are_and_leave_nothing_behind():
    picture = torch.rand(2, 12, 20, 3, generator=generator)
    canvas = warp_frame(picture, torch.tensor([[3.0, -2.0], [0.0, 0.0]]))
    assert torch.equal(canvas[1, ..., :3], picture[1] - 0.5)
    assert canvas[1, ..., 3].eq(1).all()
    torch.testing.assert_close(canvas[0, 3:, :18, :3], picture[0, :9, 2:] - 0.5)
    assert not canvas[0, :3].any()
    assert not canvas[0, :, 18:].any()
    assert canvas[0, 3:, :18, 3].eq(1).all()


def test_a_fraction_of_a_pixel_is_carried_as_the_world_would_move():
    world = smooth_world(64, 64)
    for down, right in ((0.5, 0.0), (-2.3, 1.7)):
        canvas = warp_frame(world(0, 0)[None], torch.tensor([[down, right]]))[0]
        inner = (slice(4, -4), slice(4, -4))
        assert (canvas[..., :3] + 0.5 - world(down, right))[inner].abs().max() < 0.01
        assert (canvas[..., :3] + 0.5 - world(right, down))[inner].abs().max() > 0.1  # rows are not columns
        torch.testing.assert_close(canvas[inner][..., 3], torch.ones(56, 56))


def test_cells_are_carried_likewise_and_keep_their_range():
    cells = torch.rand(1, 5, 4, 6, generator=generator) * 2 - 1
    moved = warp_features(cells, torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(moved[:, :, 1:, :4], cells[:, :, :3, 2:])
    assert not moved[:, :, 0].any()
    assert not moved[..., 4:].any()
    ones = warp_features(torch.ones(1, 1, 8, 8), torch.tensor([[0.4, -0.7]]))
    assert ones.max() <= 1 + 1e-6
    assert torch.allclose(ones[..., 1:, :-1], torch.ones(7, 7))


def test_the_gradient_of_the_motion_is_that_of_finite_differences():
    picture = torch.rand(1, 12, 12, 3, generator=generator).double()
    motion = torch.tensor([[1.3, -0.4]], dtype=torch.float64, requires_grad=True)
    weights = torch.rand(1, 12, 12, 4, generator=generator).double()
    assert torch.autograd.gradcheck(lambda by: (warp_frame(picture, by) * weights).sum(), motion)
    assert torch.autograd.gradcheck(lambda by: (warp_features(picture, by) ** 2).sum(), motion)


def test_what_was_in_view_all_along_is_what_a_walk_by_hand_finds():
    way = torch.tensor([[[3.0, 0.0]], [[-5.0, 2.0]], [[1.0, -4.0]]])
    found = in_view(way, (10, 12))
    for steps in range(1, 4):
        for row in range(10):
            for column in range(12):
                at = np.array([row, column], float)
                inside = True
                for move in way[:steps, 0].flip(0).numpy():
                    at = at - move
                    inside &= bool((at >= 0).all() and at[0] <= 9 and at[1] <= 11)
                assert found[steps - 1, 0, row, column] == inside, (steps, row, column)
    assert found[0].sum() == 7 * 12
    assert MAX_MOTION == 8


def test_best_shift_minimises_the_mean_squared_difference_of_visible_overlapping_pixels():
    """Brute force over all whole shifts, with a masked rectangle, on noise and on noisy shifted images."""
    rng = torch.Generator().manual_seed(0)
    reach = 4
    before = torch.rand(6, 2, 11, 13, generator=rng) - 0.5
    after = torch.rand(6, 2, 11, 13, generator=rng) - 0.5
    after[3:] = before[3:].roll((2, -3), (-2, -1)) + 0.1 * after[3:]
    visible = torch.ones(11, 13)
    visible[4:7, 5:9] = 0

    def error(a, b, down, right):
        rows, columns = (torch.arange(n) for n in (11, 13))
        rows = rows[(rows + down >= 0) & (rows + down < 11)]
        columns = columns[(columns + right >= 0) & (columns + right < 13)]
        seen = visible[rows][:, columns] * visible[rows + down][:, columns + right]
        difference = a[:, rows][:, :, columns] - b[:, rows + down][:, :, columns + right]
        return ((difference.square() * seen).sum() / seen.sum()).item()

    shifts = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
    expected = [min(shifts, key=lambda shift: error(a, b, *shift)) for a, b in zip(before, after)]
    assert best_shift(before, after, visible, reach).tolist() == [list(shift) for shift in expected]
    assert expected[3:] == [(2, -3)] * 3
