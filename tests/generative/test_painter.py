"""The painter against a loop over pixels, its gradients, and what the encoder cuts out of frames."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

from generative.model.config import WorldModelConfig
from generative.model.painter import PATCH, Painter, TileEncoder, gather_patches
from generative.model.texels import EDGE, texel_centres

TEXELS = 6
POSITIONS = [[0.0, 0.0], [2.5, 1.25], [-3.1, 7.7], [10.03, -0.5]]


def small(**values) -> WorldModelConfig:
    sizes = dict(
        tile_pixels=64 / 13,
        texels=TEXELS,
        canvas_tiles=12,
        sprite_pixels=4,
        code_size=5,
        pose_size=3,
        units=16,
    )
    return WorldModelConfig(**(dict(num_actions=3, obs_shape=(16, 24, 3), depth=8) | sizes | values))


def with_sprite(painter: Painter, opacity: float) -> Painter:
    """The painter with a sprite of one colour, 0.25 above grey."""
    last = painter.sprite[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.25, 0.25, 0.25, opacity]).repeat(painter.config.sprite_pixels**2)
    return painter


@pytest.fixture
def painter():
    """Codes are the textures themselves, and there is no sprite."""
    painter = with_sprite(Painter(small()).requires_grad_(False), -100.0)
    painter.texture = torch.nn.Identity()
    return painter


def textures(n: int, config: WorldModelConfig) -> torch.Tensor:
    shape = (n, *config.view_shape, TEXELS**2 * 3)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5


def texel_by_hand(place: float) -> int:
    """Texel of a place in [0, 1) of a tile: a thin one at either end, equal ones between."""
    if place < EDGE:
        return 0
    if place >= 1 - EDGE:
        return TEXELS - 1
    return 1 + int((place - EDGE) / ((1 - 2 * EDGE) / (TEXELS - 2)))


def drawn_by_hand(codes, position, config, centre=0.5) -> np.ndarray:
    """The frame, pixel by pixel, in float64."""
    height, width, _ = config.obs_shape
    tile = config.tile_pixels
    texture = codes.numpy().reshape(*config.view_shape, TEXELS, TEXELS, 3)
    frame = np.zeros((height, width, 3))
    for row, column in np.ndindex(height, width):
        tiles, texels = [], []
        for at, pixel in zip(position, (row, column)):
            place = (at + pixel + centre) / tile
            tiles.append(math.floor(place) - math.floor(at / tile))
            texels.append(texel_by_hand(place - math.floor(place)))
        frame[row, column] = texture[*tiles, *texels] + 0.5
    return frame


def test_every_pixel_takes_the_texel_under_its_centre(painter):
    codes = textures(len(POSITIONS), painter.config)
    drawn = painter(codes, torch.tensor(POSITIONS), torch.zeros(len(POSITIONS), 3))
    for found, code, position in zip(drawn, codes, POSITIONS):
        expected = drawn_by_hand(code, position, painter.config)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
        mutant = drawn_by_hand(code, position, painter.config, centre=0.0)
        assert (np.abs(found.numpy() - mutant) > 1e-6).any(-1).mean() > 0.2


def test_a_shift_by_half_a_pixel_is_drawn_with_its_own_pixels(painter):
    """A texture drawn half a pixel on is neither the same picture nor the mean of two."""
    codes = textures(1, painter.config)
    pose = torch.zeros(1, 3)
    here, half, whole = (painter(codes, torch.tensor([[0.0, by]]), pose)[0] for by in (0.2, 0.7, 1.2))
    np.testing.assert_allclose(half.numpy(), drawn_by_hand(codes[0], (0.0, 0.7), painter.config), atol=1e-6)
    torch.testing.assert_close(whole[:, :-1], here[:, 1:])
    assert ((half - here).abs() > 1e-6).any(-1).float().mean() > 0.1
    assert ((half - (here + whole) / 2).abs() > 1e-6).any(-1).float().mean() > 0.1


def test_the_sprite_is_drawn_in_the_centre_over_the_tiles(painter):
    codes = textures(1, painter.config)
    position, pose = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 3)
    bare = painter(codes, position, pose)[0]
    covered = with_sprite(painter, 100.0)(codes, position, pose)[0]
    inside = torch.zeros(16, 24, dtype=torch.bool)
    inside[6:10, 10:14] = True
    assert torch.equal(covered[~inside], bare[~inside])
    torch.testing.assert_close(covered[inside], torch.full((16, 3), 0.75))
    half = with_sprite(painter, 2.0)(codes, position, pose)[0]  # an opacity of one half
    torch.testing.assert_close(half, (bare + covered) / 2)


def test_a_base_may_be_given_when_codes_begin_elsewhere(painter):
    codes = textures(1, painter.config)
    position = torch.tensor([[7.0, 5.5]])
    pose = torch.zeros(1, 3)
    wider = torch.nn.functional.pad(codes, (0, 0, 1, 0, 1, 0))
    base = torch.tensor([[0, 0]])  # the position lies in tile 1, 1
    assert torch.equal(painter(wider, position, pose, base=base), painter(codes, position, pose))


@pytest.mark.parametrize("axis", [0, 1])
def test_the_position_has_the_relaxed_gradient_in_both_modes_and_finite_differences_agree(painter, axis):
    config = painter.config
    codes = textures(1, config).double().view(1, *config.view_shape, TEXELS, TEXELS, 3)
    codes[:] = codes.mean((2, 4) if axis == 0 else (1, 3), keepdim=True)  # varies along one axis alone
    codes = codes.flatten(3)
    painter = painter.double()
    weights = torch.rand(1, *config.obs_shape, generator=torch.Generator().manual_seed(1)).double()
    pose = torch.zeros(1, 3, dtype=torch.float64)

    def read(position, mode):
        return (painter(codes, position, pose, mode) * weights).sum()

    at = torch.tensor([[1.3, 2.1]], dtype=torch.float64, requires_grad=True)
    relaxed, hard = (torch.autograd.grad(read(at, mode), at)[0][0] for mode in ("relaxed", "hard"))
    step = 1e-6 * torch.eye(2, dtype=torch.float64)[axis]
    with torch.no_grad():
        difference = (read(at + step, "relaxed") - read(at - step, "relaxed")) / 2e-6
        moved = (read(at + step, "hard") - read(at - step, "hard")) / 2e-6
    assert relaxed[axis].item() == pytest.approx(difference.item(), rel=1e-4)
    torch.testing.assert_close(hard[axis], relaxed[axis])
    assert abs(hard[axis]) > 1e-2
    assert moved == 0  # what is drawn does not change by so little


def test_hard_frames_are_the_same_with_and_without_a_gradient_and_codes_have_one(painter):
    codes = textures(2, painter.config).requires_grad_()
    position = torch.tensor(POSITIONS[:2])
    pose = torch.zeros(2, 3)
    with_gradient = painter(codes, position.clone().requires_grad_(), pose)
    torch.testing.assert_close(painter(codes, position, pose), with_gradient, rtol=0, atol=1e-6)
    reached = torch.autograd.grad(painter(codes, position, pose).sum(), codes)[0]
    assert reached.sum().item() == pytest.approx(2 * 16 * 24 * 3, rel=1e-5)  # every pixel has one texel
    assert reached.eq(0).any()


def straight_through(painter, codes, position):
    """Hard mode, spelled out: one-hot weights forward, the slopes of the soft ones backward."""
    config = painter.config
    base = torch.floor(position / config.tile_pixels).long()
    weights = []
    for axis, count in enumerate(config.view_shape):
        place = painter._places(position, base, axis)
        soft = painter._weights(place, count)
        tile = torch.floor(place).clamp(0, count - 1)
        texel = [[texel_by_hand(one) for one in row] for row in (place - tile).tolist()]
        hard = torch.nn.functional.one_hot(tile.long() * TEXELS + torch.tensor(texel), count * TEXELS)
        weights.append(hard + soft - soft.detach())
    image = codes.unflatten(-1, (TEXELS, TEXELS, 3))
    image = image.transpose(2, 3).flatten(1, 2).flatten(2, 3)
    return torch.einsum("nrp,npqc,nsq->nrsc", weights[0], image, weights[1]) + 0.5


@pytest.fixture
def drawn_both_ways(painter):
    """Codes, position, and what the painter and the spelled-out formula draw of them, in float64."""
    painter = painter.double()
    position = (torch.tensor(POSITIONS, dtype=torch.float64) + 0.013).requires_grad_()
    codes = textures(len(POSITIONS), painter.config).double().requires_grad_()
    pose = torch.zeros(len(POSITIONS), 3, dtype=torch.float64)
    return codes, position, painter(codes, position, pose), straight_through(painter, codes, position)


def test_the_hard_gradient_is_that_of_a_straight_through_average(drawn_both_ways):
    codes, position, drawn, expected = drawn_both_ways
    weights = torch.rand(drawn.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(drawn, expected)
    found, wanted = (
        torch.autograd.grad((frames * weights).sum(), [codes, position]) for frames in (drawn, expected)
    )
    torch.testing.assert_close(found[0], wanted[0])
    torch.testing.assert_close(found[1], wanted[1])
    assert wanted[1].abs().min() > 1e-3
    assert (found[1] + wanted[1]).abs().min() > 1e-3  # the mutant: the other sign


def test_the_hard_gradient_is_the_same_forward(painter):
    painter = painter.double()
    position = torch.tensor(POSITIONS, dtype=torch.float64) + 0.013
    codes = textures(len(POSITIONS), painter.config).double()
    pose = torch.zeros(len(POSITIONS), 3, dtype=torch.float64)
    moves = torch.cos(codes), torch.tensor([[0.3, -1.0]], dtype=torch.float64).expand(len(POSITIONS), -1)
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(x.clone().requires_grad_(), move)
            for x, move in zip((codes, position), moves)
        ]
        tangent = forward_ad.unpack_dual(painter(*duals, pose)).tangent.detach()
    leaves = [codes.requires_grad_(), position.requires_grad_()]
    weights = torch.rand(tangent.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    backward = torch.autograd.grad((painter(*leaves, pose) * weights).sum(), leaves)
    along = sum((gradient * move).sum() for gradient, move in zip(backward, moves))
    torch.testing.assert_close((tangent * weights).sum(), along)
    assert along.abs() > 1e-2


def test_texels_have_their_centres_between_their_edges():
    centres = texel_centres(TEXELS)
    assert [texel_by_hand(c) for c in centres.tolist()] == list(range(TEXELS))
    inner = centres[1:-1].diff()
    torch.testing.assert_close(inner, torch.full_like(inner, (1 - 2 * EDGE) / (TEXELS - 2)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_patches_are_the_pixels_around_the_centre_of_each_tile(dtype):
    config = small()
    frames = torch.randint(0, 256, (len(POSITIONS), 16, 24, 3), generator=torch.Generator().manual_seed(0))
    scaled = frames.numpy() / 255 - 0.5
    given = frames.to(torch.uint8) if dtype == torch.uint8 else frames.float() / 255
    found = gather_patches(given, torch.tensor(POSITIONS), config).numpy()
    assert found.shape == (len(POSITIONS), *config.view_shape, PATCH * PATCH * 3 + 2)
    padded = np.pad(scaled, ((0, 0), (40, 40), (40, 40), (0, 0)))
    misplaced = 0
    for n, row, column in np.ndindex(found.shape[:3]):
        corners, offsets = [], []
        for at, index in zip(POSITIONS[n], (row, column)):
            centre = (math.floor(at / config.tile_pixels) + index + 0.5) * config.tile_pixels - at - 0.5
            corners.append(round(centre) - PATCH // 2)
            offsets.append(centre - round(centre))
        r, c = corners
        patch = padded[n, 40 + r : 40 + r + PATCH, 40 + c : 40 + c + PATCH]
        np.testing.assert_allclose(found[n, row, column, :-2], patch.ravel(), atol=1e-5)
        np.testing.assert_allclose(found[n, row, column, -2:], offsets, atol=1e-5)
        off = padded[n, 41 + r : 41 + r + PATCH, 40 + c : 40 + c + PATCH]
        misplaced += np.abs(found[n, row, column, :-2] - off.ravel()).max() > 0.01
    assert misplaced > 0.6 * np.prod(found.shape[:3])  # the mutant: a row off


def test_codes_read_the_tiles_around_and_the_pose_the_centre_alone():
    torch.manual_seed(0)
    encoder = TileEncoder(small(obs_shape=(64, 64, 3), canvas_tiles=16)).requires_grad_(False)
    frames = torch.full((3, 64, 64, 3), 0.5)
    frames[1, 30:32, 30:32] = 1.0  # in the sprite
    frames[2, 50:52, 10:12] = 1.0
    encoded = encoder(frames, torch.zeros(3, 2))
    assert encoded.codes.abs().max() < 1
    assert (encoded.pose[1] != encoded.pose[0]).any()
    assert torch.equal(encoded.pose[2], encoded.pose[0])
    rows, columns = (encoded.codes[2] != encoded.codes[0]).any(-1).nonzero().T
    centre = int(51 / (64 / 13)), int(11 / (64 / 13))
    assert {(rows - centre[0]).abs().max().item(), (columns - centre[1]).abs().max().item()} <= {1, 2}
    assert encoded.share.sum().item() == pytest.approx(3 * 13**2, rel=1e-5)
