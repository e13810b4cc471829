"""The player's motion against mixtures of PyTorch, contacts, and a planted physics that the head learns."""

import pytest
import torch
from torch.distributions import Categorical, Independent, Laplace, MixtureSameFamily

from generative.model.config import WorldModelConfig
from generative.model.motion_head import (
    CONTACTS,
    FAR_SCALE,
    FAR_SHARE,
    FREE,
    MotionHead,
    MotionOutcomes,
    hats,
)
from generative.model.player import NEIGHBOURHOOD, NUM_PHASE_FEATURES, phase_features, surroundings

TILE = 4.0
RIGHT, UP = 1, 2


def config() -> WorldModelConfig:
    return WorldModelConfig(
        3,
        (16, 16, 3),
        tile_pixels=TILE,
        code_size=1,
        vector_size=4,
        canvas_tiles=16,
        units=64,
        sprite_pixels=8,
    )


@pytest.fixture
def outcomes():
    rng = torch.Generator().manual_seed(0)
    motion = 4 * torch.randn(50, 2, 4, generator=rng)
    return MotionOutcomes(motion, torch.randn(50, 2, 4, generator=rng).log_softmax(-1), motion)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_the_loss_is_the_likelihood_of_a_laplace_mixture_up_to_a_constant(outcomes, scale):
    true = outcomes.motion.mean(-1)
    every = torch.cat([outcomes.motion, outcomes.motion], -1)
    shares = outcomes.log_probs.new_tensor([1 - FAR_SHARE, FAR_SHARE]).log()
    weights = (outcomes.log_probs[..., None, :] + shares[:, None]).flatten(-2)
    scales = torch.tensor([scale, FAR_SCALE]).repeat_interleave(4)
    mixture = MixtureSameFamily(Categorical(logits=weights), Laplace(every, scales))
    expected = -Independent(mixture, 1).log_prob(true) - 2 * torch.log(torch.tensor(2 * scale))
    torch.testing.assert_close(outcomes.loss(true, scale), expected)
    assert not torch.allclose(outcomes.loss(true.flip(-1), scale), expected)


def test_the_likeliest_motion_is_chosen_and_has_the_gradient_of_the_mean(outcomes):
    motion = outcomes.motion.clone().requires_grad_()
    raw = outcomes.log_probs.clone().requires_grad_()
    one = MotionOutcomes(motion, raw, motion)
    mean = (raw.exp() * motion).sum(-1)
    torch.testing.assert_close(one.choose("relaxed"), mean)
    best = torch.stack([row[i] for row, i in zip(motion.flatten(0, 1), raw.flatten(0, 1).argmax(-1))])
    torch.testing.assert_close(one.choose().flatten(), best, rtol=0, atol=1e-6)
    assert not torch.allclose(one.choose(), mean)
    weights = torch.rand(50, 2, generator=torch.Generator().manual_seed(1))
    hard, soft = (
        torch.autograd.grad((x * weights).sum(), (motion, raw), retain_graph=True)
        for x in (one.choose(), mean)
    )
    for found, expected in zip(hard, soft):
        torch.testing.assert_close(found, expected)
    with torch.no_grad():
        assert torch.equal(outcomes.choose().flatten(), best)  # to the bit where nothing has a gradient


def canvas_with_floor(floor: torch.Tensor) -> torch.Tensor:
    """Canvases [B, 16, 16, 2] that are solid from row `floor` [B] on, and known."""
    depth = (torch.arange(16) - floor[:, None]) % 16
    solid = (2.0 * (depth < 8) - 1)[:, :, None].expand(-1, 16, 16)
    return torch.stack([solid, torch.ones_like(solid)], -1)


def test_surroundings_are_the_tiles_around_the_centre_of_the_view():
    floor = torch.tensor([3, 9, 12])
    canvas = canvas_with_floor(floor)
    canvas[..., 1] = torch.rand(3, 16, 16)
    position = torch.tensor([[0.0, 0.0], [-5.5, 17.0], [30.0, -2.25]])
    around = surroundings(canvas, position, config())
    torch.testing.assert_close(around.centre, position + 8)
    tiles = around.tiles.view(3, NEIGHBOURHOOD, NEIGHBOURHOOD, 2)
    for b in range(3):
        centre = torch.floor(around.centre[b] / TILE).int().tolist()
        for row in range(NEIGHBOURHOOD):
            for column in range(NEIGHBOURHOOD):
                there = [(c + i - NEIGHBOURHOOD // 2) % 16 for c, i in zip(centre, (row, column))]
                assert torch.equal(tiles[b, row, column], canvas[b][tuple(there)])
    assert around.phase.shape == (3, NUM_PHASE_FEATURES)
    torch.testing.assert_close(phase_features(around.centre / TILE + 3), around.phase, atol=1e-4, rtol=0)


def test_a_centre_on_an_edge_has_one_phase_whatever_float32_makes_of_it():
    edges = torch.arange(-50, 50).float()[:, None].expand(-1, 2)
    below, above = (phase_features(edges + off) for off in (-1e-5, 1e-5))
    torch.testing.assert_close(below, above, atol=1e-3, rtol=0)


def free_flight(head: MotionHead) -> MotionHead:
    """Flights keep all of the last motion and push nothing."""
    torch.nn.init.zeros_(head.flight.weight)
    bias = torch.zeros(2, 2 * FREE)
    bias[:, :FREE] = 100
    head.flight.bias.data = bias.flatten()
    return head


def test_free_flight_goes_on_and_contacts_land_on_their_phase():
    torch.manual_seed(0)
    head = free_flight(MotionHead(config())).requires_grad_(False)
    head.contact_phase.data = torch.rand(2, CONTACTS, generator=torch.Generator().manual_seed(2))
    rng = torch.Generator().manual_seed(1)
    last = 8 * torch.randn(40, 2, generator=rng)
    around = surroundings(
        canvas_with_floor(torch.full((40,), 5)), 20 * torch.randn(40, 2, generator=rng), config()
    )
    action = torch.eye(3)[torch.randint(3, (40,), generator=rng)]
    found = head(torch.zeros(40, 4), around, last, action)
    torch.testing.assert_close(found.motion[..., :FREE], last[..., None].expand(-1, -1, FREE))
    torch.testing.assert_close(found.log_probs.exp().sum(-1), torch.ones(40, 2))
    assert not found.motion[..., -1].any()  # the last outcome is to stand still
    stopped = found.motion[..., FREE:-1].unflatten(-1, (FREE, CONTACTS))
    place = (around.centre[..., None, None] - stopped) / TILE - head.contact_phase[:, None]
    torch.testing.assert_close(place, torch.round(place), atol=1e-4, rtol=0)
    assert ((stopped - last[..., None, None]).abs() <= TILE / 2 + 1e-4).all()  # the nearest such place
    shifted = (around.centre[..., None, None] - stopped.roll(1, -1)) / TILE - head.contact_phase[:, None]
    assert (shifted - torch.round(shifted)).abs().mean() > 0.1  # each has its own phase


def test_contacts_are_those_of_their_own_flight():
    """A jump and a fall, far apart, are stopped at different places of the same phase."""
    torch.manual_seed(0)
    head = free_flight(MotionHead(config())).requires_grad_(False)
    head.flight.bias.data = torch.tensor([[100.0, 100.0, 0.0, 6.0], [100.0, 100.0, 0.0, 6.0]]).flatten()
    around = surroundings(canvas_with_floor(torch.full((5,), 5)), torch.zeros(5, 2), config())
    found = head(torch.zeros(5, 4), around, torch.zeros(5, 2), torch.eye(3)[[0] * 5])
    stopped = found.motion[..., FREE:-1].unflatten(-1, (FREE, CONTACTS))
    assert (stopped[:, :, 0].abs() <= TILE / 2).all()
    assert ((stopped[:, :, 1] - 6).abs() <= TILE / 2).all()


@pytest.mark.parametrize(("off", "moved"), [(0.02, "motion"), (3.0, "flight")])
def test_an_outcome_that_is_nearly_right_moves_itself_and_one_far_off_its_flight(off, moved):
    outcome = {name: torch.full((1, 2, 1), 2.0, requires_grad=True) for name in ("motion", "flight")}
    MotionOutcomes(outcome["motion"], torch.zeros(1, 2, 1), outcome["flight"]).loss(
        torch.full((1, 2), 2.0 - off), 0.05
    ).sum().backward()
    slope = {name: one.grad.abs().mean().item() for name, one in outcome.items()}
    assert slope.pop(moved) > 20 * slope.popitem()[1]


def test_hats_interpolate_between_their_knots():
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    features = hats(x, 0.0, 1.0, 11)
    knots = torch.linspace(0, 1, 11).repeat(2)
    assert features.shape == (20, 22)
    torch.testing.assert_close((features * knots).unflatten(1, (2, 11)).sum(-1), x)
    torch.testing.assert_close(features.unflatten(1, (2, 11)).sum(-1), torch.ones(20, 2))
    assert ((features > 0).sum(1) <= 4).all()


def physics(n: int, rng: torch.Generator):
    """Steps of a player half a tile high above a floor: canvas, centre, last motion, action and motion.

    Gravity is a fifth of a tile, a jump 1.5 tiles and from the floor alone; sideways it slows by a fifth.
    Motion is the picture's, against the player's.
    """
    floor = torch.randint(3, 6, (n,), generator=rng)
    stand = (floor - 0.5) * TILE
    rests = torch.rand(n, generator=rng) < 0.4
    y = torch.where(rests, stand, stand - 0.1 - 8 * torch.rand(n, generator=rng))
    vy = torch.where(rests, 0.0, 7 * torch.rand(n, generator=rng) - 5)
    vx = 4 * torch.rand(n, generator=rng) - 2
    action = torch.randint(0, 3, (n,), generator=rng)
    speed = torch.where(rests & (action == UP), -1.5 * TILE, vy + 0.2 * TILE)
    moved = torch.stack([torch.minimum(y + speed, stand) - y, 0.8 * vx + 0.4 * (action == RIGHT)], 1)
    centre = torch.stack([y, TILE * 4 * torch.rand(n, generator=rng)], 1)
    around = surroundings(canvas_with_floor(floor), centre - 8, config())
    return around, -torch.stack([vy, vx], 1), torch.nn.functional.one_hot(action, 3).float(), -moved


def learned_error(seed: int, blind: bool = False) -> torch.Tensor:
    """Errors in pixels on 2,000 new steps after some seconds of training; blind: without the tiles."""
    torch.manual_seed(seed)
    head = MotionHead(config())
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3, fused=True)
    rng = torch.Generator().manual_seed(seed)
    batches = 150 if blind else 700

    def outcomes(n):
        around, last, action, moved = physics(n, rng)
        around = around._replace(tiles=torch.zeros_like(around.tiles)) if blind else around
        return head(torch.zeros(n, 4), around, last, action), moved

    for batch in range(batches):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - batch / batches)
        found, moved = outcomes(128)
        optimizer.zero_grad()
        found.loss(moved, 0.1).mean().backward()
        optimizer.step()
    with torch.no_grad():
        found, moved = outcomes(2000)
        return (found.choose() - moved).abs().amax(-1)


def test_falling_landing_and_jumping_are_learned_in_seconds_and_not_without_the_tiles():
    for seed in range(2):
        error = learned_error(seed)
        assert error.median() < 0.02
        assert error.quantile(0.9) < 0.1
    assert learned_error(0, blind=True).quantile(0.95) > 0.5
