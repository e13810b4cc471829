"""The world model's parts against independent computations, and that it learns what actions do."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.checkpoints import BadCheckpoint, save_checkpoint
from common.runs import UsageError
from generative.model.canvas import base_tile, read_window
from generative.model.categorical import sample_categorical
from generative.model.config import LossScales, WorldModelConfig, load_preset
from generative.model.frames import frames_to_bytes, round_frames
from generative.model.latent import agent_burn_in
from generative.model.painter import TileEncoder
from generative.model.world_model import Latent, WorldModel
from generative.model.world_model_file import load_world_model, read_world_model
from generative.simulator import Simulator
from generative.training.errors import uniformity_loss
from generative.training.losses import loss_terms, total_loss
from generative.training.teacher_forcing import read_windows, true_view
from tests.helpers.decision.toy_windows import STEPS, K, agent, model, noise_for, segment, store  # noqa: F401
from tests.helpers.toy_world import NOOP, toy_config

BAD_SHAPES = [dict(obs_shape=(60, 64, 3)), dict(obs_shape=(64, 4, 3)), dict(num_initializing_steps=1)]
BAD_SHAPES += [dict(canvas_tiles=5), dict(precision="fp8"), dict(latent="cube"), dict(sprite_pixels=65)]
BAD_SHAPES += [dict(tile_pixels=0.5), dict(tile_pixels=math.nan), dict(texels=2)]
Z = toy_config().latent_size


def random_state(model, n: int = 3, seed: int = 0):
    """Start states of random latents, in the middle of a canvas that is known all over."""
    rng = torch.Generator().manual_seed(seed)
    state = model.start(torch.randn(n, Z, generator=rng)).env
    canvas = 2 * torch.rand(state.canvas.shape, generator=rng) - 1
    canvas[..., -1] = 1
    return model.paint(state._replace(canvas=canvas, position=4 + torch.rand(n, 2, generator=rng)))


@pytest.mark.parametrize(
    ("precision", "units", "half"),
    [("auto", True, True), ("auto", False, False), ("bf16", False, True), ("fp32", True, False)],
)
def test_convolutions_run_in_the_precision_asked_for(precision, units, half, monkeypatch):
    monkeypatch.delenv("WORLDLENS_PRECISION", raising=False)
    monkeypatch.setattr("common.precision.bf16_is_faster", lambda device_type: units)
    torch.manual_seed(0)
    encoder = TileEncoder(toy_config(precision=precision))
    frames = torch.rand(2, 8, 8, 3)
    whole = encoder.double()(frames.double(), torch.zeros(2, 2).double()).codes
    error = (encoder.float()(frames, torch.zeros(2, 2)).codes - whole).abs().max()
    assert (error > 1e-4) == half
    assert error < 0.1


def test_draw_is_one_hot_forward_and_probabilities_backward():
    logits = torch.log_softmax(
        torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), -1
    ).requires_grad_()
    noise = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)) * 3
    weights = torch.arange(5.0)
    hard = sample_categorical(logits, noise)
    assert torch.equal(hard.argmax(-1), (logits + noise).argmax(-1))
    assert set(hard.unique().tolist()) == {
        0.0,
        1.0,
    }
    assert not torch.equal(hard.argmax(-1), logits.argmax(-1))
    through = torch.autograd.grad((hard * weights).sum(), logits)[0]
    soft = torch.autograd.grad((torch.softmax(logits, -1) * weights).sum(), logits)[0]
    torch.testing.assert_close(through, soft)
    torch.testing.assert_close(sample_categorical(logits, noise, "relaxed"), logits.exp())
    with pytest.raises(ValueError, match="hard or relaxed"):
        sample_categorical(logits, noise, "soft")


def test_rounding_to_8_bits_passes_the_gradient_unchanged():
    frames = (torch.rand(2, 4, 4, 3) * 1.4 - 0.2).requires_grad_()  # some beyond black and white
    rounded = round_frames(frames)
    weights = torch.rand(2, 4, 4, 3)
    torch.testing.assert_close(rounded * 255, torch.round(frames * 255).clamp(0, 255), rtol=0, atol=1e-4)
    assert torch.equal(torch.round(rounded * 255).to(torch.uint8), frames_to_bytes(frames))
    torch.testing.assert_close(torch.autograd.grad((rounded * weights).sum(), frames)[0], weights)


def test_the_latent_is_read_in_the_order_of_the_frames_and_is_sampled_as_a_gaussian(model, segment):
    memory = torch.zeros(segment.mask.shape[1], 8)
    latent = model.encode(segment.obs[:K], memory)
    assert not torch.allclose(latent.mean, model.encode(segment.obs[:K].flip(0), memory).mean, atol=1e-4)
    assert not torch.allclose(latent.mean, model.encode(segment.obs[:K], memory + 1).mean, atol=1e-4)
    assert torch.equal(latent.sample(None), latent.mean)
    wide = Latent(torch.full((100_000, 1), 2.0), torch.full((100_000, 1), math.log(9.0)))
    drawn = wide.sample(torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0)))
    assert drawn.mean().item() == pytest.approx(2, abs=0.05)
    assert drawn.std().item() == pytest.approx(3, abs=0.05)


def test_what_the_agent_remembers_is_that_of_the_frames_before_the_last(segment, agent):
    frames = segment.obs[:K]
    zeros = agent.initial_state(segment.mask.shape[1])
    none = torch.zeros(len(zeros), dtype=torch.bool)
    with torch.no_grad():
        expected = agent.advance(frames[1], agent.advance(frames[0], zeros, none, None), none, None)
    torch.testing.assert_close(agent_burn_in(agent, frames), expected)
    simulator = Simulator(WorldModel(toy_config()), agent, NOOP)
    torch.testing.assert_close(simulator.agent_burn_in(frames), expected)
    assert not Simulator(simulator.model, agent, NOOP, own_agent=False).agent_burn_in(frames).any()


def test_the_agents_start_trains_the_latent_only_where_asked(model):
    z = torch.randn(2, Z, requires_grad=True)
    for detach in (True, False):
        start = model.start(z, detach_agent=detach)
        reached = torch.autograd.grad(start.hidden.sum() + start.action_logits.sum(), z, allow_unused=True)[0]
        assert (reached is None) == detach
    assert start.hidden.abs().max() < 1
    free = WorldModel(toy_config(bounded_hidden=False))
    free.start_hidden_head[-1].weight.data.mul_(100)
    assert free.start(z).hidden.abs().max() > 1


def test_a_latent_on_the_sphere_has_unit_length_and_random_ones_cover_it(segment, agent):
    torch.manual_seed(0)
    sphere = WorldModel(toy_config(latent="sphere"))
    normal = WorldModel(toy_config())
    latent = sphere.encode(segment.obs[:K], agent_burn_in(agent, segment.obs[:K]))
    noise = torch.randn(2000, Z, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(latent.mean.norm(dim=-1), torch.ones(len(latent.mean)))
    assert torch.equal(latent.sample(noise[: len(latent.mean)]), latent.mean)
    assert latent.log_variance is None
    drawn = sphere.random_latent(noise)
    torch.testing.assert_close(drawn.norm(dim=-1), torch.ones(2000))
    torch.testing.assert_close(drawn * noise.norm(dim=-1, keepdim=True), noise)
    assert torch.equal(normal.random_latent(noise), noise)
    noise = noise_for(sphere, segment)
    terms = loss_terms("latent", sphere, segment, noise, agent)
    assert terms["bottleneck"].item() == pytest.approx(uniformity_loss(latent.mean).item(), rel=1e-3)
    total_loss(terms, LossScales()).backward()
    assert all(p.grad is not None and p.grad.any() for p in sphere.latent_head.parameters())


def test_frames_need_not_be_square():
    torch.manual_seed(0)
    config = toy_config(obs_shape=(16, 40, 3), canvas_tiles=24)
    model = WorldModel(config)
    frames = torch.randint(0, 256, (3, 2, 16, 40, 3), dtype=torch.uint8)
    assert config.view_shape == (9, 21)
    seen = (frames / 255).requires_grad_()
    latent = model.encode(seen, torch.zeros(2, 8))
    state = model.start(latent.mean).env
    assert state.frame.shape == (2, 16, 40, 3)
    reached = torch.autograd.grad((latent.mean * torch.randn_like(latent.mean)).sum(), seen)[0]
    assert reached[-1].ne(0).float().mean() > 0.99
    after = model.step(state, torch.tensor([0, 1]), torch.zeros(2, *config.noise_shape))
    assert (after.frame[0] - after.frame[1]).ne(0).float().mean() > 0.99


def test_presets_have_the_sizes_that_they_promise():
    sizes = {}
    for name in ("tiny", "small", "paper"):
        config, _ = load_preset(name, {"num_actions": 15}, {})
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in WorldModel(config).parameters())
    assert sizes["tiny"] < 1.3e6
    assert sizes["small"] <= 5e6
    assert 27e6 < sizes["paper"] < 36e6


@pytest.mark.parametrize("bad", BAD_SHAPES)
def test_shapes_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError):
        WorldModelConfig(**({"num_actions": 15} | bad))
    with pytest.raises(UsageError, match="tiny"):
        load_preset("tiny", {"num_actions": 15} | bad, {})


def test_a_model_file_of_the_former_design_names_its_successor(tmp_path):
    path = tmp_path / "model.safetensors"
    config = {"num_actions": 15, "map_channels": 32, "latent_cell": 16, "blocks": 8}
    save_checkpoint(path, {"model.x": torch.zeros(1)}, {"kind": "world model", "model": config})
    for read in (read_world_model, load_world_model):
        with pytest.raises(
            BadCheckpoint, match="former design.*train_gen_model.py.*pretrained/coinrun_simulator"
        ):
            read(path)
    config = {"num_actions": 15, "wings": 2}  # neither of the former design nor of this one
    save_checkpoint(path, {"model.x": torch.zeros(1)}, {"kind": "world model", "model": config})
    with pytest.raises(BadCheckpoint, match="does not know"):
        read_world_model(path)


def test_a_step_moves_the_view_and_leaves_what_it_does_not_see(model):
    """The position goes against the picture's motion; tiles out of view keep their bits."""
    model.requires_grad_(False)
    model.tile_dynamics.gate_head.bias[:] = 4.0
    before = random_state(model)
    after = model.step(before, torch.tensor([0, 1, 2]), torch.zeros(3, *model.config.noise_shape))
    torch.testing.assert_close(after.position, before.position - after.motion)
    assert after.motion.abs().max() > 0.01
    base = base_tile(after.position, 2.0)
    shape = model.config.view_shape
    assert not torch.equal(read_window(after.canvas, base, shape), read_window(before.canvas, base, shape))
    rest = 12 - shape[0]
    for corner, size in (((shape[0], 0), (rest, 12)), ((0, shape[1]), (12, rest))):
        outside = [read_window(state.canvas, base + torch.tensor(corner), size) for state in (before, after)]
        assert torch.equal(*outside)
    torch.testing.assert_close(after.sample.sum(-1), torch.ones(3, model.config.num_tiles))


def test_what_left_the_view_and_came_back_is_drawn_as_it_was(model):
    """With tiles that stay and a planted way there and back, the last frame is the first to the bit."""
    model.requires_grad_(False)
    model.tile_dynamics.gate_head.weight[:] = 0
    way = torch.tensor([[3.0, -2.5], [3.0, -2.5], [-3.0, 2.5], [-3.0, 2.5]])

    def frames(gate):
        model.tile_dynamics.gate_head.bias[:] = gate
        state = random_state(model)._replace(position=torch.full((3, 2), 4.5))
        shown = [model.paint(state).frame]
        for motion in way:
            moved, _ = model.move(state, torch.eye(model.config.num_actions)[:3])
            moved = moved._replace(position=state.position - motion, pose=state.pose)
            tiles = model.tiles_ahead(moved)
            logits = model.tile_dynamics.prior(tiles)
            state = model.paint(model.fill(moved, tiles, logits, sample_categorical(logits, None)))
            shown.append(state.frame)
        return shown

    stays, changes = frames(-100.0), frames(4.0)
    assert torch.equal(stays[-1], stays[0])
    assert not torch.equal(stays[2], stays[0])
    assert not torch.equal(changes[-1], changes[0])


def test_a_frame_is_written_where_it_is_new_and_as_far_as_its_gate_says_elsewhere(model):
    model.requires_grad_(False)
    config = model.config
    encoded = model.encode_frames(torch.rand(2, 8, 8, 3), torch.full((2, 2), 0.5))
    gate = torch.randn(encoded.gate.shape)
    encoded = encoded._replace(gate=gate)
    canvas = model.blank_canvas(2)
    canvas[:, :, 2:] = 0.3
    canvas[:, :, 2:, -1] = 1  # known from the third column on
    found = model.add_frame(canvas, encoded, torch.full((2, 2), 0.5))
    for row, column in np.ndindex(*config.view_shape):
        share, new = encoded.share[0, row, column].item(), encoded.codes[:, row, column]
        assert share == pytest.approx((0.75 if row in (0,) else 0.25 if row == 4 else 1) *
                                      (0.75 if column in (0,) else 0.25 if column == 4 else 1))  # fmt: skip
        mix = torch.sigmoid(gate[:, row, column])[:, None] if column >= 2 else 1.0
        old = canvas[:, row, column, :-1]
        torch.testing.assert_close(found[:, row, column, :-1], old + mix * (new - old))
        assert found[:, row, column, -1].eq(float(column >= 2 or share >= 0.5)).all()
    assert torch.equal(found[:, 5:], canvas[:, 5:])


def test_an_observed_state_keeps_nothing_that_its_prior_made_up(model):
    model.requires_grad_(False)
    state = random_state(model)
    canvas = model.blank_canvas(3)
    position, motion = torch.rand(3, 2), torch.ones(3, 2)
    encoded = model.encode_frames(torch.rand(3, 8, 8, 3), position)
    found = model.observe(state, canvas, encoded, position, motion)
    assert torch.equal(found.canvas, model.add_frame(canvas, encoded, position))
    assert torch.equal(found.position, position)
    assert torch.equal(found.motion, motion)
    assert torch.equal(found.pose, encoded.pose)
    assert torch.equal(found.vector, state.vector)
    assert found.frame.shape[-1] == 0  # it is not drawn


def test_the_state_as_a_vector_has_its_parts_in_order_and_the_stated_shapes(model):
    state = random_state(model)
    flat = model.flat_state(state)
    config = model.config
    assert flat.shape == (3, config.deter_size)
    vector, pose, motion, phase, codes = flat.split(
        [config.vector_size, config.pose_size, 2, 2, config.num_tiles * config.code_size], -1
    )
    assert torch.equal(vector, state.vector)
    assert torch.equal(pose, state.pose)
    torch.testing.assert_close(motion * config.tile_pixels, state.motion)
    torch.testing.assert_close(phase, (state.position / config.tile_pixels) % 1)
    first = torch.floor(state.position[0] / config.tile_pixels).long().tolist()
    row, column = 3, 1
    at = (row * config.view_shape[1] + column) * config.code_size
    torch.testing.assert_close(
        codes[0, at : at + config.code_size], state.canvas[0, first[0] + row, first[1] + column, :-1]
    )
    assert [part.shape[1:] for part in state] == [torch.Size(shape) for shape in model.state_shapes()]


def test_tiles_of_a_column_share_their_noise(model):
    rows, columns = model.config.view_shape
    noise = torch.rand(2, columns, model.config.classes)
    found = model.tile_noise(noise)
    assert found.shape == (2, *model.config.stoch_shape)
    for row, column in np.ndindex(rows, columns):
        assert torch.equal(found[:, row * columns + column], noise[:, column])


def still_and_moving_frames() -> torch.Tensor:
    """A still camera, and one that moves by 1 and 2 pixels per frame: [L, 2, H, W, C]."""
    height, width, _ = toy_config().obs_shape
    world = np.random.default_rng(0).integers(0, 256, (height + 16, width + 16, 3), np.uint8)
    cameras = [[(8, 8)] * 6, [(8 + t, 8 - t) for t in range(6)]]
    return torch.stack(
        [
            torch.stack([torch.from_numpy(world[r : r + height, c : c + width]) for r, c in at])
            for at in cameras
        ],
        1,
    )


def test_without_phases_the_start_is_where_training_says_it_is():
    """Else no weights could meet the target of the start's place."""
    model = WorldModel(toy_config(knows_phase=False))
    frames = still_and_moving_frames()
    shape = frames.shape[:2]
    segment = SimpleNamespace(extra={}, obs=frames, mask=torch.ones(shape, dtype=torch.bool))
    start = model.start(torch.randn(2, Z)).env.position
    for view in (true_view(model, segment), model.locate(frames), model.locate(frames[:K])):
        torch.testing.assert_close(view.position[K - 1], start, atol=1e-5, rtol=0)
    torch.testing.assert_close(start, torch.full_like(start, model.config.tile_pixels / 2))
    view = true_view(model, segment)
    assert torch.equal(view.position[:, 0], start[0].expand(len(frames), 2))
    assert (view.motion[:, 1].abs() - 1).abs().max() < 0.1


def test_with_phases_a_start_lies_in_its_first_tile():
    torch.manual_seed(0)
    model = WorldModel(toy_config(knows_phase=True))
    model.start_head.player_head[-1].weight.data.mul_(20)
    z = torch.randn(50, Z, requires_grad=True)
    env = model.start(z).env
    assert env.position.min() == 0
    assert 1.5 < env.position.max() < model.config.tile_pixels
    gradient = torch.autograd.grad(env.position.sum(), z, retain_graph=True)[0]
    assert gradient.abs().sum(-1).min() > 0  # also where it was clamped
    known = read_window(env.canvas, torch.zeros(50, 2, dtype=torch.int64), model.config.view_shape)[..., -1]
    assert known[:, :-1, :-1].sum() > known[:, -1].sum()
    assert known.min() == 0  # tiles of which less than half shows are not known
    assert not env.canvas[:, 5:].any()


def test_a_latent_is_encoded_as_in_training(model, segment, agent):
    """`encode` is what `read_windows` computes along the way, where frames say where they lie."""
    whole = read_windows(model, segment, agent, None, true_view(model, segment)).latent
    alone = model.encode(segment.obs[:K], agent_burn_in(agent, segment.obs[:K]))
    torch.testing.assert_close(alone.mean, whole.mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(alone.log_variance, whole.log_variance, rtol=1e-3, atol=1e-4)
    floats = model.encode(segment.obs[:K].float() / 255, agent_burn_in(agent, segment.obs[:K]))
    torch.testing.assert_close(floats.mean, alone.mean, rtol=1e-3, atol=1e-4)


def test_outcomes_are_read_from_their_logits(model):
    model.done_calibration.data = torch.tensor([0.05, -0.1])  # a tenth of what they do
    logits = torch.randn(7, model.config.reward_bins + 1)
    found = model.outcome(logits)
    torch.testing.assert_close(found.reward_logits, logits[:, :-1])
    torch.testing.assert_close(found.done_logit, math.exp(0.5) * logits[:, -1] - 1)
    probabilities = torch.softmax(logits[:, :-1], -1)
    torch.testing.assert_close(model.reward(found), (probabilities * model.bins).sum(-1))
    torch.testing.assert_close(
        model.reward_probability(found), probabilities[:, model.config.reward_bins // 2 + 1 :].sum(-1)
    )
