"""The world model's losses against a slow loop and independent computations."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from generative.model import twohot
from generative.model.categorical import balanced_kl, kl, unimix
from generative.model.config import LossScales
from generative.model.frames import round_frames
from generative.model.motion import estimate_motion, warp_frame
from generative.model.rssm import EnvState
from generative.model.world_model import Outcome
from generative.training.errors import image_error, outcome_errors, psnr, uniformity_loss
from generative.training.losses import SCALE_OF, TERMS, loss_terms, total_loss
from generative.training.small_object_weights import small_object_weights
from generative.training.teacher_forcing import draw_noise
from tests.helpers.toy_windows import (
    EXTRA_STARTS,
    LENGTH,
    OVERSHOOTING_RUNS,
    OVERSHOOTING_STEPS,
    ROLLOUT_STEPS,
    STEPS,
    K,
    agent,  # noqa: F401
    model,  # noqa: F401
    noise_for,
    segment,  # noqa: F401
    store,  # noqa: F401
)
from tests.helpers.toy_world import SIZE, toy_agent


def top_hat(obs):
    """The larger top-hat of a frame [H, W, C], by PyTorch's max-pool."""
    x = obs.float().movedim(-1, 0)[None]

    def wide(x, sign):
        return sign * torch.nn.functional.max_pool2d(sign * x, 5, 1, 2)

    return torch.maximum(x - wide(wide(x, -1), 1), wide(wide(x, 1), -1) - x)[0].amax(0) / 255


def was_in_view(pixel, way):
    """Whether what a pixel shows was in the picture at every one of the moves `way`, the last of which led
    here.
    """
    at = torch.tensor(pixel, dtype=torch.float32)
    for move in reversed(way):
        at = at - move
        if (at < -0.5).any() or (at > SIZE - 0.5).any():
            return False
    return True


def huber(x):
    return torch.where(x.abs() < 1, x**2 / 2, x.abs() - 0.5).sum()


def brute_force_terms(model, segment, noise, agent, shift=0):
    """Every term, window by window and step by step, with PyTorch's own distributions. shift: a mutant's
    misaligned actions.
    """
    sums = {name: [] for name in TERMS}

    def outcomes(outcome, t, blind=""):
        weights = twohot.encode(segment.reward[t, b], model.bins)
        counts = segment.extra["weight"][b]
        sums[f"{blind}reward"].append(
            -counts * (weights * torch.log_softmax(outcome.reward_logits[0], -1)).sum()
        )
        stretch, shift = (10 * model.done_calibration).tolist()
        for name, log_odds, times in (
            ("done", math.exp(stretch) * outcome.uncalibrated_done_logit[0] + shift, counts),
            ("uncalibrated_done", outcome.uncalibrated_done_logit[0], 1),
        ):
            p = 1 / (1 + torch.exp(-log_odds))
            sums[blind + name].append(-times * torch.log(p if segment.terminated[t, b] else 1 - p))

    for b in range(segment.mask.shape[1]):
        steps = int(segment.mask[:, b].sum())
        seen = [segment.obs[t, b : b + 1] for t in range(LENGTH)]
        motion = [None, *(estimate_motion(torch.stack(seen[t - 1 : t + 1]))[0] for t in range(1, LENGTH))]
        starts = []
        for n, last in enumerate(
            [K - 1, *(K - 1 + int(noise.start_times[n, b] * (steps - K + 1)) for n in range(EXTRA_STARTS))]
        ):
            memory = agent.initial_state(1)
            given = seen[last - K + 1 : last + 1]
            for frame in given[:-1]:
                memory = agent.advance(frame, memory, torch.tensor([False]), None)
            way = torch.stack(motion[last - K + 2 : last + 1])
            mean, log_variance = model.latent_head(
                torch.stack([model.embed(frame) for frame in given]), way, memory
            )
            deviation = (log_variance / 2).exp()
            q = Independent(Normal(mean, deviation), 1)
            sums["bottleneck"].append(kl_divergence(q, Independent(Normal(torch.zeros_like(mean), 1.0), 1)))
            starts.append(model.start(mean + deviation * noise.z[n, b : b + 1], noise.start[n, b : b + 1]))
            sums["init_hidden"].append(((starts[-1].hidden[0] - segment.hidden[last, b]) ** 2).sum())
            sums["init_action"].append(
                -Categorical(logits=starts[-1].action_logits[0]).log_prob(segment.action[last - 1, b])
            )
            error = (starts[-1].env.frame[0] - segment.obs[last, b] / 255) ** 2
            sums["start_recon"].append(error.sum())
            sums["start_small_objects"].append((error * top_hat(segment.obs[last, b])[..., None]).sum())
        state = starts[0].env
        states = [starts[0].env]
        predicted_motion = starts[0].env.motion
        for t in range(K - 1, steps):
            i = t - (K - 1)
            frame = state.frame[0]
            sums["motion"].append(huber(predicted_motion - motion[t]))
            error = (frame - segment.obs[t, b] / 255) ** 2
            sums["recon"].append(error.sum())
            sums["small_objects"].append((error * top_hat(segment.obs[t, b])[..., None]).sum())
            met = segment.hidden[t, b : b + 1], torch.tensor([False]), segment.reward[t - 1, b : b + 1]
            after = agent.advance(round_frames(frame)[None], *met)
            sums["hx"].append(((after[0] - segment.hidden[t + 1, b]) ** 2).sum())
            logits, value = agent.heads(after)
            sums["value"].append((value[0] - segment.value[t, b]) ** 2)
            then = Categorical(logits=segment.logits[t, b])
            now = Categorical(logits=logits[0])
            sums["act_log_probs"].append(kl_divergence(then, now))
            action = torch.nn.functional.one_hot(
                segment.action[t - shift, b : b + 1], model.config.num_actions
            ).float()
            deter, predicted_motion = model.rssm.core(
                state.deter, state.sample, state.motion, model.embed(seen[t]), action
            )
            prior = model.prior(deter, predicted_motion, noise.prior[i, b : b + 1])
            outcomes(model.outcome(deter, predicted_motion, seen[t] / 255), t)
            if t + 1 < steps:
                state = model.posterior(
                    deter, motion[t + 1], model.embed(seen[t + 1]), noise.posterior[i, b : b + 1]
                )
                own = model.decoder(deter, state.sample, warp_frame(states[-1].frame, state.motion))
                if b < segment.mask.shape[1] / 2:
                    sums["self_conditioned_recon"].append(((own[0] - segment.obs[t + 1, b] / 255) ** 2).sum())
                state = state._replace(
                    frame=model.decoder(deter, state.sample, warp_frame(seen[t] / 255, state.motion))
                )
                divergence = kl_divergence(
                    Categorical(logits=state.logits), Categorical(logits=prior.logits)
                ).sum()
                sums["kl"].append(divergence)
                sums["kl_balanced"].append(1.1 * divergence.clamp(min=1.0))
                states.append(state)
        for run in range(OVERSHOOTING_RUNS):
            begin = int(noise.overshooting_times[run, b] * (STEPS - OVERSHOOTING_STEPS))
            state = states[begin] if begin < len(states) else None
            for i in range(OVERSHOOTING_STEPS):
                if begin + i + 1 >= len(states):
                    break
                action = torch.nn.functional.one_hot(
                    segment.action[K - 1 + begin + i - shift, b : b + 1], model.config.num_actions
                ).float()
                state = model.step(
                    state, action, noise.overshooting[i, run * segment.mask.shape[1] + b, None]
                )
                then = Categorical(logits=states[begin + i + 1].logits)
                sums["overshooting_kl"].append(kl_divergence(then, Categorical(logits=state.logits)).sum())
                if i == OVERSHOOTING_STEPS - 1:
                    sums["overshooting_recon"].append(
                        ((state.frame[0] - segment.obs[K + begin + i, b] / 255) ** 2).sum()
                    )
        begin = int(max(2 * noise.rollout_times[b] - 1, 0) * (STEPS - ROLLOUT_STEPS))
        state = states[begin] if begin < len(states) else None
        way = []
        predicted_path = []
        for i in range(ROLLOUT_STEPS):
            if K - 1 + begin + i >= steps:
                break
            action = torch.nn.functional.one_hot(
                segment.action[K - 1 + begin + i - shift, b : b + 1], model.config.num_actions
            ).float()
            deter, ahead = model.rssm.core(
                state.deter, state.sample, state.motion, model.embed(state.frame), action
            )
            outcomes(model.outcome(deter, ahead, state.frame), K - 1 + begin + i, "deterministic_")
            if begin + i + 1 >= len(states):
                break
            picture = model.decoder(deter, torch.zeros_like(state.sample), warp_frame(state.frame, ahead))
            state = EnvState(deter, state.logits, torch.zeros_like(state.sample), ahead, picture)
            way.append(motion[K + begin + i][0])
            predicted_path.append(ahead[0])
            sums["deterministic_motion"].append(huber(sum(predicted_path) - sum(way)))
            squares = ((picture[0] - segment.obs[K + begin + i, b] / 255) ** 2).sum(-1)
            sums["deterministic_recon"].append(
                sum(squares[p] * (1.0 if was_in_view(p, way) else 0.1) for p in np.ndindex(*squares.shape))
            )
    return {name: torch.stack([x.squeeze() for x in values]).mean() for name, values in sums.items()}


def test_every_term_equals_a_slow_loop_and_a_shifted_action_does_not(model, segment, agent):
    with torch.no_grad():
        noise = noise_for(model, segment)
        fast = loss_terms(model, segment, noise, agent, deterministic_rollout_steps=ROLLOUT_STEPS)
        slow = brute_force_terms(model, segment, noise, agent)
        mutant = brute_force_terms(model, segment, noise, agent, shift=1)
    assert fast.keys() == set(TERMS)
    for name in TERMS:
        assert fast[name].item() == pytest.approx(slow[name].item(), rel=1e-4, abs=1e-6), name
    for name in (
        "recon",
        "small_objects",
        "self_conditioned_recon",
        "deterministic_recon",
        "motion",
        "deterministic_motion",
        "reward",
        "done",
        "uncalibrated_done",
        "deterministic_reward",
        "deterministic_done",
        "deterministic_uncalibrated_done",
        "kl",
        "overshooting_kl",
        "overshooting_recon",
    ):
        assert abs(mutant[name] - slow[name]) > 10 * abs(fast[name] - slow[name]), name


def test_what_lies_after_an_end_changes_no_term_and_the_last_step_changes_all(model, segment, agent):
    noise = noise_for(model, segment)

    def terms(edit):
        fields = {
            name: getattr(segment, name).clone()
            for name in ("obs", "action", "reward", "terminated", "logits", "value", "hidden")
        }
        edit(fields)
        with torch.no_grad():
            return loss_terms(
                model,
                type(segment)(**{**vars(segment), **fields}),
                noise,
                agent,
                deterministic_rollout_steps=ROLLOUT_STEPS,
            )

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
    for name in ("recon", "small_objects", "reward", "done", "act_log_probs", "value"):
        assert at_last[name] != plain[name], name


def test_an_action_that_ends_an_episode_has_an_outcome_though_no_frame_follows(model, store):
    windows = store.windows(LENGTH, min_steps=K)
    length = store.episodes["length"][windows.table[:, 0]] - windows.table[:, 1]
    last = np.flatnonzero((length == K) & (store.episodes["end"][windows.table[:, 0]] == "terminated"))[:8]
    segment = windows.batch(last)  # the first simulated frame is the episode's last, and its action ends it
    terms = loss_terms(model, segment, noise_for(model, segment), toy_agent(), 0)
    gradient = torch.autograd.grad(terms["uncalibrated_done"], model.outcome_head[-1].bias)[0][-1]
    assert gradient < -0.1  # every target in these windows is an end: the logit is pulled up
    assert terms["kl"] == 0
    assert terms["reward"] > 0


def test_kl_of_groups_equals_torch_distributions():
    torch.manual_seed(0)
    raw = torch.randn(2, 7, 5, 4) * 3
    p = unimix(raw[0], 0.01)
    q = unimix(raw[1], 0.2)
    expected = kl_divergence(Independent(Categorical(logits=p), 1), Independent(Categorical(logits=q), 1))
    torch.testing.assert_close(kl(p, q), expected)
    mixed = 0.99 * torch.softmax(raw[0], -1) + 0.01 / 4
    torch.testing.assert_close(p.exp(), mixed)
    assert unimix(torch.tensor([100.0, -100.0]), 0.01).exp().min() == pytest.approx(0.005)


def test_balanced_kl_moves_the_prior_ten_times_as_much_and_stops_at_free_nats():
    p, q = (
        torch.log_softmax(
            torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(i)) * 3, -1
        ).requires_grad_()
        for i in range(2)
    )
    balanced_kl(p, q).sum().backward()
    towards_prior = q.grad.clone()
    towards_posterior = p.grad.clone()
    p.grad = q.grad = None
    kl(p, q).sum().backward()
    torch.testing.assert_close(towards_prior, q.grad)
    torch.testing.assert_close(towards_posterior, 0.1 * p.grad)
    near = p.detach() + 1e-3
    close = near.clone().requires_grad_()
    loss = balanced_kl(p.detach(), close)
    loss.sum().backward()
    assert loss.item() == pytest.approx(1.1)
    assert not close.grad.any()


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


def test_each_scale_weights_its_term_and_nothing_else():
    terms = {name: torch.tensor(float(i + 1)) for i, name in enumerate(TERMS)}
    flags = set(SCALE_OF.values())
    assert flags | {"free_nats"} == set(vars(LossScales()))
    for flag in flags:
        scales = LossScales(**dict.fromkeys(flags, 0.0) | {flag: 3.0})
        assert total_loss(terms, scales) == 3 * sum(
            terms[name] for name, by in SCALE_OF.items() if by == flag
        )


def test_overshooting_trains_the_core_and_not_the_posteriors_it_starts_from(model, segment):
    terms = loss_terms(model, segment, noise_for(model, segment), toy_agent(), 0)
    terms["overshooting_kl"].backward()
    assert {
        part
        for part, module in model.named_children()
        if any(p.grad is not None for p in module.parameters())
    } == {"rssm", "encoder", "decoder"}
    assert not terms["overshooting_recon"].requires_grad
    assert not any(p.grad is not None and p.grad.any() for p in model.rssm.posterior_head.parameters())
    assert {"overshooting_kl", "overshooting_recon"} & loss_terms(
        model, segment, noise_for(model, segment, overshooting=(OVERSHOOTING_STEPS, 0)), toy_agent(), 0
    ).keys() == set()


def test_frames_of_deterministic_rollouts_have_no_gradient_to_the_motion(model, segment):
    with torch.no_grad():
        model.decoder.in_conv.weight[:, : model.config.map_channels] = 0  # the map is warped too, and decoded
    noise = noise_for(model, segment)
    noise = noise._replace(
        rollout_times=torch.zeros_like(noise.rollout_times)
    )  # all begin where the windows do, where nothing has been moved yet
    terms = loss_terms(model, segment, noise, toy_agent(), 0, deterministic_rollout_steps=1)
    last = model.rssm.motion_head.out[-1].weight
    pulls = {
        name: torch.autograd.grad(terms[name], last, retain_graph=True, allow_unused=True)[0]
        for name in ("deterministic_recon", "deterministic_motion")
    }
    assert pulls["deterministic_recon"] is None or not pulls["deterministic_recon"].any()
    assert pulls["deterministic_motion"].any()


def test_overshooting_rollouts_begin_anywhere_and_are_masked_after_an_end(model, store):
    windows = store.windows(LENGTH, min_steps=K)
    length = store.episodes["length"][windows.table[:, 0]] - windows.table[:, 1]
    short = windows.batch(
        np.flatnonzero(length == K)[:4]
    )  # one simulated frame: no run has anything to compare with
    terms = loss_terms(model, short, noise_for(model, short), toy_agent(), 0)
    assert terms["overshooting_kl"] == 0
    assert terms["overshooting_recon"] == 0
    many = draw_noise(model.config, STEPS, 400, torch.Generator().manual_seed(0), OVERSHOOTING_STEPS, 1)
    assert set((many.overshooting_times * (STEPS - OVERSHOOTING_STEPS)).long().unique().tolist()) == set(
        range(STEPS - OVERSHOOTING_STEPS)
    )


def test_small_object_weights_pick_a_small_moving_object_and_not_the_scrolling_background():
    rng = np.random.default_rng(0)
    ground = (
        rng.integers(100, 140, (1, 20, 16, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    )  # tiles of 8 x 8, a scroll of 3 pixels
    for t in range(4):
        frame = torch.from_numpy(ground[:, 3 * t : 3 * t + 64, :64].copy())
        frame[:, 20 + 2 * t : 23 + 2 * t, 30:33] = 255
        found = small_object_weights(frame)[0]
        thing = found[20 + 2 * t : 23 + 2 * t, 30:33]
        assert thing.min() > 0.4
        assert found.mean() < 0.02
        assert torch.allclose(found, top_hat(frame[0]))
        dark = small_object_weights(255 - frame)[0]
        assert torch.allclose(dark, found)
    assert small_object_weights(torch.full((1, 8, 8, 3), 77, dtype=torch.uint8)).max() == 0


def test_uniformity_loss_is_least_for_spread_points_and_zero_for_coinciding_ones():
    corners = torch.cat([torch.eye(3), -torch.eye(3)])
    assert uniformity_loss(torch.eye(3)[:1].expand(6, 3)).item() == pytest.approx(0)
    pairs = [2.0 if i // 1 % 3 != j % 3 else 4.0 for i in range(6) for j in range(i)]
    assert uniformity_loss(corners).item() == pytest.approx(
        math.log(np.mean(np.exp(-2 * np.array(pairs)))), rel=1e-5
    )
    bunched = torch.nn.functional.normalize(corners + torch.tensor([2.0, 0, 0]), dim=-1)
    assert uniformity_loss(corners) < uniformity_loss(bunched) < 0
    assert uniformity_loss(corners[:1]) == 0


def test_ends_are_as_likely_as_recorded_whatever_windows_are_drawn(model):
    rng = torch.Generator().manual_seed(0)
    fatal = torch.rand(6000, generator=rng) < 0.5  # of the windows drawn; one in fifty of those recorded
    ended = fatal & (torch.rand(1, 6000, generator=rng) < 0.4)
    score = 3 * ended + 2 * torch.randn(1, 6000, generator=rng)  # knows something of it, in odds of its own
    weight = torch.where(fatal, 0.02 / 0.5, 0.98 / 0.5)

    def chance(weight):
        """The mean calibrated probability of an end over the recorded windows, after fitting."""
        model.done_calibration.data.zero_()
        optimizer = torch.optim.LBFGS([model.done_calibration], lr=0.02, max_iter=400, tolerance_change=1e-12)

        def error():
            optimizer.zero_grad()
            loss = outcome_errors(model, outcome_of(model, score), torch.zeros_like(score), ended, weight)[
                "done"
            ].mean()
            loss.backward()
            return loss

        optimizer.step(error)
        recorded = torch.where(fatal, 0.02 / 0.5, 0.98 / 0.5)
        return (recorded * torch.sigmoid(model.calibrate_done(score))).mean().item()

    assert chance(weight) == pytest.approx(0.02 * 0.4, rel=0.05)
    assert (
        chance(torch.ones_like(weight)) > 0.05
    )  # the mutant: as if they had been recorded as they were drawn


def test_what_tells_an_end_is_learned_of_all_windows_alike_and_its_odds_of_what_was_recorded(model):
    score = torch.linspace(-2, 2, 5)[None].requires_grad_()
    ended = score.detach() > 0.5
    weight = torch.tensor([0.1, 1, 2, 0.1, 1])
    found = outcome_errors(model, outcome_of(model, score), torch.zeros(1, 5), ended, weight)
    by_score, by_odds = (
        torch.autograd.grad(found[name].sum(), score, allow_unused=True)[0]
        for name in ("uncalibrated_done", "done")
    )
    torch.testing.assert_close(by_score, torch.sigmoid(score) - ended.float())
    assert by_odds is None
    assert torch.autograd.grad(found["done"].sum(), model.done_calibration)[0].abs().min() > 0


def outcome_of(model, uncalibrated_done_logit):
    return Outcome(
        torch.zeros(*uncalibrated_done_logit.shape, len(model.bins)),
        uncalibrated_done_logit,
        model.calibrate_done(uncalibrated_done_logit),
    )


def test_the_agent_may_be_shown_some_windows_only(model, segment, agent):
    with torch.no_grad():
        noise = noise_for(model, segment)
        some = loss_terms(model, segment, noise, agent, agent_windows=2)
        everything = loss_terms(model, segment, noise, agent)
        first = type(segment)(
            **{n: x[:, :2] if torch.is_tensor(x) and x.ndim > 1 else x for n, x in vars(segment).items()}
        )
        first.extra = {"weight": segment.extra["weight"][:2]}
        alone = loss_terms(model, first, noise.windows(slice(2)), agent)
    assert some["hx"] != everything["hx"]
    for name in ("hx", "act_log_probs", "value"):
        assert some[name].item() == pytest.approx(alone[name].item(), rel=1e-4)


def test_free_nats_hold_the_balanced_kl_from_below(model, segment):
    with torch.no_grad():
        noise = noise_for(model, segment)
        few, many = (
            loss_terms(model, segment, noise, toy_agent(), 0, free_nats=free) for free in (0.0, 50.0)
        )
    assert few["kl_balanced"].item() == pytest.approx(1.1 * few["kl"].item(), rel=1e-4)
    assert many["kl_balanced"].item() == pytest.approx(55.0)
    assert many["kl"] == few["kl"]


def test_psnr_is_that_of_the_pooled_error():
    frames = torch.full((4, 8, 8, 3), 0.5)
    obs = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    frames[0] = 0
    error = image_error(frames, obs)
    assert error.tolist() == [0, 48, 48, 48]
    assert psnr(error.mean().item(), (8, 8, 3)) == pytest.approx(-10 * math.log10(0.25 * 0.75), abs=1e-4)
