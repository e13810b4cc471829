"""Feelers against overlaps counted one by one."""

from itertools import product

import torch

from generative.model.config import WorldModelConfig
from generative.model.feelers import FEELERS, SHARPNESS, SURFACES, Feelers
from generative.model.player import NEIGHBOURHOOD


def make() -> tuple[Feelers, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    feelers = Feelers(WorldModelConfig(3, (16, 16, 3), code_size=2, canvas_tiles=16, sprite_pixels=8))
    feelers.surface.weight.data *= 20
    tiles = torch.randn(6, NEIGHBOURHOOD**2 * 3)
    return feelers.requires_grad_(False), tiles, 2 + 3 * torch.rand(6, 2, 3)


def test_a_feeler_feels_the_tiles_that_its_box_reaches_and_no_others():
    feelers, tiles, places = make()
    found = feelers(tiles, places).view(6, FEELERS, len(SHARPNESS), 3, SURFACES, 3)[:, :, 0]
    solid = torch.sigmoid(feelers.surface(tiles.view(6, NEIGHBOURHOOD, NEIGHBOURHOOD, 3)))
    clear = 0
    for b, f, y, x in product(range(6), range(FEELERS), range(3), range(3)):
        (top, bottom), (left, right) = places[b, [0, 1], [y, x], None] + feelers.edges[f]
        inside = [
            [min(bottom, r + 1) - max(top, r), min(right, c + 1) - max(left, c)]
            for r in range(NEIGHBOURHOOD)
            for c in range(NEIGHBOURHOOD)
        ]
        depth = torch.tensor(inside).amin(-1)
        if (depth.abs() < 0.08).any():
            continue  # an edge close by is felt in part
        clear += 1
        touched = solid[b].flatten(0, 1)[depth > 0].sum(0)
        torch.testing.assert_close(found[b, f, y, :, x], torch.tanh(touched), atol=2e-3, rtol=0)
    assert clear > 40


def test_a_feeler_distinguishes_a_hundredth_of_a_tile():
    feelers, *_ = make()
    feelers.edges.data[0] = torch.tensor([[-0.5, 0.5], [-0.5, 0.5]])
    solid = torch.zeros(1, NEIGHBOURHOOD, NEIGHBOURHOOD, 3)
    solid[0, :, 4] = 1
    feelers.surface.weight.data = torch.full_like(feelers.surface.weight, 20.0)
    feelers.surface.bias.data.fill_(-10)
    at = torch.tensor([[[3.5, 3.5], [3.47, 3.53]]])
    found = feelers(solid.flatten(1), at).view(FEELERS, len(SHARPNESS), 2, SURFACES, 2)
    apart, touching = found[0, 0, 0, 0]
    assert apart < 0.15 < 0.7 < touching
