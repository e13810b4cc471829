"""Latent optimisation finds planted optima, lowers what it is asked to lower, stays in the prior's shell, and
keeps what other noise than its own finds best.
"""

import numpy as np
import pytest
import torch

from interpret.attribution.functions import Function, known_functions
from interpret.attribution.trace import simulated_trace
from interpret.targets import target_rollouts
from interpret.targets.best_of_n import best_of_each, score_candidates
from interpret.targets.frame_diversity import distance_gradients, mean_distance
from interpret.targets.latent_optimisation import (
    LatentOptimiser,
    OptimisationConfig,
    simulated_steps,
)
from interpret.targets.latent_prior import SphericalPrior, standard_prior
from interpret.targets.target_rollouts import (
    Reading,
    TargetRollouts,
    noise_keys,
    plain_trace,
    reading_of,
)
from interpret.targets.targets import Place, Target, choose_targets
from tests.helpers.toy_simulator import toy_simulator

Z, SPLIT = 37, 12
pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def simulator():
    return toy_simulator()


@pytest.fixture(scope="module")
def sphere():
    return toy_simulator(latent="sphere")


def starts(n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, Z, generator=torch.Generator().manual_seed(seed))


OPTIMUM = starts(1, seed=9)


def planted(goal="increase", slope: torch.Tensor | None = None) -> Target:
    """A function whose optimum is known: minus the squared distance of the latent from OPTIMUM, or linear."""

    def compute(trace):
        z = trace.latent
        value = -(z - OPTIMUM).square().sum(1) if slope is None else z @ slope
        return value.expand(len(trace.frames), -1)

    return Target(f"{goal} planted", Function("planted", compute), goal)


def brightness(goal="increase") -> Target:
    """Through the decoder: the mean brightness of the frames."""

    def compute(trace):
        scale = 255 if trace.frames[0].dtype == torch.uint8 else 1
        return torch.stack([frame.float().mean((1, 2, 3)) / scale for frame in trace.frames])

    return Target(f"{goal} brightness", Function("brightness", compute), goal)


def settings(**changed) -> OptimisationConfig:
    given = dict(
        num_iterations=40, lr=0.3, num_rollouts=1, prior_weight=0.0, diversity=0.0, grad_clip_norm=1e3,
        latent_noise=0.0, common_noise=False, eval_every=10, eval_rollouts=1,
    )  # fmt: skip
    return OptimisationConfig(**given | changed)


def optimised(simulator, target, start=None, prior=None, steps: int = 1, scale: float = 1.0, **changed):
    rollouts = TargetRollouts(simulator, target, Reading(steps - 1, steps), 0, 8)
    start = starts() if start is None else start
    optimiser = LatentOptimiser(
        rollouts, prior or standard_prior(Z, SPLIT), start, settings(**changed), scale
    )
    while not optimiser.done:
        optimiser.step()
    return optimiser


def test_the_known_optimum_is_found(simulator):
    found = optimised(simulator, planted(), num_iterations=60).latents
    assert (found - OPTIMUM).norm(dim=1).max() < 0.2 * (starts() - OPTIMUM).norm(dim=1).min()


def test_lowering_goes_away_from_the_optimum(simulator):
    found = optimised(simulator, planted("decrease")).latents
    assert ((found - OPTIMUM).norm(dim=1) > 1.2 * (starts() - OPTIMUM).norm(dim=1)).all()


def test_a_value_is_reached_from_both_sides(simulator):
    start = starts()
    values = -(start - OPTIMUM).square().sum(1)
    for goal in (float(values.max()) + 10, float(values.min()) - 10):
        found = optimised(simulator, planted(goal), start, num_iterations=80).latents
        reached = -(found - OPTIMUM).square().sum(1)
        assert (reached - goal).abs().max() < 0.1 * (values - goal).abs().min()


@pytest.mark.parametrize("goal", ["increase", "decrease"])
def test_the_frames_of_a_rollout_follow(simulator, goal):
    """A mutant whose sign is wrong moves them the other way."""
    sign = 1 if goal == "increase" else -1
    found = optimised(simulator, brightness(goal), steps=2, grad_clip_norm=1.0)
    curve = torch.stack(found.curves["value"]).mean(1)
    assert sign * (curve[-1] - curve[0]) > 0.005
    score = torch.stack(found.curves["score"]).mean(1)
    torch.testing.assert_close(score, sign * curve)


def test_on_the_sphere_the_optimum_is_the_direction(sphere):
    slope = OPTIMUM[0]
    start = torch.nn.functional.normalize(starts(), dim=1)
    optimiser = optimised(sphere, planted(slope=slope), start, SphericalPrior())
    torch.testing.assert_close(optimiser.u.detach().norm(dim=1), torch.full((4,), Z**0.5))
    found = optimiser.latents
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    assert (found @ slope / slope.norm()).min() > 0.97


def test_the_prior_keeps_latents_in_the_typical_shell(simulator):
    slope = OPTIMUM[0]
    prior = standard_prior(Z, SPLIT)
    free, held = (
        optimised(
            simulator, planted(slope=slope), prior=prior, prior_weight=weight, scale=float(slope.norm())
        )
        for weight in (0.0, 1.0)
    )
    outside = [(prior.lengths(one.u.detach()) - prior.centre) / prior.spread for one in (free, held)]
    assert outside[0].max() > 4
    assert outside[1].abs().max() < 2
    assert (held.latents @ slope > starts() @ slope).all()
    assert (held.latents @ slope / held.latents.norm(dim=1) > starts() @ slope / starts().norm(dim=1)).all()


def test_the_prior_draws_small_latents_out_to_the_shell(simulator):
    """Its optimum is not the mean, as that of a weight decay is."""
    prior = standard_prior(Z, SPLIT)
    nothing = planted(slope=torch.zeros(Z))
    found = optimised(simulator, nothing, 0.1 * starts(), prior, prior_weight=1.0, num_iterations=80, lr=0.1)
    assert ((prior.lengths(found.u.detach()) - prior.centre).abs() < prior.spread).all()


def test_diversity_spreads_first_frames(simulator):
    nothing = planted(slope=torch.zeros(Z))
    near = starts(1).expand(4, -1) + 0.1 * starts()
    alike, spread = (
        optimised(simulator, nothing, near, diversity=weight).curves["diversity"] for weight in (0.0, 1.0)
    )
    assert alike[-1][0] == alike[0][0]
    assert spread[-1][0] > 2 * spread[0][0]


def test_the_gradient_of_diversity_is_exact(simulator):
    """Against the gradient through all pairs at once."""
    z = starts(5).requires_grad_()
    frames = simulator.decode(simulator.start(z).env)
    pairs = torch.triu_indices(5, 5, 1)
    distances = (frames[pairs[0]] - frames[pairs[1]]).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(mean_distance(frames), distances.mean())
    wanted = torch.autograd.grad(distances.mean(), z)[0]
    assert wanted.any()
    for batch_size in (2, 8):
        found = distance_gradients(simulator, z, batch_size)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_the_gradient_does_not_depend_on_the_batch(simulator):
    wanted = None
    for batch_size in (2, 3, 8):
        rollouts = TargetRollouts(simulator, planted(), Reading(0, 1), 0, batch_size)
        config = settings(num_rollouts=3, diversity=0.5, prior_weight=0.1)
        optimiser = LatentOptimiser(rollouts, standard_prior(Z, SPLIT), starts(3), config, 1.0)
        optimiser._evaluate()
        found = optimiser._ascent()
        wanted = found if wanted is None else wanted
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_the_step_climbs_the_gradient_of_the_mean_score(simulator):
    """Against one rollout after another, by hand."""
    target = known("decrease_value")
    rollouts = TargetRollouts(simulator, target, Reading(1, 2), 0, 8)
    prior = standard_prior(Z, SPLIT)
    optimiser = LatentOptimiser(rollouts, prior, starts(2), settings(num_rollouts=2), 4.0)
    optimiser.iteration = 3
    by_hand = torch.zeros(2, Z)
    for i in range(2):
        for draw in range(2):
            keys = noise_keys(0, "train", np.array([i]), np.array([6 + draw]))
            trace = simulated_trace(simulator, starts(2)[[i]], 2, keys)
            trace.action_edge.open = False
            by_hand[i] -= torch.autograd.grad(trace.value[1].sum(), trace.latent)[0][0] / 2 / 4.0
    torch.testing.assert_close(optimiser._ascent(), by_hand, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("detached", [True, False])
def test_actions_carry_a_gradient_when_asked(simulator, detached):
    weights = torch.linspace(-1, 1, 5)

    def compute(trace):
        return torch.stack([action @ weights for action in trace.actions])

    target = Target("increase acted", Function("acted", compute), "increase")
    rollouts = TargetRollouts(simulator, target, Reading(1, 2), 0, 8, detach_actions=detached)
    ((*_, gradient),) = rollouts.gradients(lambda which, _: starts(2)[which], 2, np.arange(1))
    assert gradient.any() == (not detached)


def test_noise_of_the_latent_smooths_the_objective(simulator):
    """The gradient of a smoothed absolute value is the share of its noise on either side."""

    def compute(trace):
        return trace.latent[:, :1].abs().T.expand(len(trace.frames), -1)

    target = Target("decrease size", Function("size", compute), "decrease")
    rollouts = TargetRollouts(simulator, target, Reading(0, 1), 0, 64)
    start = torch.full((1, Z), 0.5)
    found = []
    for noise in (0.0, 1.0):
        config = settings(num_rollouts=256, latent_noise=noise)
        optimiser = LatentOptimiser(rollouts, standard_prior(Z, SPLIT), start, config, 1.0)
        found.append(float(optimiser._ascent()[0, 0]))
    assert found[0] == -1
    wanted = 1 - 2 * torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(0.5))
    assert abs(found[1] - wanted) < 0.15


def test_gradients_of_single_rollouts_are_clipped(simulator):
    target = planted(slope=100 * OPTIMUM[0])
    rollouts = TargetRollouts(simulator, target, Reading(0, 1), 0, 8)
    optimiser = LatentOptimiser(
        rollouts, standard_prior(Z, SPLIT), starts(2), settings(num_rollouts=4, grad_clip_norm=0.5), 1.0
    )
    torch.testing.assert_close(optimiser._ascent().norm(dim=1), torch.full((2,), 0.5))


def known(name: str) -> Target:
    from generative.action_space import action_space_of
    from tests.helpers.toy_simulator import NAMES

    actions = action_space_of({"action_names": NAMES, "noop": 4, "env": {"env_name": "toy"}})
    return choose_targets([name], known_functions(actions, {}, 8), {})[0]


def test_the_best_latent_is_kept_not_the_last(simulator):
    found = optimised(simulator, planted(), lr=40.0, num_iterations=10, eval_every=2)
    scores = torch.stack(found.curves["score"])
    assert (scores[-1] < scores.max(0).values).all()
    kept = -(found.latents - OPTIMUM).square().sum(1)
    torch.testing.assert_close(kept, scores.max(0).values, rtol=1e-4, atol=1e-3)


def test_what_is_kept_is_judged_by_noise_that_was_not_trained_on(simulator, monkeypatch):
    """A function of the noise's role alone: whatever "train" says, "select" decides."""
    roles = []
    original = target_rollouts.noise_keys

    def spy(seed, role, stream, draw):
        roles.append((role, set(draw.tolist())))
        return original(seed, role, stream, draw)

    monkeypatch.setattr(target_rollouts, "noise_keys", spy)
    optimised(simulator, planted(), num_iterations=3, num_rollouts=2, eval_every=2, eval_rollouts=3)
    assert [draws for role, draws in roles if role == "train"] == [{0, 1}, {2, 3}, {4, 5}]
    assert all(draws <= {0, 1, 2} for role, draws in roles if role == "select")
    roles.clear()
    optimised(simulator, planted(), num_iterations=3, num_rollouts=2, common_noise=True)
    assert [draws for role, draws in roles if role == "train"] == [{0, 1}] * 3


def test_roles_have_noise_of_their_own(simulator):
    stream, draw = np.arange(3), np.zeros(3, np.int64)
    noise = [
        noise_keys(0, role, stream, draw).gumbel(0, 0, (5,), torch.zeros(1)) for role in target_rollouts.ROLES
    ]
    assert all(not torch.equal(noise[0], other) for other in noise[1:])


def test_a_trace_without_gradients_is_the_same(simulator):
    keys = noise_keys(0, "show", np.arange(4), np.zeros(4, np.int64))
    plain = plain_trace(simulator, starts(), 4, keys)
    whole = simulated_trace(simulator, starts(), 4, keys)
    assert torch.equal(plain.taken, whole.taken)
    for name in ("value", "logits", "hidden", "reward", "done"):
        for one, other in zip(getattr(plain, name), getattr(whole, name), strict=True):
            torch.testing.assert_close(one, other.detach(), rtol=1e-3, atol=1e-4)


def test_the_episode_may_end_before_the_reading(simulator):
    rollouts = TargetRollouts(simulator, known("increase_value"), Reading(2, 3), 0, 8)
    scored = rollouts.scored(starts(3), np.arange(3), 2, "report")
    keys = noise_keys(0, "report", np.repeat(np.arange(3), 2), np.tile([0, 1], 3))
    trace = plain_trace(simulator, starts(3).repeat_interleave(2, 0), 3, keys)
    torch.testing.assert_close(scored.value.flatten(), trace.value[2])
    ended = 1 - (1 - trace.done[0]) * (1 - trace.done[1])
    torch.testing.assert_close(scored.ended.flatten(), ended)


def test_the_cost_counts_every_simulated_step(simulator, monkeypatch):
    steps = {"simulated_trace": 0, "plain_trace": 0}
    for name in steps:
        original = getattr(target_rollouts, name)

        def spy(simulator, z, count, *args, name=name, original=original, **options):
            steps[name] += len(z) * count
            return original(simulator, z, count, *args, **options)

        monkeypatch.setattr(target_rollouts, name, spy)
    changed = dict(num_iterations=5, eval_every=2, num_rollouts=3, eval_rollouts=2)
    optimised(simulator, brightness(), steps=2, **changed)
    frames = 4  # of the evaluations at 0, 2, 4 and 5 iterations
    counted = 3 * steps["simulated_trace"] + steps["plain_trace"] + 4 * frames
    assert counted == 4 * simulated_steps(settings(**changed), 2)


def test_the_best_of_n_is_the_best_of_each_share(simulator):
    target = planted()
    rollouts = TargetRollouts(simulator, target, Reading(0, 1), 0, 6)
    z = starts(11)
    done = []
    found = score_candidates(
        rollouts, standard_prior(Z, SPLIT), lambda numbers: z[numbers], np.arange(11), 2, done.append
    )
    values = -(z - OPTIMUM).square().sum(1)
    torch.testing.assert_close(found.value, values)
    assert sum(done) == 11
    assert max(done) == 3
    best = best_of_each(found.objective(1.0, 0.0), 3)
    wanted = [max(range(i, 11, 3), key=lambda j: float(values[j])) for i in range(3)]
    assert best.tolist() == wanted
    heavy = found.objective(1.0, 1e6)
    assert heavy.argsort().tolist() == (-found.penalty).argsort().tolist()


@pytest.mark.parametrize(
    ("name", "goal"),
    [("increase_value", "increase"), ("decrease_hidden_5", "decrease"), ("hidden_5=-0.25", -0.25)],
)
def test_targets_by_name(name, goal):
    target = known(name)
    assert (target.name, target.goal) == (name, goal)
    assert target.file_name == name.replace("=", "_at_")
    values = torch.tensor([-1.0, 0.5])
    wanted = {"increase": values, "decrease": -values}.get(goal, -(values + 0.25).abs())
    torch.testing.assert_close(target.score(values), wanted)


def test_a_place_is_reached_by_lowering_the_distance(simulator):
    place = Place(torch.tensor([0.5, -0.5, 0, 0, 0, 0, 0, 0]))
    (target,) = choose_targets(["reach_moments"], {}, {"moments": place})
    keys = noise_keys(0, "show", np.arange(4), np.zeros(4, np.int64))
    trace = plain_trace(simulator, starts(), 3, keys)
    wanted = (trace.hidden[2] - place.centre).norm(dim=1)
    torch.testing.assert_close(target.function.at(trace, 1), wanted)
    assert target.goal == "decrease"


def test_readings_simulate_what_they_need():
    value, delta = known("increase_value"), known("increase_value_delta")
    assert reading_of(value, 3, 8) == Reading(3, 4)
    assert reading_of(delta, 3, 8) == Reading(3, 5)
    assert reading_of(value, "sum", 8) == Reading("sum", 8)
    assert [reading_of(value, 3, 8).last, reading_of(value, "sum", 8).last] == [3, 7]
