"""Error measures of the world model's losses against PyTorch's distributions and by hand."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, kl_divergence

from generative.model import twohot
from generative.model.categorical import balanced_kl, kl, unimix
from generative.model.world_model import Outcome
from generative.training.errors import image_error, masked_mean, outcome_errors, psnr, uniformity_loss
from tests.helpers.decision.toy_windows import model  # noqa: F401


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
        optimizer = torch.optim.LBFGS([model.done_calibration], lr=0.05, max_iter=150, tolerance_change=1e-12)

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


def test_psnr_is_that_of_the_pooled_error():
    frames = torch.full((4, 8, 8, 3), 0.5)
    obs = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    frames[0] = 0
    error = image_error(frames, obs)
    assert error.tolist() == [0, 48, 48, 48]
    assert psnr(error.mean().item(), (8, 8, 3)) == pytest.approx(-10 * math.log10(0.25 * 0.75), abs=1e-4)


def test_a_masked_mean_is_over_what_exists_and_zero_where_nothing_does():
    x = torch.tensor([1.0, 5.0, torch.nan])
    assert masked_mean(x, torch.tensor([True, True, False])) == 3
    assert masked_mean(x, torch.zeros(3, dtype=torch.bool)) == 0
