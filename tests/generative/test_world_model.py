"""The world model's parts against independent computations, and that it learns what actions do."""

import math

import numpy as np
import pytest
import torch

from common.runs import UsageError
from generative.model.categorical import sample_categorical
from generative.model.config import LossScales, WorldModelConfig, load_preset
from generative.model.frames import FrameEncoder, frames_to_bytes, round_frames
from generative.model.latent import agent_burn_in
from generative.model.layers import BlockLinear
from generative.model.motion import warp_features
from generative.model.rssm import BlockGRU
from generative.model.warped_conv_gru import WarpedConvGRU
from generative.model.world_model import Latent, WorldModel
from generative.simulator import NoiseKeys, Simulator, freeze
from generative.training.errors import uniformity_loss
from generative.training.losses import loss_terms, total_loss
from generative.training.teacher_forcing import draw_noise
from tests.helpers.toy_windows import LENGTH, STEPS, K, agent, model, noise_for, segment, store  # noqa: F401
from tests.helpers.toy_world import NOOP, SIZE, square_at, toy_config, toy_episode

BAD_SHAPES = [dict(obs_shape=(60, 64, 3)), dict(obs_shape=(64, 4, 3)), dict(num_initializing_steps=1)]
BAD_SHAPES += [dict(blocks=7), dict(precision="fp8"), dict(latent="cube")]


def test_no_parameter_is_dead(segment, agent):
    torch.manual_seed(0)
    model = WorldModel(toy_config())
    freeze(agent)
    terms = loss_terms(model, segment, noise_for(model, segment), agent)
    total_loss(terms, LossScales()).backward()
    behind_zero_init = {f"outcome_head.0.{part}.{kind}" for part in (0, 1) for kind in ("weight", "bias")}
    behind_zero_init |= {
        f"outcome_encoder.layers.{layer}.{kind}"
        for layer in (1, 2, 4, 5, 7, 8)
        for kind in ("weight", "bias")
    }
    dead = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert dead == behind_zero_init
    assert all(p.grad is None for p in agent.parameters())
    torch.nn.init.normal_(model.outcome_head[-1].weight)
    total_loss(loss_terms(model, segment, noise_for(model, segment), agent), LossScales()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("precision", "units", "half"),
    [("auto", True, True), ("auto", False, False), ("bf16", False, True), ("fp32", True, False)],
)
def test_convolutions_run_in_the_precision_asked_for(precision, units, half, monkeypatch):
    monkeypatch.delenv("WORLDLENS_PRECISION", raising=False)
    monkeypatch.setattr("common.precision.bf16_is_faster", lambda device_type: units)
    torch.manual_seed(0)
    encoder = FrameEncoder(toy_config(precision=precision))
    frames = torch.rand(2, 16, 16, 3)
    whole = encoder.double()(frames)
    error = (encoder.float()(frames) - whole).abs().max()
    assert (error > 1e-3) == half
    assert error < 0.1


def test_outcomes_are_read_where_the_picture_moves_to():
    torch.manual_seed(0)
    model = WorldModel(toy_config(precision="fp32"))
    rng = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(model.outcome_head[-1].weight)
    model.done_calibration.data = torch.tensor([0.05, -0.1])  # a tenth of what they do
    start = model.start(torch.randn(4, model.config.latent_size, generator=rng)).env
    before = torch.rand(4, *model.config.obs_shape, generator=rng)
    prior = start._replace(motion=torch.tensor([[2.0, 0.0], [0.0, -3.0], [1.0, 1.0], [0.0, 0.0]]))
    found = model.outcome(prior.deter, prior.motion, before).done_logit
    picture = torch.cat(
        [before - 0.5, torch.ones_like(before[..., :1])], -1
    )  # the last channel: what the picture before covers
    moved = torch.zeros_like(picture)
    moved[0, 2:], moved[1, :, :-3], moved[2, 1:, 1:], moved[3] = (
        picture[0, :-2],
        picture[1, :, 3:],
        picture[2, :-1, :-1],
        picture[3],
    )
    seen = model.outcome_encoder(moved.permute(0, 3, 1, 2))
    read = torch.cat([prior.deter[:, : model.config.vector_size], seen], -1)
    torch.testing.assert_close(found, math.exp(0.5) * model.outcome_head(read)[:, -1] - 1)
    assert (
        (found - model.outcome(prior.deter, torch.zeros(4, 2), before).done_logit).abs() > 1e-4
    ).tolist() == [True, True, True, False]


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


def test_block_gru_equals_dense_matrices_with_zeros_between_blocks():
    torch.manual_seed(0)
    config = toy_config()
    gru = BlockGRU(config, (32, 5))
    blocks = config.blocks
    width = config.vector_size // config.blocks
    shared_width = 3 * config.units
    vector = torch.tanh(torch.randn(2, 64))
    sample = torch.softmax(torch.randn(2, 8, 4), -1).flatten(1)
    action = torch.eye(5)[:2]
    mix = torch.zeros(64 + shared_width, 64)
    gates = torch.zeros(64, 3 * 64)
    for g in range(blocks):
        own = slice(g * width, (g + 1) * width)
        mix[own, own] = gru.mix.weight[g, :width]
        mix[64:, own] = gru.mix.weight[g, width:]
        for part in range(3):
            gates[own, part * 64 + g * width : part * 64 + (g + 1) * width] = gru.gates.weight[
                g, :, part * width : (part + 1) * width
            ]
    gru.gates.bias.data.normal_()
    bias = torch.cat([gru.gates.bias[:, 0, part * width : (part + 1) * width].flatten() for part in range(3)])
    shared = torch.cat([layer(x) for layer, x in zip(gru.input_layers, (vector, sample, action))], -1)
    reset, candidate, update = (
        gru.norm(torch.cat([vector, shared], -1) @ mix + gru.mix.bias.flatten()) @ gates + bias
    ).chunk(3, -1)
    update = torch.sigmoid(update - 1)
    expected = update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * vector
    torch.testing.assert_close(gru(vector, sample, action), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(
        BlockLinear(2, 3, 3)(torch.ones(1, 2, 3))[0, 0], BlockLinear(2, 3, 3)(torch.ones(1, 2, 3))[0, 1]
    )


@pytest.fixture
def memory():
    """The map's recurrence of a wide picture: 4 x 6 cells."""
    torch.manual_seed(0)
    return WarpedConvGRU(toy_config(obs_shape=(16, 24, 3)))


def test_an_untrained_maps_gates_write_where_they_are_told(memory):
    cells = torch.randn(2, 8, 4, 6).clamp(-1, 1)
    known = torch.rand(2, 32 + 16, 2, 3)
    vector = torch.randn(2, 64)
    motion = 4 * torch.randn(2, 2)
    torch.nn.init.zeros_(memory.gates.weight)
    gates = torch.zeros(3, 8)  # reset, candidate, update
    for update, candidate in ((-100.0, 3.0), (100.0, 3.0)):
        gates[0], gates[1], gates[2] = 100, candidate, update
        memory.gates.bias.data = gates.flatten()
        expected = (
            warp_features(cells, motion / 4) if update < 0 else torch.full_like(cells, math.tanh(candidate))
        )
        torch.testing.assert_close(memory(cells, known, vector, motion), expected)


def test_what_a_cell_holds_is_drawn_and_read_where_it_lies(model):
    config = toy_config(obs_shape=(32, 48, 3), latent_cell=2)
    model = WorldModel(config).requires_grad_(False)
    state = model.start(torch.randn(1, config.latent_size)).env
    deter = state.deter.clone()
    draw = state.sample
    at = (
        config.vector_size + (2 * config.map_shape[1] + 7) * config.map_channels
    )  # row 2, column 7 of the map
    deter[:, at : at + config.map_channels] += 1
    rows, columns = (model.decoder(deter, draw) - state.frame).abs().sum((0, 3)).nonzero().T
    assert 2 * 4 - 9 <= rows.min() < 10 < rows.max() < 2 * 4 + 13
    assert 7 * 4 - 9 <= columns.min() < 30 < columns.max() < 7 * 4 + 13
    frames = torch.full((3, 96, 128, 3), 0.2)
    frames[1, 48:56, 64:72] = frames[2, 40:48, 48:56] = torch.rand(8, 8, 3)  # in cell 6, 8 and in cell 5, 6
    nothing, one, other = model.embed(frames).reshape(3, 12, 16, -1)
    there, moved = ((x - nothing).abs().sum(-1) for x in (one, other))
    rows, columns = there.nonzero().T
    assert rows.min() == 6 - 2
    assert rows.max() == 6 + 2
    assert columns.min() == 8 - 2
    assert columns.max() == 8 + 2
    torch.testing.assert_close(moved[3:8, 4:9], there[4:9, 6:11])


def test_rounding_to_8_bits_passes_the_gradient_unchanged():
    frames = (torch.rand(2, 4, 4, 3) * 1.4 - 0.2).requires_grad_()  # some beyond black and white
    rounded = round_frames(frames)
    weights = torch.rand(2, 4, 4, 3)
    torch.testing.assert_close(rounded * 255, torch.round(frames * 255).clamp(0, 255), rtol=0, atol=1e-4)
    assert torch.equal(torch.round(rounded * 255).to(torch.uint8), frames_to_bytes(frames))
    torch.testing.assert_close(torch.autograd.grad((rounded * weights).sum(), frames)[0], weights)


def test_frames_in_any_chunking_and_either_type_give_one_embedding(model, segment, monkeypatch):
    obs = segment.obs[:, :3]
    together = model.embed(obs)
    monkeypatch.setattr("generative.model.layers.CHUNK", {"cpu": 4})
    torch.testing.assert_close(model.embed(obs), together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.embed(obs.float() / 255), together, rtol=1e-4, atol=1e-5)
    assert together.shape == (*obs.shape[:2], model.config.num_cells * model.config.depth)
    state = model.start(torch.zeros(2, 16)).env
    assert model.decode(state).shape == (2, SIZE, SIZE, 3)


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
    z = torch.randn(2, 16, requires_grad=True)
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
    noise = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(latent.mean.norm(dim=-1), torch.ones(len(latent.mean)))
    assert torch.equal(latent.sample(noise[: len(latent.mean)]), latent.mean)
    assert latent.log_variance is None
    drawn = sphere.random_latent(noise)
    torch.testing.assert_close(drawn.norm(dim=-1), torch.ones(2000))
    torch.testing.assert_close(drawn * noise.norm(dim=-1, keepdim=True), noise)
    assert torch.equal(normal.random_latent(noise), noise)
    terms = loss_terms(
        sphere,
        segment,
        draw_noise(sphere.config, STEPS, segment.mask.shape[1], torch.Generator().manual_seed(0)),
        agent,
    )
    assert terms["bottleneck"].item() == pytest.approx(uniformity_loss(latent.mean).item(), rel=1e-4)
    total_loss(terms, LossScales()).backward()
    assert all(p.grad is not None and p.grad.any() for p in sphere.latent_head.parameters())


def test_frames_need_not_be_square():
    torch.manual_seed(0)
    config = toy_config(obs_shape=(16, 40, 3))
    model = WorldModel(config)
    frames = torch.randint(0, 256, (2, 16, 40, 3), dtype=torch.uint8)
    assert model.embed(frames).shape == (2, config.num_cells * config.depth)
    assert config.grid_shape == (2, 5)
    assert config.map_shape == (4, 10)
    picture = model.decoder(
        torch.randn(2, config.deter_size), torch.randn(2, *config.stoch_shape), torch.randn(2, 16, 40, 4)
    )
    assert picture.shape == (2, 16, 40, 3)
    seen = frames.float().div(255).requires_grad_()
    embedding = model.embed(seen)
    reached = torch.autograd.grad((embedding * torch.randn_like(embedding)).sum(), seen)[0]
    assert reached.ne(0).float().mean() > 0.99
    assert (picture[0] - picture[1]).ne(0).float().mean() > 0.99


def test_presets_have_the_sizes_that_they_promise():
    sizes = {}
    for name in ("tiny", "small", "paper"):
        config, _ = load_preset(name, {"num_actions": 15}, {})
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in WorldModel(config).parameters())
    assert sizes["tiny"] < 1e6
    assert sizes["small"] <= 7.5e6
    assert 27e6 < sizes["paper"] < 31e6


@pytest.mark.parametrize("bad", BAD_SHAPES)
def test_shapes_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError):
        WorldModelConfig(**({"num_actions": 15} | bad))
    with pytest.raises(UsageError, match="tiny"):
        load_preset("tiny", {"num_actions": 15} | bad, {})


@pytest.mark.slow
def test_a_tiny_model_learns_what_actions_do(store, agent):
    """After some seconds it foresees the square's place under the true actions, and not under shifted ones;
    and it knows the goal.
    """
    torch.manual_seed(0)
    model = WorldModel(toy_config())
    rng = np.random.default_rng(0)
    windows = store.windows(K + 2, min_steps=K)
    short = 3
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    scales = LossScales(loss_scale_bottleneck=0.003)
    for step in range(600):
        batch = windows.sample(rng, 32)
        noise = draw_noise(model.config, short, 32, torch.Generator().manual_seed(step), extra_starts=3)
        optimizer.zero_grad()
        total_loss(loss_terms(model, batch, noise, agent, 0, free_nats=0.05), scales).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
    fresh = np.random.default_rng(9)
    long = [e for e in (toy_episode(fresh, LENGTH) for _ in range(300)) if len(e["obs"]) == LENGTH]
    obs, action, won = (
        torch.from_numpy(np.stack([e[name] for e in long], 1)) for name in ("obs", "action", "terminated")
    )
    simulator = Simulator(model, agent, NOOP)
    z = simulator.encode(obs[:K]).mean
    truth = square_at(obs[K - 1 :])

    def run(actions):
        out = simulator.simulate(
            z, STEPS, NoiseKeys(0, np.arange(len(long))), actions=actions, use_mode=True, ends=False
        )
        return (square_at(out.obs) == truth).mean(1), out

    right, out = run(action[K - 1 :])
    wrong, _ = run(action[K - 1 :].roll(1, 0))
    assert right[0] > 0.95, right
    assert right[1:4].min() > 0.9, right
    assert wrong[1:4].max() < right[1:4].min() - 0.3, (right, wrong)
    reached = won[K - 1 :]
    done = out.extra["done_prob"][-1]
    assert reached[-1].any()
    assert done[reached[-1]].mean() > 5 * done[~reached[-1]].mean()
    assert out.reward[-1][reached[-1]].mean() > 5 * out.reward[-1][~reached[-1]].mean()
