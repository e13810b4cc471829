"""Attribution methods against analytic answers, brute force and the published formulas."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from generative.model.world_model import WorldModel
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from interpret.attribution.frame_functions import (
    agent_log_probs,
    agent_value,
    chosen,
    later_value,
    reconstructions,
)
from interpret.attribution.frame_gradients import direct_value
from interpret.attribution.method_config import MethodConfig
from interpret.attribution.methods import METHODS, path_integral, sarfa, sarfa_of
from interpret.attribution.perturbation import (
    blur_masks,
    enlarge,
    gaussian_blur,
    perturbed_outputs,
    region_centres,
    sarfa_scores,
)
from tests.helpers.toy_world import ACTIONS, NOOP, toy_agent, toy_config

CONFIG = MethodConfig(smooth_draws=3, ig_steps=16, patch=3, stride=2, mask_std=1.5, blur_std=1.0)
SIZE = 8


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def frames():
    return random(2, SIZE, SIZE, 3)


@pytest.fixture
def weights():
    """Each of two samples has weights of its own, so a function that is given another sample's is found."""
    return random(2, SIZE, SIZE, 3, seed=1) - 0.5


@pytest.fixture
def linear(weights):
    return lambda frames, sample: (weights[sample] * frames).sum((1, 2, 3))


@pytest.fixture
def quadratic(weights):
    return lambda frames, sample: (weights[sample] * frames**2).sum((1, 2, 3))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gradient", lambda w, x: w.sum(-1)),
        ("gradient_norm", lambda w, x: w.norm(dim=-1)),
        ("smoothgrad", lambda w, x: w.norm(dim=-1)),
        ("gradient_x_input", lambda w, x: (w * x).sum(-1)),
        ("integrated_gradients", lambda w, x: (w * x).sum(-1)),
        ("integrated_gradients_blur", lambda w, x: (w * (x - gaussian_blur(x, CONFIG.blur_std))).sum(-1)),
    ],
)
def test_a_linear_function_is_explained_exactly(linear, weights, frames, name, expected):
    torch.testing.assert_close(METHODS[name].compute(linear, frames, CONFIG), expected(weights, frames))


def test_integrated_gradients_of_a_square_are_complete_and_gradient_times_input_is_not(
    quadratic, weights, frames
):
    maps, gap = path_integral(quadratic, frames, torch.zeros_like(frames), 16)
    torch.testing.assert_close(maps, (weights * frames**2).sum(-1), rtol=1e-4, atol=1e-5)
    assert gap.abs().max() < 1e-4
    endpoint_only = METHODS["gradient_x_input"].compute(quadratic, frames, CONFIG)
    value = quadratic(frames, torch.arange(2))
    assert ((endpoint_only.sum((1, 2)) - value).abs() > 0.5 * value.abs()).all()


def test_too_few_points_and_a_kink_leave_a_completeness_gap(frames):
    def kink(frames, sample):
        return torch.relu(frames - 0.45).sum((1, 2, 3))

    coarse, fine = (path_integral(kink, frames, torch.zeros_like(frames), n)[1].abs().max() for n in (2, 200))
    assert coarse > 10 * fine


def test_the_completeness_gap_is_that_of_its_own_baseline(quadratic, frames):
    """The sum of a map is the change from its baseline, and from no other."""
    baseline = gaussian_blur(frames, 1.0)
    maps = path_integral(quadratic, frames, baseline, 16)[0]
    sample = torch.arange(2)
    change = quadratic(frames, sample) - quadratic(baseline, sample)
    torch.testing.assert_close(maps.sum((1, 2)), change, rtol=1e-3, atol=1e-4)
    assert ((maps.sum((1, 2)) - quadratic(frames, sample)).abs() > 0.1).any()


def noisy_product(frames, sample):
    return (frames.prod(-1) * torch.sin(7 * frames[..., 0])).sum((1, 2))


def test_smoothgrad_is_the_mean_gradient_of_noisy_frames(frames):
    config = dataclasses.replace(CONFIG, smooth_draws=400, smooth_std=0.2)
    found = METHODS["smoothgrad"].compute(noisy_product, frames, config)
    noisy = (frames[None] + 0.2 * torch.randn(4000, *frames.shape)).requires_grad_()
    noisy_product(noisy.flatten(0, 1), None).sum().backward()
    expected = noisy.grad.mean(0).norm(dim=-1)
    plain = METHODS["gradient_norm"].compute(noisy_product, frames, config)
    assert (found - expected).abs().mean() < 0.3 * (plain - expected).abs().mean()


def test_smoothgrad_repeats_and_leaves_the_global_seed_unchanged(frames):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again = (METHODS["smoothgrad"].compute(noisy_product, frames, CONFIG) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, again)


def windows(size, patch, stride):
    """Windows of captum: the last one may be cut off."""
    count = -(-max(size - patch, 0) // stride) + 1
    return [slice(i * stride, min(i * stride + patch, size)) for i in range(count)]


def test_occlusion_is_brute_force_in_one_batch(quadratic, frames):
    calls = []

    def counted(frames, sample):
        calls.append(len(frames))
        return quadratic(frames, sample)

    found = METHODS["occlusion"].compute(counted, frames, CONFIG)
    total, covered = torch.zeros(2, SIZE, SIZE), torch.zeros(SIZE, SIZE)
    value = quadratic(frames, torch.arange(2))
    places = list(itertools.product(windows(SIZE, CONFIG.patch, CONFIG.stride), repeat=2))
    for rows, columns in places:
        hidden = frames.clone()
        hidden[:, rows, columns] = frames.mean((1, 2))[:, None, None]
        total[:, rows, columns] += (value - quadratic(hidden, torch.arange(2)))[:, None, None]
        covered[rows, columns] += 1
    torch.testing.assert_close(found, total / covered, rtol=1e-3, atol=1e-4)
    assert max(calls) == 2 * len(places)
    assert len(calls) <= 2


def test_blur_is_greydanus_formula_in_one_batch(quadratic, frames):
    calls = []

    def counted(frames, sample):
        calls.append(len(frames))
        return quadratic(frames, sample)

    found = METHODS["blur"].compute(counted, frames, CONFIG)
    blurred = torch.from_numpy(
        gaussian_filter(frames.numpy(), (0, CONFIG.blur_std, CONFIG.blur_std, 0), mode="nearest", truncate=3)
    )
    centres = region_centres(SIZE, CONFIG.stride)
    scores = []
    for row, column in itertools.product(centres, repeat=2):
        away = (torch.arange(SIZE)[:, None] - row) ** 2 + (torch.arange(SIZE) - column) ** 2
        mask = torch.exp(-0.5 * away / CONFIG.mask_std**2)[None, :, :, None]
        mixed = frames * (1 - mask) + blurred * mask
        change = quadratic(frames, torch.arange(2)) - quadratic(mixed, torch.arange(2))
        scores.append(0.5 * change**2)
    expected = enlarge(torch.stack(scores), frames, CONFIG.stride)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert calls == [2 * (len(centres) ** 2 + 1)]


@pytest.mark.parametrize(("size", "stride"), [(64, 4), (10, 4), (7, 3)])
def test_a_region_is_enlarged_around_its_own_centre(size, stride):
    centres = region_centres(size, stride)
    scores = torch.zeros(len(centres) ** 2, 1)
    scores[len(centres) + 1] = 1.0  # second row, second column
    maps = enlarge(scores, torch.zeros(1, size, size, 3), stride)[0]
    middle = (maps.sum(1) * torch.arange(size)).sum() / maps.sum()
    assert abs(middle - centres[1]) < 0.6
    masks = blur_masks((size, size), stride, 1.0)
    assert masks.shape == (len(centres) ** 2, size, size)


def sarfa_by_hand(original, perturbed, action):
    """Puri et al. 2020, section 3: one state and perturbation, probabilities [J]."""
    fall = original[action] - perturbed[action]
    if fall <= 0:
        return 0.0
    others = [np.delete(p, action) / np.delete(p, action).sum() for p in (original, perturbed)]
    divergence = (others[1] * np.log(others[1] / others[0])).sum()
    relevance = 1 / (1 + divergence)
    return 2 * relevance * fall / (relevance + fall)


def test_sarfa_is_the_published_formula():
    rng = np.random.default_rng(0)
    original, perturbed = rng.dirichlet(np.ones(5), 3), rng.dirichlet(np.ones(5), (7, 3))
    action = np.array([0, 3, 4])
    found = sarfa_scores(*map(torch.from_numpy, (np.log(original), np.log(perturbed), action)))
    expected = [[sarfa_by_hand(original[b], perturbed[m, b], action[b]) for b in range(3)] for m in range(7)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (found == 0).any()


def test_sarfa_prefers_what_changes_the_action_alone():
    """Both perturbations take half of the action's probability; one reorders the other actions as well."""
    original = torch.tensor([[0.6, 0.2, 0.2]]).log()
    alone, reordered = torch.tensor([0.3, 0.35, 0.35]).log(), torch.tensor([0.3, 0.69, 0.01]).log()
    scores = sarfa_scores(original, torch.stack([alone, reordered])[:, None], torch.tensor([0]))[:, 0]
    assert scores[0] > 1.1 * scores[1]


def test_sarfa_of_the_most_likely_action_is_the_default():
    agent = toy_agent()
    function = agent_log_probs(agent, torch.zeros(2, 8), range(ACTIONS))
    frames = random(2, SIZE, SIZE, 3)
    best = function(frames, torch.arange(2)).argmax(-1)
    assert torch.equal(sarfa(function, frames, CONFIG), sarfa_of(function, best, frames, CONFIG))
    other = sarfa_of(function, (best + 1) % ACTIONS, frames, CONFIG)
    assert not torch.equal(sarfa(function, frames, CONFIG), other)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_gives_the_maps_of_its_samples(name, quadratic, frames):
    """A method that mixes up the samples of its changed frames is found."""
    config = dataclasses.replace(CONFIG, smooth_std=1e-6)
    together = METHODS[name].compute(quadratic, frames, config)
    for i in range(2):
        alone = METHODS[name].compute(
            lambda frames, sample: quadratic(frames, sample + i), frames[i : i + 1], config
        )
        torch.testing.assert_close(together[i], alone[0], rtol=1e-3, atol=1e-5)
        wrong = METHODS[name].compute(
            lambda frames, sample: quadratic(frames, 1 - sample - i), frames[i : i + 1], config
        )
        assert (together[i] - wrong[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("smoothgrad", {"smooth_draws": 5}),
        ("smoothgrad", {"smooth_std": 0.3}),
        ("smoothgrad", {"seed": 1}),
        ("integrated_gradients", {"ig_steps": 3}),
        ("integrated_gradients_blur", {"blur_std": 2.0}),
        ("occlusion", {"patch": 2}),
        ("occlusion", {"stride": 3}),
        ("blur", {"stride": 3}),
        ("blur", {"mask_std": 2.5}),
        ("blur", {"blur_std": 2.0}),
    ],
)
def test_every_parameter_changes_a_map(frames, name, changed):
    maps = [
        METHODS[name].compute(noisy_product, frames, config)
        for config in (CONFIG, dataclasses.replace(CONFIG, **changed))
    ]
    assert (maps[0] - maps[1]).abs().max() > 1e-6


def test_the_agents_functions_are_its_heads():
    agent, hidden, frames = toy_agent(), random(2, 8, seed=3) - 0.5, random(2, SIZE, SIZE, 3)
    value = agent_value(agent, hidden)
    torch.testing.assert_close(value(frames, torch.arange(2)), direct_value(agent, hidden)(frames))
    crossed = value(frames, torch.tensor([1, 0]))
    torch.testing.assert_close(crossed, direct_value(agent, hidden.flip(0))(frames))
    assert not torch.allclose(crossed, direct_value(agent, hidden)(frames))


def test_log_probs_are_summed_over_effect_classes():
    agent, hidden, frames = toy_agent(), torch.zeros(2, 8), random(2, SIZE, SIZE, 3)
    sample = torch.arange(2)
    apart = agent_log_probs(agent, hidden, range(ACTIONS))(frames, sample)
    merged = agent_log_probs(agent, hidden, [0, 0, 2, 3, 2])(frames, sample)
    expected = torch.stack([apart[:, :2].logsumexp(1), apart[:, [2, 4]].logsumexp(1), apart[:, 3]], 1)
    torch.testing.assert_close(merged, expected)
    taken = chosen(agent_log_probs(agent, hidden, range(ACTIONS)), torch.tensor([1, 4]))
    torch.testing.assert_close(taken(frames, sample), apart[[0, 1], [1, 4]])


@pytest.fixture(scope="module")
def simulator():
    torch.manual_seed(0)
    return Simulator(WorldModel(toy_config()).requires_grad_(False), toy_agent(), NOOP)


@pytest.fixture
def later(simulator):
    """Three earlier frames, hidden states and keys of two draws."""
    depth = simulator.model.config.num_initializing_steps
    earlier = random(depth - 1, 2, SIZE, SIZE, 3, seed=5)
    keys = [NoiseKeys(0, np.arange(2), np.array([d, d]), np.array([4, 9])) for d in range(2)]
    return earlier, random(2, 8, seed=6) - 0.5, keys


def test_the_later_value_is_the_mean_over_rollouts(simulator, later, frames):
    earlier, hidden, keys = later
    found = later_value(simulator, earlier, hidden, keys, 2)(frames, torch.arange(2))
    latent = simulator.encode(torch.cat([earlier, frames[None]]))
    values = []
    for noise in keys:
        z = latent.sample(noise.normal(latent.mean.shape[1], latent.mean))
        with torch.no_grad():
            values.append(simulator.simulate(z, 3, noise, hidden=hidden, ends=False).value[2])
    torch.testing.assert_close(found, torch.stack(values).mean(0), rtol=1e-4, atol=1e-5)


def test_later_values_belong_to_their_samples(simulator, later, frames):
    earlier, hidden, keys = later
    value = later_value(simulator, earlier, hidden, keys, 1)
    both = value(frames, torch.arange(2))
    swapped = value(frames.flip(0), torch.tensor([1, 0]))
    torch.testing.assert_close(swapped, both.flip(0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(value(frames.flip(0), torch.arange(2)), both.flip(0), rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_a_value_some_steps_later(simulator, later, frames, name):
    value = later_value(simulator, *later, 1)
    maps = METHODS[name].compute(value, frames, dataclasses.replace(CONFIG, patch=4, stride=4, ig_steps=2))
    assert maps.shape == frames.shape[:3]
    assert torch.isfinite(maps).all()
    assert (maps.flatten(1).abs().amax(1) > 0).all()


def test_the_simulators_own_frame_is_the_first_of_a_rollout(simulator, later, frames):
    earlier, _, keys = later
    found = reconstructions(simulator, torch.cat([earlier, frames[None]]), keys[0])
    assert found.dtype == torch.uint8
    assert found.shape == frames.shape


def test_perturbed_outputs_without_a_mask_are_the_original(quadratic, frames):
    masks = torch.zeros(3, SIZE, SIZE)
    original, perturbed = perturbed_outputs(quadratic, frames, masks, frames.flip(0))
    torch.testing.assert_close(perturbed, original.expand(3, -1))
