"""The canvas on its torus against loops over tiles; the visible share of a tile against counted points."""

import numpy as np
import pytest
import torch

from generative.model.canvas import base_tile, read_window, tile_phase, visible_share, write_window

SIZE = 6
BASES = torch.tensor([[0, 0], [2, 5], [-1, 3], [-8, -13], [700, -701]])


@pytest.fixture
def canvas():
    return torch.rand(len(BASES), SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))


def read_by_hand(canvas, base, shape):
    out = torch.zeros(len(canvas), *shape, canvas.shape[-1])
    for b, row, column in np.ndindex(len(canvas), *shape):
        there = (int(base[b, 0]) + row) % SIZE, (int(base[b, 1]) + column) % SIZE
        out[b, row, column] = canvas[b][there]
    return out


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (6, 6)])
def test_a_window_is_read_around_the_torus(canvas, shape):
    found = read_window(canvas, BASES, shape)
    assert torch.equal(found, read_by_hand(canvas, BASES, shape))
    assert not torch.equal(found, read_by_hand(canvas, BASES.flip(1), shape))  # rows are not columns
    assert not torch.equal(found, read_by_hand(canvas, BASES + torch.tensor([0, 1]), shape))


def test_a_window_is_written_where_it_is_read_and_nowhere_else(canvas):
    window = torch.rand(len(BASES), 3, 5, 3)
    before = canvas.clone()
    after = write_window(canvas, BASES, window)
    assert torch.equal(canvas, before)  # a copy is written
    assert torch.equal(read_window(after, BASES, (3, 5)), window)
    assert (after != before).any(-1).sum((1, 2)).tolist() == [15] * len(BASES)
    rest = read_window(after, BASES + torch.tensor([3, 0]), (3, 6))
    assert torch.equal(rest, read_window(before, BASES + torch.tensor([3, 0]), (3, 6)))


def test_what_left_the_view_is_still_there_when_it_comes_back(canvas):
    """A view of 3 x 3 tiles goes three tiles away, is written all the way, and returns."""
    shape = (3, 3)
    first = read_window(canvas, BASES, shape)
    away = canvas
    for step in (1, 2, 3, 2, 1):
        base = BASES + step
        window = read_window(away, base, shape)
        seen = torch.tensor([r + step < 3 and c + step < 3 for r in range(3) for c in range(3)]).view(3, 3, 1)
        away = write_window(away, base, torch.where(seen, window, torch.rand(window.shape)))
    back = read_window(away, BASES, shape)
    corner = torch.tensor([[True, True, True], [True, False, False], [True, False, False]])
    assert torch.equal(back[:, corner], first[:, corner])  # the tiles never written since
    assert torch.equal(back[:, 1:, 1:], read_window(away, BASES + 1, (2, 2)))


def test_gradients_go_to_the_tiles_read_and_written(canvas):
    own = canvas.clone().requires_grad_()
    window = torch.rand(len(BASES), 2, 2, 3).requires_grad_()
    read_window(write_window(own, BASES, window), BASES, (2, 3)).sum().backward()
    assert window.grad.eq(1).all()
    assert own.grad.sum() == len(BASES) * 2 * 3  # the third column alone


@pytest.mark.parametrize("tile", [64 / 13, 4.0, 3.7])
def test_an_edge_belongs_to_the_tile_that_begins_there(tile):
    number = torch.arange(-400, 400)
    position = (number.double() * tile).float()
    assert torch.equal(base_tile(position, tile), number)
    assert tile_phase(position, tile).abs().max() < 1e-3
    inside = (number.double() * tile + 0.3).float()
    assert torch.equal(base_tile(inside, tile), number)
    torch.testing.assert_close(tile_phase(inside, tile), torch.full((800,), 0.3 / tile), atol=1e-4, rtol=0)
    if tile == 64 / 13:  # the mutant that this is for
        assert (torch.floor(position / tile) != number).sum() > 50


def test_the_visible_share_counts_the_points_of_a_tile_inside_the_frame():
    tile, view, frame = 4.0, (4, 5), (10, 13)
    position = torch.tensor([[0.0, 0.0], [1.5, -3.25], [-2.0, 7.5], [3.875, 0.125]])
    found = visible_share(position, tile, view, frame)
    points = (torch.arange(32) + 0.5) / 8  # 8 per pixel
    for n, row, column in np.ndindex(len(position), *view):
        inside = []
        for axis, index in ((0, row), (1, column)):
            begin = torch.floor(position[n, axis] / tile) + index
            at = begin * tile + points - position[n, axis]
            inside.append(((at >= 0) & (at < frame[axis])).float().mean())
        assert found[n, row, column].item() == pytest.approx((inside[0] * inside[1]).item()), (n, row, column)
    assert found.sum().item() == pytest.approx(len(position) * 130 / 16)  # all pixels belong to some tile
