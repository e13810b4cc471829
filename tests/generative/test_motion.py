"""Measured motion against planted shifts and brute force."""

import numpy as np
import pytest
import torch

from generative.model.motion import best_shift, estimate_motion


def smooth_world(height=120, width=120):
    """A picture of slow waves [H, W, 3] in [0, 1], as a function of any place."""
    generator = torch.Generator().manual_seed(0)
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
    torch.testing.assert_close(estimate_motion(floats)[0, 0], found, atol=0.15, rtol=0)


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


def test_a_single_frame_has_no_motion():
    for frames in (torch.zeros(1, 4, 16, 16, 3, dtype=torch.uint8), torch.zeros(1, 4, 16, 16, 3)):
        assert estimate_motion(frames).shape == (0, 4, 2)
        assert estimate_motion(frames).dtype == torch.float32
