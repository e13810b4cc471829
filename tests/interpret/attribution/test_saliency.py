"""Saliency of samples: finite differences, means over noisy draws, recorded frames, what a batch stores."""

import numpy as np
import pytest
import torch

from common.policy import PolicyWrapper
from common.runs import UsageError
from envs.vecenv import ActionSpace
from generative.noise_keys import NoiseKeys
from generative.record import Sampling, record_samples
from generative.starts import InformedStarts
from interpret.attribution.draws import perturbed_frames, perturbed_latents, repeated_keys
from interpret.attribution.functions import choose_functions, known_functions
from interpret.attribution.saliency import SaliencyConfig, recorded_saliency, simulated_saliency
from interpret.attribution.sample_saliency import COMBINED, SampleSaliency
from interpret.attribution.trace import graph_bytes, recorded_trace, simulated_trace
from interpret.attribution.trace_gradients import value_gradients
from rollouts.store import Rollouts
from tests.helpers.toy_simulator import NAMES, toy_simulator, toy_store
from tests.helpers.toy_world import NOOP

STEP, STEPS, B = 2, 4, 3
ACTIONS = ActionSpace(tuple(NAMES), NOOP, tuple(range(len(NAMES))))
KNOWN = known_functions(ACTIONS, {}, 8)


def config(*names: str, **changed) -> SaliencyConfig:
    chosen = choose_functions(names or ("value", "leftwards"), KNOWN)
    return SaliencyConfig(chosen, **(dict(steps=STEPS, step=STEP, draws=1, keep_float=True) | changed))


@pytest.fixture(scope="module")
def simulator():
    return toy_simulator()


def latents(simulator, batch: int = B) -> torch.Tensor:
    return torch.randn(batch, simulator.model.config.latent_size, generator=torch.Generator().manual_seed(4))


def keys(batch: int = B) -> NoiseKeys:
    return NoiseKeys(0, np.arange(batch))


class SmoothEncoder(torch.nn.Module):
    """Features without kinks, which finite differences would meet."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.linear = torch.nn.Linear(8 * 8 * 3, 16).requires_grad_(False)

    def forward(self, frames):
        return torch.tanh(3 * self.linear(frames.flatten(1) - 0.5))


@pytest.fixture(scope="module")
def smooth():
    simulator = toy_simulator()
    simulator.agent.encoder = SmoothEncoder()
    return simulator


class Brightened(PolicyWrapper):
    """The agent, which sees something added to the frame of one step."""

    def __init__(self, policy, step: int, change: torch.Tensor):
        super().__init__(policy)
        self.step, self.change, self.seen = step, change, 0

    def advance(self, obs, state, first, reward):
        self.seen += 1
        return super().advance(obs + self.change if self.seen == self.step + 1 else obs, state, first, reward)


@pytest.mark.parametrize("name", ["value", "entropy", "up", "reward", "hidden_3"])
@pytest.mark.parametrize("lag", [0, 1, 2])
def test_maps_agree_with_finite_differences_of_brighter_frames(smooth, name, lag):
    """Relaxed mode; a change of the frame goes through the agent's memory and through changed actions."""
    simulator = smooth
    function = KNOWN[f"action_{name}" if name == "up" else name]
    z = latents(simulator)
    move = torch.randn(8, 8, 3, generator=torch.Generator().manual_seed(1))
    trace = simulated_trace(simulator, z, STEP + 1, keys(), mode="relaxed")
    found = value_gradients(trace, function.at(trace, STEP), ("frames",))["frames"]
    predicted = (found[STEP - lag] * move).sum((1, 2, 3))

    def value_at(size: float) -> torch.Tensor:
        simulator.agent, agent = Brightened(simulator.agent, STEP - lag, size * move), simulator.agent
        try:
            with torch.no_grad():
                return function.at(simulated_trace(simulator, z, STEP + 1, keys(), mode="relaxed"), STEP)
        finally:
            simulator.agent = agent

    measured = (value_at(1e-3) - value_at(-1e-3)) / 2e-3
    error = (predicted - measured).abs().max() / measured.abs().max()
    limit = 0.1 if name == "reward" else 0.01  # a reward has larger second derivatives
    assert error < limit
    shifted = (found[STEP - lag + (1 if lag else -1)] * move).sum((1, 2, 3))
    assert (shifted - measured).abs().max() / measured.abs().max() > 3 * limit


@pytest.mark.parametrize("spherical", [False, True])
def test_the_first_draw_is_the_sample_and_the_others_lie_near(spherical):
    z = torch.nn.functional.normalize(torch.randn(B, 12, generator=torch.Generator().manual_seed(0)), dim=-1)
    copies = perturbed_latents(z, keys(), 4, 0.01, spherical).unflatten(0, (B, 4))
    assert torch.equal(copies[:, 0], z)
    moved = copies[:, 1:] - z[:, None]
    assert (moved.abs().amax((1, 2)) > 1e-3).all()
    assert moved.abs().max() < 0.1
    off_sphere = (copies.norm(dim=-1) - 1).abs().max()
    assert off_sphere < 1e-6 if spherical else off_sphere > 1e-4


def test_the_noise_of_a_draw_has_the_asked_for_size_and_differs_between_draws_and_samples():
    copies = perturbed_latents(torch.zeros(2, 4000), keys(2), 3, 0.5, False).unflatten(0, (2, 3))
    assert copies[:, 1:].std().item() == pytest.approx(0.5, rel=0.05)
    flat = copies[:, 1:].flatten(0, 1)
    assert (torch.corrcoef(flat) - torch.eye(4)).abs().max() < 0.1


def test_the_noise_of_a_sample_does_not_depend_on_its_batch():
    together = perturbed_latents(torch.zeros(B, 12), keys(), 3, 1.0, False).unflatten(0, (B, 3))
    alone = perturbed_latents(torch.zeros(1, 12), NoiseKeys(0, np.array([2])), 3, 1.0, False)
    torch.testing.assert_close(together[2], alone)


def test_the_gradient_is_the_mean_over_draws(simulator):
    """Not a ninth of the mean: the original system averages twice (section 5.2)."""
    z, draws = latents(simulator), 3
    asked = config("value", draws=draws, noise=0.05)
    stored = simulated_saliency(simulator, z, range(B), keys(), asked)
    copies = perturbed_latents(z, keys(), draws, 0.05, False).unflatten(0, (B, draws))
    each = [
        simulated_saliency(simulator, copies[:, draw], range(B), keys(), config("value"))["frames/value"]
        for draw in range(draws)
    ]
    mean = torch.stack(each).mean(0)
    torch.testing.assert_close(stored["frames/value"], mean, rtol=1e-3, atol=1e-5)
    assert (each[0] - mean).abs().max() > 1e-3
    assert (stored["frames/value"] - mean / draws).abs().max() > 1e-2


def test_a_map_is_the_sum_over_channels_at_8_bits(simulator):
    stored = simulated_saliency(simulator, latents(simulator), range(B), keys(), config())
    whole = stored["frames/value"].sum(-1)
    scale = stored["scale/value"][:, None, None, None]
    torch.testing.assert_close(scale.flatten(), whole.abs().flatten(1).amax(1))
    assert (stored["map/value"] * scale / 127 - whole).abs().max() <= scale.max() / 127 / 2 * 1.001
    assert stored["map/value"].shape == (B, STEP + 1, 8, 8)
    assert stored["hx/value"].shape == (B, STEP + 2, 8)


def test_every_function_and_sample_has_its_own_gradient(simulator):
    together = simulated_saliency(simulator, latents(simulator), range(B), keys(), config())
    alone = simulated_saliency(
        simulator, latents(simulator)[1:2], [1], NoiseKeys(0, np.array([1])), config("leftwards")
    )
    torch.testing.assert_close(
        together["frames/leftwards"][1:2], alone["frames/leftwards"], rtol=1e-3, atol=1e-5
    )
    assert (together["frames/leftwards"] - together["frames/value"]).abs().max() > 1e-3


def test_the_clip_is_the_rollout_without_noise(simulator):
    z = latents(simulator)
    stored = simulated_saliency(simulator, z, range(B), keys(), config(draws=4, noise=0.3))
    run = simulator.simulate(z, STEPS, keys(), ends=False)
    # in another batch a number may round to the next of 256 levels
    assert (stored["obs"].int() - run.obs.transpose(0, 1).int()).abs().max() <= 1
    assert torch.equal(stored["action"], run.action.T)
    for name, whole in (("value", run.value), ("logits", run.logits), ("hidden", run.hidden_after())):
        torch.testing.assert_close(stored[name], whole.transpose(0, 1), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(stored["done"], run.extra["done_prob"].T, rtol=1e-2, atol=1e-3)
    ended = simulator.simulate(z, STEPS, keys())
    assert torch.equal(stored["length"], ended.mask.sum(0))
    assert stored["length"].min() < STEPS


def test_a_difference_of_values_has_a_map_of_the_next_step():
    assert config("value_delta").grad_steps == STEP + 2
    assert config("value").grad_steps == STEP + 1
    assert config("value", step="sum").grad_steps == STEPS


def test_inputs_that_are_asked_for_are_stored(simulator):
    inputs = ("hidden", "env_state", "actions", "latent")
    stored = simulated_saliency(
        simulator, latents(simulator), range(B), keys(), config("value", inputs=inputs, draws=2, noise=0.05)
    )
    model = simulator.model.config
    shapes = {
        "env/value": (B, STEP + 1, model.deter_size),
        "actions/value": (B, STEP + 1, model.num_actions),
        "latent/value": (B, model.latent_size),
    }
    assert {name: tuple(stored[name].shape) for name in shapes} == shapes
    assert "map/value" not in stored
    assert all(stored[name].abs().max() > 0 for name in shapes)


def test_parts_by_path_sum_to_the_map(simulator):
    stored = simulated_saliency(simulator, latents(simulator), range(B), keys(), config("value", paths=True))
    parts = [stored[f"frames/value@{path}"] for path in ("agent", "environment", "mixed")]
    torch.testing.assert_close(sum(parts), stored["frames/value"])
    assert all(parts[k].abs().max() > 1e-3 * stored["frames/value"].abs().max() for k in (0, 2))


@pytest.fixture(scope="module")
def source(simulator, tmp_path_factory):
    rollouts = toy_store(tmp_path_factory.mktemp("store"))
    return SampleSaliency(simulator, InformedStarts(simulator, rollouts, 0), rollouts, config(), seed=0)


def changed(source: SampleSaliency, **asked) -> SampleSaliency:
    return SampleSaliency(source.simulator, source.starts, source.rollouts, config(**asked), source.seed)


def test_recorded_frames_have_the_agents_own_gradient(source):
    ids = source.long_enough(range(8))[:2]
    stored = source.recorded(ids)
    segment = source._windows(ids).batch(range(2))
    agent = source.simulator.agent
    leaf = (segment.obs[: STEP + 1].float() / 255).requires_grad_()
    state = segment.hidden[0]
    for t in range(STEP + 1):
        state = agent.advance(leaf[t], state, torch.zeros(2, dtype=torch.bool), torch.zeros(2))
    (direct,) = torch.autograd.grad(agent.heads(state)[1].sum(), leaf)
    torch.testing.assert_close(stored["frames/value"], direct.transpose(0, 1), rtol=1e-4, atol=1e-6)
    assert torch.equal(stored["obs"], segment.obs.transpose(0, 1))
    assert torch.equal(stored["action"], segment.action.T)
    assert torch.equal(stored["reward"], segment.reward.T)


def test_recorded_frames_are_averaged_over_noise_in_pixels(source):
    ids = source.long_enough(range(8))[:2]
    noisy = changed(source, draws=3, noise=0.2)
    segment = source._windows(ids).batch(range(2))
    stored = noisy.recorded(ids)
    copies = perturbed_frames(segment, source._keys(ids), 3, 0.2)
    trace = recorded_trace(source.simulator.agent, copies)
    each = value_gradients(trace, KNOWN["value"].at(trace, STEP), ("frames",))["frames"]
    mean = each.unflatten(1, (2, 3)).mean(2)[: STEP + 1].transpose(0, 1)
    torch.testing.assert_close(stored["frames/value"], mean, rtol=1e-4, atol=1e-6)
    assert torch.equal(stored["obs"], segment.obs.transpose(0, 1))
    moved = copies.obs.unflatten(1, (2, 3))[:, :, 1:] - segment.obs[:, :, None].float() / 255
    assert moved.std().item() == pytest.approx(0.2, rel=0.1)


def test_episodes_that_end_too_early_are_left_out(source):
    numbers = np.arange(source.starts.count)
    episode, step = source.starts.source(numbers).T
    left = source.rollouts.episodes["length"][episode] - step
    assert source.long_enough(numbers) == numbers[left >= STEP + 1].tolist()
    assert len(source.long_enough(numbers)) < len(numbers)
    short = numbers[left < STEP + 1]
    with pytest.raises(UsageError, match="end before 3 steps"):
        source.long_enough(short)


def test_samples_are_those_that_are_recorded_with_the_same_seed(source, tmp_path):
    """record_gen_samples.py and saliency_exps.py number samples alike and draw the same noise."""
    manifest = {
        "num_actions": 5, "action_names": NAMES, "noop": NOOP, "hidden_size": 8, "obs_shape": (8, 8, 3),
        "env": {"env_name": "toy"}, "simulated": True,
    }  # fmt: skip
    record_samples(
        source.simulator, source.starts, Sampling(6, STEPS, 3, source.seed), tmp_path, manifest, "toy", "cpu"
    )
    recorded = Rollouts.open(tmp_path)
    stored = source.simulated([5, 1])
    for row, sample in enumerate((5, 1)):
        episode = recorded.episode(sample)
        length = len(episode["action"])
        assert length == stored["length"][row]
        off = np.abs(episode["obs"].astype(int) - stored["obs"][row, :length].numpy())
        assert off.max() <= 1  # in another batch a number may round to the next of 256 levels
        assert np.array_equal(episode["action"], stored["action"][row, :length])
        other = np.abs(episode["obs"][0].astype(int) - stored["obs"][1 - row, 0].numpy())
        assert other.max() > 20
    facts = source.source_facts([5, 1])
    assert facts["episode"] == recorded.episodes["source_episode"][[5, 1]].tolist()
    assert facts["step"] == recorded.episodes["source_step"][[5, 1]].tolist()


def test_combined_samples_start_from_the_mean_latent(source):
    stored = source.combined([0, 1, 4])
    mean = source._latents([0, 1, 4]).mean(0, keepdim=True)
    direct = simulated_saliency(source.simulator, mean, [COMBINED], source._keys([0]), source.config)
    assert stored["sample"].tolist() == [COMBINED]
    torch.testing.assert_close(stored["frames/value"], direct["frames/value"])


def test_memory_of_the_graph_grows_with_samples_and_steps(simulator):
    def trace(batch: int, steps: int):
        return lambda: simulated_trace(simulator, latents(simulator, batch), steps, keys(batch))

    one, more, longer = (graph_bytes(trace(*size)) for size in ((1, 2), (8, 2), (1, 6)))
    assert one < more
    assert one < longer


def test_too_little_memory_is_said_before_the_work(source, monkeypatch):
    per_step = source.step_bytes(recorded=False)
    assert per_step > 8 * 8 * 3 * 4
    monkeypatch.setattr("common.integrity.machine_memory", lambda: 100 * per_step)
    source.check_memory(2, "simulated")
    with pytest.raises(UsageError, match="--batch_size 1000 in 1 draws"):
        source.check_memory(1000, "simulated")


def test_keys_of_copies_are_those_of_their_sample():
    copies = repeated_keys(NoiseKeys(3, np.array([5, 9]), np.array([1, 2]), 4), 2)
    assert copies.stream.tolist() == [5, 5, 9, 9]
    assert copies.repeat.tolist() == [1, 1, 2, 2]
    assert copies.step.tolist() == [4, 4, 4, 4]


def test_recorded_saliency_takes_a_segment(source):
    ids = source.long_enough(range(8))[:1]
    window = source._windows(ids).batch([0])
    stored = recorded_saliency(source.simulator.agent, window, ids, source._keys(ids), source.config)
    assert stored["length"].tolist() == window.mask.sum(0).tolist()
