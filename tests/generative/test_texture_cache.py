"""Frames drawn with a cache of textures are those drawn without, and only tiles that changed are computed."""

import pytest
import torch

from generative.model.canvas import base_tile, read_window
from generative.model.config import WorldModelConfig, load_preset
from generative.model.painter import Painter
from generative.model.texture_cache import TextureCache
from tests.generative.test_painter import small

N = 3
GRID = 12
TILE = 64 / 13
CONFIG = small(code_size=5, canvas_tiles=GRID)
ROWS, COLUMNS = CONFIG.view_shape


class Stale(TextureCache):
    """A mutant that does not compare codes: a cell keeps its first texture."""

    def update(self, codes, base, texture):
        return super().update(codes, base, texture) if self.textures is None else self.textures


class Scene:
    """A canvas of random codes, the views of N samples, and a painter that counts the tiles it computes."""

    def __init__(self, precision: str = "fp32"):
        torch.manual_seed(0)
        self.painter = Painter(small(precision=precision)).requires_grad_(False)
        self.painter.texture.register_forward_hook(lambda _, given, out: self.computed.append(len(given[0])))
        self.canvas = torch.randn(N, GRID, GRID, CONFIG.code_size)
        self.position = torch.tensor([[0.3, 0.2], [-7.1, 30.4], [101.0, -55.5]])
        self.pose = torch.rand(N, CONFIG.pose_size)

    def frames(self, cache: TextureCache | None = None) -> torch.Tensor:
        self.computed = []
        base = base_tile(self.position, CONFIG.tile_pixels)
        codes = read_window(self.canvas, base, CONFIG.view_shape)
        with torch.no_grad():
            return self.painter(codes, self.position, self.pose, cache=cache)


def change_two_codes(scene):
    row, column = base_tile(scene.position[1], CONFIG.tile_pixels) % GRID
    scene.canvas[1, (row + 1) % GRID, (column + 2) % GRID] *= -1
    scene.canvas[1, (row + 2) % GRID, (column + 2) % GRID, 0] += 1


def move_by_half_a_pixel(scene):
    scene.position = scene.position + torch.tensor([0.5, 0.5])


def move_up_a_tile(scene):
    scene.position = scene.position + torch.tensor([-TILE, 0.0])


def move_far(scene):
    scene.position = scene.position + TILE * torch.tensor([[-3.0, 2.0], [5.0, -1.0], [40.0, 60.0]])


def restart(scene):
    scene.canvas[1] = torch.randn(GRID, GRID, CONFIG.code_size)
    scene.position[1] = 0.0


def swap(scene):
    scene.canvas, scene.position = scene.canvas[[1, 0, 2]], scene.position[[1, 0, 2]]


EVENTS = {
    change_two_codes: 2,
    move_by_half_a_pixel: 0,
    move_up_a_tile: N * COLUMNS,
    restart: ROWS * COLUMNS,
    swap: 2 * ROWS * COLUMNS,
}
"""Tiles that have to be computed after each."""


@pytest.mark.parametrize(("event", "changed"), EVENTS.items())
def test_only_tiles_that_changed_or_came_into_view_are_computed(event, changed):
    scene = Scene()
    cache = TextureCache(CONFIG, N, "cpu")
    scene.frames(cache)
    assert scene.computed == [N * ROWS * COLUMNS]
    event(scene)
    scene.frames(cache)
    assert scene.computed == [changed]


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-6), ("bf16", 2**-8)])
def test_frames_are_those_drawn_without_it(precision, rounding):
    scene = Scene(precision)
    cache = TextureCache(CONFIG, N, "cpu")
    for event in (lambda _: None, *EVENTS, move_far, change_two_codes, *EVENTS):
        event(scene)
        torch.testing.assert_close(scene.frames(cache), scene.frames(), rtol=0, atol=rounding)


def test_what_changed_out_of_view_is_drawn_as_it_is_when_it_comes_back():
    scene = Scene()
    cache = TextureCache(CONFIG, N, "cpu")
    home = scene.position
    before = scene.frames(cache)
    move_far(scene)
    scene.frames(cache)
    scene.position = home
    torch.testing.assert_close(scene.frames(cache), before, rtol=0, atol=1e-6)
    move_far(scene)
    scene.frames(cache)
    scene.position = home
    change_two_codes(scene)
    assert (scene.frames(cache) - before)[1].abs().max() > 0.01
    torch.testing.assert_close(scene.frames(cache), scene.frames(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("event", [change_two_codes, move_up_a_tile, move_far, restart, swap])
def test_stale_textures_show_in_the_frames(event):
    scene = Scene()
    mutant = Stale(CONFIG, N, "cpu")
    torch.testing.assert_close(scene.frames(mutant), scene.frames(), rtol=0, atol=1e-6)
    event(scene)
    assert (scene.frames(mutant) - scene.frames()).abs().max() > 0.01


@pytest.mark.parametrize(("precision", "most"), [("bf16", 0.25e6), ("fp32", 0.5e6)])
def test_its_memory_for_each_sample_is_as_stated(precision, most):
    shape = {"num_actions": 15, "tile_pixels": TILE, "knows_phase": True, "precision": precision}
    config: WorldModelConfig = load_preset("small", shape, {})[0]
    cache = TextureCache(config, 2, "cpu")
    codes = torch.zeros(2, *config.view_shape, config.code_size)
    with torch.no_grad():
        Painter(config)(codes, torch.zeros(2, 2), torch.zeros(2, config.pose_size), cache=cache)
    assert 0.9 * most < (cache.codes.nbytes + cache.textures.nbytes) / 2 < most
