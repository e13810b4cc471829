"""The world model's parts against independent computations, its losses against a slow loop, and that it learns what actions do."""

import math

import numpy as np
import pytest
import torch
from toy_world import NOOP, SIZE, square_at, toy_agent, toy_config, toy_episode, with_agent, write_toy_store
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from common.runs import UsageError
from generative import twohot
from generative.categorical import balanced_kl, draw, kl, with_uniform
from generative.config import LossScales, WorldModelConfig, load_preset
from generative.detail import detail
from generative.frames import frames_to_bytes, round_frames
from generative.latent import remembered
from generative.layers import BlockLinear
from generative.losses import SCALE_OF, TERMS, crowding, draw_noise, image_error, loss_terms, psnr, total_loss
from generative.map_memory import MapMemory
from generative.model import Latent, WorldModel
from generative.motion import carried, measured, moved_cells
from generative.rssm import BlockGRU, EnvState
from generative.simulator import NoiseKeys, Simulator, freeze

K, STEPS = 3, 6
LENGTH = K + STEPS - 1
FREE, RUNS, BLIND, MORE = 3, 2, 4, 2


@pytest.fixture(scope="module")
def agent():
    return toy_agent()


@pytest.fixture(scope="module")
def store(tmp_path_factory, agent):
    rng = np.random.default_rng(0)
    episodes = [with_agent(toy_episode(rng, 16), agent) for _ in range(250)]
    return write_toy_store(tmp_path_factory.mktemp("toy") / "store", episodes, agent)


@pytest.fixture(scope="module")
def segment(store):
    """Windows of every kind: full, ending inside, and ending right after the first simulated frame."""
    windows = store.windows(LENGTH, min_steps=K)
    lengths = np.minimum(store.episodes["length"][windows.table[:, 0]] - windows.table[:, 1], LENGTH)
    ended = store.episodes["end"][windows.table[:, 0]] == "terminated"
    chosen = [np.flatnonzero((lengths == length) & ended)[0] for length in range(K, LENGTH + 1)]
    return windows.batch(np.array([*chosen, *np.flatnonzero(lengths == LENGTH)[5:9]]))


@pytest.fixture()
def model():
    torch.manual_seed(1)
    model = WorldModel(toy_config())
    torch.nn.init.normal_(model.outcome_head[-1].weight, std=0.3)  # it starts at zero, where a shifted target would not show
    return model


def noise_for(model, segment, seed=0, free=(FREE, RUNS)):
    return draw_noise(model.config, STEPS, segment.mask.shape[1], torch.Generator().manual_seed(seed), *free, MORE)


def top_hat(obs):
    """The larger top-hat of a frame [H, W, C], by PyTorch's max-pool."""
    x = obs.float().movedim(-1, 0)[None]
    wide = lambda x, sign: sign * torch.nn.functional.max_pool2d(sign * x, 5, 1, 2)  # noqa: E731
    return torch.maximum(x - wide(wide(x, -1), 1), wide(wide(x, 1), -1) - x)[0].amax(0) / 255


def was_in_view(pixel, way):
    """Whether what a pixel shows was in the picture at every one of the moves `way`, the last of which led here."""
    at = torch.tensor(pixel, dtype=torch.float32)
    for move in reversed(way):
        at = at - move
        if (at < -0.5).any() or (at > SIZE - 0.5).any():
            return False
    return True


def huber(x):
    return torch.where(x.abs() < 1, x**2 / 2, x.abs() - 0.5).sum()


def brute_force_terms(model, segment, noise, agent, shift=0):
    """Every term, window by window and step by step, with PyTorch's own distributions. shift: a mutant's misaligned actions."""
    sums = {name: [] for name in TERMS}

    def outcomes(outcome, t, blind=""):
        weights = twohot.encode(segment.reward[t, b], model.bins)
        sums[f"{blind}reward"].append(-(weights * torch.log_softmax(outcome.reward_logits[0], -1)).sum())
        p = torch.sigmoid(outcome.done_logit[0])
        sums[f"{blind}done"].append(-torch.log(p if segment.terminated[t, b] else 1 - p))

    for b in range(segment.mask.shape[1]):
        steps = int(segment.mask[:, b].sum())
        seen = [segment.obs[t, b : b + 1] for t in range(LENGTH)]
        motion = [None, *(measured(torch.stack(seen[t - 1 : t + 1]))[0] for t in range(1, LENGTH))]
        starts = []
        for n, last in enumerate([K - 1, *(K - 1 + int(noise.at[n, b] * (steps - K + 1)) for n in range(MORE))]):
            memory, given = agent.initial_state(1), seen[last - K + 1 : last + 1]
            for frame in given[:-1]:
                memory = agent.advance(frame, memory, torch.tensor([False]), None)
            way = torch.stack(motion[last - K + 2 : last + 1])
            mean, log_variance = model.latent_head(torch.stack([model.encoder(frame) for frame in given]), way, memory)
            deviation = (log_variance / 2).exp()
            q = Independent(Normal(mean, deviation), 1)
            sums["bottleneck"].append(kl_divergence(q, Independent(Normal(torch.zeros_like(mean), 1.0), 1)))
            starts.append(model.start(mean + deviation * noise.z[n, b : b + 1], noise.first[n, b : b + 1]))
            sums["init_hidden"].append(((starts[-1].hidden[0] - segment.hidden[last, b]) ** 2).sum())
            sums["init_action"].append(-Categorical(logits=starts[-1].action_logits[0]).log_prob(segment.action[last - 1, b]))
            error = (starts[-1].env.picture[0] - segment.obs[last, b] / 255) ** 2
            sums["first"].append(error.sum())
            sums["first_detail"].append((error * top_hat(segment.obs[last, b])[..., None]).sum())
        state, states, foretold = starts[0].env, [starts[0].env], starts[0].env.motion
        for t in range(K - 1, steps):
            i = t - (K - 1)
            frame = state.picture[0]
            sums["motion"].append(huber(foretold - motion[t]))
            error = (frame - segment.obs[t, b] / 255) ** 2
            sums["image"].append(error.sum())
            sums["detail"].append((error * top_hat(segment.obs[t, b])[..., None]).sum())
            met = segment.hidden[t, b : b + 1], torch.tensor([False]), segment.reward[t - 1, b : b + 1]
            after = agent.advance(round_frames(frame)[None], *met)
            sums["hx"].append(((after[0] - segment.hidden[t + 1, b]) ** 2).sum())
            logits, value = agent.heads(after)
            sums["value"].append((value[0] - segment.value[t, b]) ** 2)
            then, now = Categorical(logits=segment.logits[t, b]), Categorical(logits=logits[0])
            sums["act_log_probs"].append(kl_divergence(then, now))
            action = torch.nn.functional.one_hot(segment.action[t - shift, b : b + 1], model.config.num_actions).float()
            deter, foretold = model.rssm.core(state.deter, state.sample, state.motion, model.encoder(seen[t]), action)
            prior = model.rssm.prior(deter, foretold, noise.prior[i, b : b + 1])
            outcomes(model.outcome(prior), t)
            if t + 1 < steps:
                state = model.rssm.posterior(deter, motion[t + 1], model.encoder(seen[t + 1]), noise.state[i, b : b + 1])
                own = model.decoder(deter, state.sample, carried(states[-1].picture, state.motion))
                if b < segment.mask.shape[1] / 2:
                    sums["repainted"].append(((own[0] - segment.obs[t + 1, b] / 255) ** 2).sum())
                state = state._replace(picture=model.decoder(deter, state.sample, carried(seen[t] / 255, state.motion)))
                divergence = kl_divergence(Categorical(logits=state.logits), Categorical(logits=prior.logits)).sum()
                sums["kl"].append(divergence)
                sums["kl_balanced"].append(1.1 * divergence.clamp(min=1.0))
                states.append(state)
        for run in range(RUNS):
            begin = int(noise.when[run, b] * (STEPS - FREE))
            state = states[begin] if begin < len(states) else None
            for i in range(FREE):
                if begin + i + 1 >= len(states):
                    break
                action = torch.nn.functional.one_hot(segment.action[K - 1 + begin + i - shift, b : b + 1], model.config.num_actions).float()
                state = model.step(state, action, noise.free[i, run * segment.mask.shape[1] + b, None])
                then = Categorical(logits=states[begin + i + 1].logits)
                sums["free_kl"].append(kl_divergence(then, Categorical(logits=state.logits)).sum())
                if i == FREE - 1:
                    sums["free_image"].append(((state.picture[0] - segment.obs[K + begin + i, b] / 255) ** 2).sum())
        begin = int(max(2 * noise.blind[b] - 1, 0) * (STEPS - BLIND))
        state, way = states[begin] if begin < len(states) else None, []
        for i in range(BLIND):
            if K - 1 + begin + i >= steps:
                break
            action = torch.nn.functional.one_hot(segment.action[K - 1 + begin + i - shift, b : b + 1], model.config.num_actions).float()
            deter, ahead = model.rssm.core(state.deter, state.sample, state.motion, model.encoder(state.picture), action)
            outcomes(model.outcome(model.rssm.prior(deter, ahead)), K - 1 + begin + i, "blind_")
            if begin + i + 1 >= len(states):
                break
            picture = model.decoder(deter, torch.zeros_like(state.sample), carried(state.picture, ahead))
            state = EnvState(deter, state.logits, torch.zeros_like(state.sample), ahead, picture)
            way.append(motion[K + begin + i][0])
            squares = ((picture[0] - segment.obs[K + begin + i, b] / 255) ** 2).sum(-1)
            sums["blind_image"].append(sum(squares[p] * (1.0 if was_in_view(p, way) else 0.1) for p in np.ndindex(*squares.shape)))
    return {name: torch.stack([x.squeeze() for x in values]).mean() for name, values in sums.items()}


def test_every_term_equals_a_slow_loop_and_a_shifted_action_does_not(model, segment, agent):
    with torch.no_grad():
        noise = noise_for(model, segment)
        fast = loss_terms(model, segment, noise, agent, blind_steps=BLIND)
        slow, mutant = brute_force_terms(model, segment, noise, agent), brute_force_terms(model, segment, noise, agent, shift=1)
    assert fast.keys() == set(TERMS)
    for name in TERMS:
        assert fast[name].item() == pytest.approx(slow[name].item(), rel=1e-4, abs=1e-6), name
    for name in ("image", "detail", "repainted", "blind_image", "motion", "reward", "done", "blind_reward", "blind_done", "kl", "free_kl", "free_image"):
        assert abs(mutant[name] - slow[name]) > 10 * abs(fast[name] - slow[name]), name


def test_what_lies_after_an_end_changes_no_term_and_the_last_step_changes_all(model, segment, agent):
    noise = noise_for(model, segment)

    def terms(edit):
        fields = {name: getattr(segment, name).clone() for name in ("obs", "action", "reward", "terminated", "logits", "value", "hidden")}
        edit(fields)
        with torch.no_grad():
            return loss_terms(model, type(segment)(**{**vars(segment), **fields}), noise, agent, blind_steps=BLIND)

    def garbage(fields, where):
        fields["obs"][where] = 77
        fields["action"][where] = 0
        fields["reward"][where] = 3.0
        fields["terminated"][where] ^= True
        fields["logits"][where] += torch.arange(5.0)
        fields["value"][where] += 9.0

    plain = terms(lambda fields: None)
    after_end = terms(lambda fields: garbage(fields, ~segment.mask))
    last = segment.mask & ~torch.cat([segment.mask[1:], torch.zeros_like(segment.mask[:1])])
    at_last = terms(lambda fields: garbage(fields, last))
    for name in TERMS:
        assert after_end[name] == plain[name], name
    for name in ("image", "detail", "reward", "done", "act_log_probs", "value"):
        assert at_last[name] != plain[name], name


def test_an_action_that_ends_an_episode_has_an_outcome_though_no_frame_follows(model, store):
    windows = store.windows(LENGTH, min_steps=K)
    length = store.episodes["length"][windows.table[:, 0]] - windows.table[:, 1]
    last = np.flatnonzero((length == K) & (store.episodes["end"][windows.table[:, 0]] == "terminated"))[:8]
    segment = windows.batch(last)  # the first simulated frame is the episode's last, and its action ends it
    terms = loss_terms(model, segment, noise_for(model, segment), toy_agent(), 0)
    gradient = torch.autograd.grad(terms["done"], model.outcome_head[-1].bias)[0][-1]
    assert gradient < -0.1  # every target in these windows is an end: the logit is pulled up
    assert terms["kl"] == 0 and terms["reward"] > 0


def test_no_parameter_is_dead(segment, agent):
    torch.manual_seed(0)
    model = WorldModel(toy_config())
    freeze(agent)
    terms = loss_terms(model, segment, noise_for(model, segment), agent)
    total_loss(terms, LossScales()).backward()
    behind_zero_init = {"outcome_head.0.0.weight", "outcome_head.0.0.bias", "outcome_head.0.1.weight", "outcome_head.0.1.bias"}
    dead = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert dead == behind_zero_init
    assert all(p.grad is None for p in agent.parameters())
    torch.nn.init.normal_(model.outcome_head[-1].weight)
    total_loss(loss_terms(model, segment, noise_for(model, segment), agent), LossScales()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_kl_of_groups_equals_torch_distributions():
    torch.manual_seed(0)
    raw = torch.randn(2, 7, 5, 4) * 3
    p, q = with_uniform(raw[0], 0.01), with_uniform(raw[1], 0.2)
    expected = kl_divergence(Independent(Categorical(logits=p), 1), Independent(Categorical(logits=q), 1))
    torch.testing.assert_close(kl(p, q), expected)
    mixed = 0.99 * torch.softmax(raw[0], -1) + 0.01 / 4
    torch.testing.assert_close(p.exp(), mixed)
    assert with_uniform(torch.tensor([100.0, -100.0]), 0.01).exp().min() == pytest.approx(0.005)


def test_balanced_kl_moves_the_prior_ten_times_as_much_and_stops_at_free_nats():
    p, q = (torch.log_softmax(torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(i)) * 3, -1).requires_grad_() for i in range(2))
    balanced_kl(p, q).sum().backward()
    towards_prior, towards_posterior = q.grad.clone(), p.grad.clone()
    p.grad = q.grad = None
    kl(p, q).sum().backward()
    torch.testing.assert_close(towards_prior, q.grad)
    torch.testing.assert_close(towards_posterior, 0.1 * p.grad)
    near = p.detach() + 1e-3
    close = near.clone().requires_grad_()
    loss = balanced_kl(p.detach(), close)
    loss.sum().backward()
    assert loss.item() == pytest.approx(1.1) and not close.grad.any()


def test_draw_is_one_hot_forward_and_probabilities_backward():
    logits = torch.log_softmax(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), -1).requires_grad_()
    noise, weights = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)) * 3, torch.arange(5.0)
    hard = draw(logits, noise)
    assert torch.equal(hard.argmax(-1), (logits + noise).argmax(-1)) and set(hard.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(hard.argmax(-1), logits.argmax(-1))
    through = torch.autograd.grad((hard * weights).sum(), logits)[0]
    soft = torch.autograd.grad((torch.softmax(logits, -1) * weights).sum(), logits)[0]
    torch.testing.assert_close(through, soft)
    torch.testing.assert_close(draw(logits, noise, "relaxed"), logits.exp())
    with pytest.raises(ValueError, match="hard or relaxed"):
        draw(logits, noise, "soft")


def test_two_hot_keeps_means_and_symlog_inverts():
    x = torch.tensor([-120.0, -3.3, 0.0, 0.01, 1.0, 10.0, 99.0])
    torch.testing.assert_close(twohot.symexp(twohot.symlog(x)), x)
    bins = twohot.make_bins(41, 5.0)
    weights = twohot.encode(x, bins)
    torch.testing.assert_close(weights.sum(-1), torch.ones(7))
    assert ((weights > 0).sum(-1) <= 2).all()
    torch.testing.assert_close(weights @ bins, x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(twohot.mean(torch.log(weights), bins), x, rtol=1e-5, atol=1e-5)
    assert twohot.encode(torch.tensor(1e6), bins)[-1] == 1
    best = twohot.cross_entropy(torch.log(weights + 1e-9), x, bins)
    assert (best < twohot.cross_entropy(torch.log(weights.roll(1, -1) + 1e-9), x, bins)).all()
    assert twohot.cross_entropy(torch.zeros(7, 41), x, bins)[0].item() == pytest.approx(math.log(41))


def test_block_gru_equals_dense_matrices_with_zeros_between_blocks():
    torch.manual_seed(0)
    config = toy_config()
    gru = BlockGRU(config, (32, 5))
    blocks, width, shared_width = config.blocks, config.vector_size // config.blocks, 3 * config.units
    vector, sample, action = torch.tanh(torch.randn(2, 64)), torch.softmax(torch.randn(2, 8, 4), -1).flatten(1), torch.eye(5)[:2]
    mix, gates = torch.zeros(64 + shared_width, 64), torch.zeros(64, 3 * 64)
    for g in range(blocks):
        own = slice(g * width, (g + 1) * width)
        mix[own, own] = gru.mix.weight[g, :width]
        mix[64:, own] = gru.mix.weight[g, width:]
        for part in range(3):
            gates[own, part * 64 + g * width : part * 64 + (g + 1) * width] = gru.gates.weight[g, :, part * width : (part + 1) * width]
    gru.gates.bias.data.normal_()
    bias = torch.cat([gru.gates.bias[:, 0, part * width : (part + 1) * width].flatten() for part in range(3)])
    shared = torch.cat([layer(x) for layer, x in zip(gru.inputs, (vector, sample, action))], -1)
    reset, candidate, update = (gru.norm(torch.cat([vector, shared], -1) @ mix + gru.mix.bias.flatten()) @ gates + bias).chunk(3, -1)
    update = torch.sigmoid(update - 1)
    expected = update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * vector
    torch.testing.assert_close(gru(vector, sample, action), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(BlockLinear(2, 3, 3)(torch.ones(1, 2, 3))[0, 0], BlockLinear(2, 3, 3)(torch.ones(1, 2, 3))[0, 1])


@pytest.fixture()
def memory():
    """The map's recurrence of a wide picture: 4 x 6 cells."""
    torch.manual_seed(0)
    return MapMemory(toy_config(obs_shape=(16, 24, 3)))


def test_an_untrained_maps_gates_write_where_they_are_told(memory):
    cells, known, vector, motion = torch.randn(2, 8, 4, 6).clamp(-1, 1), torch.rand(2, 32 + 16, 2, 3), torch.randn(2, 64), 4 * torch.randn(2, 2)
    torch.nn.init.zeros_(memory.gates.weight)
    gates = torch.zeros(3, 8)  # reset, candidate, update
    for update, candidate in ((-100.0, 3.0), (100.0, 3.0)):
        gates[0], gates[1], gates[2] = 100, candidate, update
        memory.gates.bias.data = gates.flatten()
        expected = moved_cells(cells, motion / 4) if update < 0 else torch.full_like(cells, math.tanh(candidate))
        torch.testing.assert_close(memory(cells, known, vector, motion), expected)


def test_what_a_cell_holds_is_drawn_and_read_where_it_lies(model):
    config = toy_config(obs_shape=(32, 48, 3), latent_cell=2)
    model = WorldModel(config).requires_grad_(False)
    state = model.start(torch.randn(1, config.latent_size)).env
    deter, draw = state.deter.clone(), state.sample
    at = config.vector_size + (2 * config.fine[1] + 7) * config.map_channels  # row 2, column 7 of the map
    deter[:, at : at + config.map_channels] += 1
    rows, columns = (model.decoder(deter, draw) - state.picture).abs().sum((0, 3)).nonzero().T
    assert 2 * 4 - 9 <= rows.min() < 10 < rows.max() < 2 * 4 + 13 and 7 * 4 - 9 <= columns.min() < 30 < columns.max() < 7 * 4 + 13
    frames = torch.rand(2, 32, 48, 3)
    frames[1] = frames[0]
    frames[1, 16:24, 40:48] = 0.5
    one, other = model.encoder(frames).reshape(2, *config.coarse, -1)
    cells = (one - other).abs().sum(-1)
    assert cells[1:4, 4:6].sum() > 0.7 * cells.sum() and cells[0, 0] == 0


def test_rounding_to_8_bits_passes_the_gradient_unchanged():
    frames = (torch.rand(2, 4, 4, 3) * 1.4 - 0.2).requires_grad_()  # some beyond black and white
    rounded, weights = round_frames(frames), torch.rand(2, 4, 4, 3)
    torch.testing.assert_close(rounded * 255, torch.round(frames * 255).clamp(0, 255), rtol=0, atol=1e-4)
    assert torch.equal(torch.round(rounded * 255).to(torch.uint8), frames_to_bytes(frames))
    torch.testing.assert_close(torch.autograd.grad((rounded * weights).sum(), frames)[0], weights)


def test_frames_in_any_chunking_and_either_type_give_one_embedding(model, segment, monkeypatch):
    obs = segment.obs[:, :3]
    together = model.encoder(obs)
    monkeypatch.setattr("generative.layers.CHUNK", {"cpu": 4})
    torch.testing.assert_close(model.encoder(obs), together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.encoder(obs.float() / 255), together, rtol=1e-4, atol=1e-5)
    assert together.shape == (*obs.shape[:2], model.config.embed_size)
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
    assert drawn.mean().item() == pytest.approx(2, abs=0.05) and drawn.std().item() == pytest.approx(3, abs=0.05)


def test_what_the_agent_remembers_is_that_of_the_frames_before_the_last(segment, agent):
    frames, zeros = segment.obs[:K], agent.initial_state(segment.mask.shape[1])
    none = torch.zeros(len(zeros), dtype=torch.bool)
    with torch.no_grad():
        expected = agent.advance(frames[1], agent.advance(frames[0], zeros, none, None), none, None)
    torch.testing.assert_close(remembered(agent, frames), expected)
    simulator = Simulator(WorldModel(toy_config()), agent, NOOP)
    torch.testing.assert_close(simulator.remembered(frames), expected)
    assert not Simulator(simulator.model, agent, NOOP, own_agent=False).remembered(frames).any()


def test_the_agents_start_trains_the_latent_only_where_asked(model):
    z = torch.randn(2, 16, requires_grad=True)
    for detach in (True, False):
        start = model.start(z, detach_agent=detach)
        reached = torch.autograd.grad(start.hidden.sum() + start.action_logits.sum(), z, allow_unused=True)[0]
        assert (reached is None) == detach
    assert start.hidden.abs().max() < 1
    free = WorldModel(toy_config(bounded_hidden=False))
    free.hidden_head[-1].weight.data.mul_(100)
    assert free.start(z).hidden.abs().max() > 1


def test_each_scale_weights_its_term_and_nothing_else():
    terms = {name: torch.tensor(float(i + 1)) for i, name in enumerate(TERMS)}
    flags = set(SCALE_OF.values())
    assert flags | {"free_nats"} == set(vars(LossScales()))
    for flag in flags:
        scales = LossScales(**{name: 0.0 for name in flags} | {flag: 3.0})
        assert total_loss(terms, scales) == 3 * sum(terms[name] for name, by in SCALE_OF.items() if by == flag)


def test_free_runs_train_the_core_and_not_the_states_that_they_begin_from(model, segment):
    terms = loss_terms(model, segment, noise_for(model, segment), toy_agent(), 0)
    terms["free_kl"].backward()
    assert {part for part, module in model.named_children() if any(p.grad is not None for p in module.parameters())} == {"rssm", "encoder", "decoder"}
    assert not terms["free_image"].requires_grad and not any(p.grad is not None and p.grad.any() for p in model.rssm.posterior_head.parameters())
    assert {"free_kl", "free_image"} & loss_terms(model, segment, noise_for(model, segment, free=(FREE, 0)), toy_agent(), 0).keys() == set()


def test_free_runs_begin_anywhere_and_are_left_out_beyond_an_end(model, store):
    windows = store.windows(LENGTH, min_steps=K)
    length = store.episodes["length"][windows.table[:, 0]] - windows.table[:, 1]
    short = windows.batch(np.flatnonzero(length == K)[:4])  # one simulated frame: no run has anything to compare with
    terms = loss_terms(model, short, noise_for(model, short), toy_agent(), 0)
    assert terms["free_kl"] == 0 and terms["free_image"] == 0
    many = draw_noise(model.config, STEPS, 400, torch.Generator().manual_seed(0), FREE, 1)
    assert set((many.when * (STEPS - FREE)).long().unique().tolist()) == set(range(STEPS - FREE))


def test_detail_finds_a_small_moving_thing_and_not_the_scrolling_ground():
    rng = np.random.default_rng(0)
    ground = rng.integers(100, 140, (1, 20, 16, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)  # tiles of 8 x 8, a scroll of 3 pixels
    for t in range(4):
        frame = torch.from_numpy(ground[:, 3 * t : 3 * t + 64, :64].copy())
        frame[:, 20 + 2 * t : 23 + 2 * t, 30:33] = 255
        found = detail(frame)[0]
        thing = found[20 + 2 * t : 23 + 2 * t, 30:33]
        assert thing.min() > 0.4 and found.mean() < 0.02
        assert torch.allclose(found, top_hat(frame[0]))
        dark = detail(255 - frame)[0]
        assert torch.allclose(dark, found)
    assert detail(torch.full((1, 8, 8, 3), 77, dtype=torch.uint8)).max() == 0


def test_a_latent_on_the_sphere_has_unit_length_and_random_ones_cover_it(segment, agent):
    torch.manual_seed(0)
    sphere, normal = WorldModel(toy_config(latent="sphere")), WorldModel(toy_config())
    latent, noise = sphere.encode(segment.obs[:K], remembered(agent, segment.obs[:K])), torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(latent.mean.norm(dim=-1), torch.ones(len(latent.mean)))
    assert torch.equal(latent.sample(noise[: len(latent.mean)]), latent.mean) and latent.log_variance is None
    drawn = sphere.random_latent(noise)
    torch.testing.assert_close(drawn.norm(dim=-1), torch.ones(2000))
    torch.testing.assert_close(drawn * noise.norm(dim=-1, keepdim=True), noise)
    assert torch.equal(normal.random_latent(noise), noise)
    terms = loss_terms(sphere, segment, draw_noise(sphere.config, STEPS, segment.mask.shape[1], torch.Generator().manual_seed(0)), agent)
    assert terms["bottleneck"].item() == pytest.approx(crowding(latent.mean).item(), rel=1e-4)
    total_loss(terms, LossScales()).backward()
    assert all(p.grad is not None and p.grad.any() for p in sphere.latent_head.parameters())


def test_crowding_is_least_for_spread_points_and_zero_for_one_place():
    corners = torch.cat([torch.eye(3), -torch.eye(3)])
    assert crowding(torch.eye(3)[:1].expand(6, 3)).item() == pytest.approx(0)
    pairs = [2.0 if i // 1 % 3 != j % 3 else 4.0 for i in range(6) for j in range(i)]
    assert crowding(corners).item() == pytest.approx(math.log(np.mean(np.exp(-2 * np.array(pairs)))), rel=1e-5)
    bunched = torch.nn.functional.normalize(corners + torch.tensor([2.0, 0, 0]), dim=-1)
    assert crowding(corners) < crowding(bunched) < 0 and crowding(corners[:1]) == 0


def test_frames_need_not_be_square():
    torch.manual_seed(0)
    config = toy_config(obs_shape=(16, 40, 3))
    model, frames = WorldModel(config), torch.randint(0, 256, (2, 16, 40, 3), dtype=torch.uint8)
    assert model.encoder(frames).shape == (2, config.embed_size) and config.coarse == (2, 5) and config.fine == (4, 10)
    picture = model.decoder(torch.randn(2, config.deter_size), torch.randn(2, *config.stoch_shape), torch.randn(2, 16, 40, 4))
    assert picture.shape == (2, 16, 40, 3)
    seen = frames.float().div(255).requires_grad_()
    embedding = model.encoder(seen)
    reached = torch.autograd.grad((embedding * torch.randn_like(embedding)).sum(), seen)[0]
    assert reached.ne(0).float().mean() > 0.99
    assert (picture[0] - picture[1]).ne(0).float().mean() > 0.99


def test_the_agent_may_be_shown_some_windows_only(model, segment, agent):
    with torch.no_grad():
        noise = noise_for(model, segment)
        some = loss_terms(model, segment, noise, agent, agent_windows=2)
        everything = loss_terms(model, segment, noise, agent)
        first = type(segment)(**{n: x[:, :2] if torch.is_tensor(x) and x.ndim > 1 else x for n, x in vars(segment).items()})
        alone = loss_terms(model, first, noise.windows(slice(2)), agent)
    assert some["hx"] != everything["hx"]
    for name in ("hx", "act_log_probs", "value"):
        assert some[name].item() == pytest.approx(alone[name].item(), rel=1e-4)


def test_free_nats_hold_the_balanced_kl_from_below(model, segment):
    with torch.no_grad():
        noise = noise_for(model, segment)
        few, many = (loss_terms(model, segment, noise, toy_agent(), 0, free_nats=free) for free in (0.0, 50.0))
    assert few["kl_balanced"].item() == pytest.approx(1.1 * few["kl"].item(), rel=1e-4)
    assert many["kl_balanced"].item() == pytest.approx(55.0) and many["kl"] == few["kl"]


def test_presets_have_the_sizes_that_they_promise():
    sizes = {}
    for name in ("tiny", "small", "paper"):
        config, _ = load_preset(name, {"num_actions": 15}, {})
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in WorldModel(config).parameters())
    assert sizes["tiny"] < 1e6 and sizes["small"] <= 7.5e6 and 27e6 < sizes["paper"] < 31e6


BAD_SHAPES = [dict(obs_shape=(60, 64, 3)), dict(obs_shape=(64, 4, 3)), dict(num_initializing_steps=1)]
BAD_SHAPES += [dict(blocks=7), dict(precision="fp8"), dict(latent="cube")]


@pytest.mark.parametrize("bad", BAD_SHAPES)
def test_shapes_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError):
        WorldModelConfig(**({"num_actions": 15} | bad))
    with pytest.raises(UsageError, match="tiny"):
        load_preset("tiny", {"num_actions": 15} | bad, {})


def test_psnr_is_that_of_the_pooled_error():
    frames, obs = torch.full((4, 8, 8, 3), 0.5), torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    frames[0] = 0
    error = image_error(frames, obs)
    assert error.tolist() == [0, 48, 48, 48]
    assert psnr(error.mean().item(), (8, 8, 3)) == pytest.approx(-10 * math.log10(0.25 * 0.75), abs=1e-4)


def test_a_tiny_model_learns_what_actions_do(store, agent):
    """After some seconds it foresees the square's place under the true actions, and not under shifted ones; and it knows the goal."""
    torch.manual_seed(0)
    model, rng = WorldModel(toy_config()), np.random.default_rng(0)
    windows, short = store.windows(K + 2, min_steps=K), 3
    optimizer, scales = torch.optim.Adam(model.parameters(), lr=4e-3), LossScales(loss_scale_bottleneck=0.003)
    for step in range(600):
        batch = windows.sample(rng, 32)
        noise = draw_noise(model.config, short, 32, torch.Generator().manual_seed(step), more_starts=3)
        optimizer.zero_grad()
        total_loss(loss_terms(model, batch, noise, agent, 0, free_nats=0.05), scales).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
    fresh = np.random.default_rng(9)
    long = [e for e in (toy_episode(fresh, LENGTH) for _ in range(300)) if len(e["obs"]) == LENGTH]
    obs, action, won = (torch.from_numpy(np.stack([e[name] for e in long], 1)) for name in ("obs", "action", "terminated"))
    simulator = Simulator(model, agent, NOOP)
    z = simulator.encode(obs[:K]).mean
    truth = square_at(obs[K - 1 :])

    def run(actions):
        out = simulator.simulate(z, STEPS, NoiseKeys(0, np.arange(len(long))), actions=actions, modal=True, ends=False)
        return (square_at(out.obs) == truth).mean(1), out

    right, out = run(action[K - 1 :])
    wrong, _ = run(action[K - 1 :].roll(1, 0))
    assert right[0] > 0.95 and right[1:4].min() > 0.9, right
    assert wrong[1:4].max() < right[1:4].min() - 0.3, (right, wrong)
    reached = won[K - 1 :]
    done = out.extra["done_prob"][-1]
    assert reached[-1].any()
    assert done[reached[-1]].mean() > 5 * done[~reached[-1]].mean()
    assert out.reward[-1][reached[-1]].mean() > 5 * out.reward[-1][~reached[-1]].mean()
