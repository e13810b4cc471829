"""Gradients in a notebook: `saliency` against gradients taken by hand, every argument, and the exports."""

import json

import numpy as np
import pytest
import torch

import worldlens as wl
from common.errors import UsageError
from tests.helpers.jacobian_store import record
from tests.helpers.linear_loop import skewed_directions
from tests.helpers.saliency_run import write_run
from tests.helpers.toy_simulator import save_toy_files, toy_simulator
from tests.project.test_site import ROOT

pytestmark = pytest.mark.usefixtures("float32")
STEP, STEPS, B = 2, 5, 3
PCA = {"pca": skewed_directions(8, 2)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    save_toy_files(path)
    return path


@pytest.fixture(scope="module")
def simulator(made):
    return wl.load_simulator(made / "model.safetensors", made / "agent.safetensors")


@pytest.fixture(scope="module")
def latents(simulator):
    return torch.randn(B, simulator.model.config.latent_size, generator=torch.Generator().manual_seed(4))


def saliency(simulator, latents, **changed) -> dict[str, np.ndarray]:
    given = dict(names=("value",), step=STEP, num_steps=STEPS)
    return wl.saliency(simulator, latents, **given | changed)


def trace_of(simulator, latents, steps: int = STEPS, **noise) -> wl.Trace:
    z, keys = wl.starting_latents(simulator, latents, **noise)
    return wl.simulated_trace(simulator, z, steps, keys, detach_agent=False)


def test_maps_are_gradients_summed_over_colours(simulator, latents):
    trace = trace_of(simulator, latents)
    by_hand = torch.autograd.grad(trace.value[STEP].sum(), trace.frames[: STEP + 1])
    expected = torch.stack(by_hand, 1).sum(-1).numpy()  # [B, S, H, W]
    found = saliency(simulator, latents)["value"]
    limit = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=limit)
    assert np.abs(found[:, ::-1] - expected).max() > 100 * limit
    assert np.abs(found[::-1] - expected).max() > 100 * limit


@pytest.mark.parametrize("wrt", ["hidden", "env_state", "actions", "latent"])
def test_other_inputs_have_the_gradients_of_the_trace(simulator, latents, wrt):
    trace = trace_of(simulator, latents, STEP + 1)
    (expected,) = wl.gradients(trace, trace.value[STEP][None], (wrt,), simulator.model)[wrt]
    expected = expected if wrt == "latent" else expected.transpose(0, 1)
    found = saliency(simulator, latents, wrt=wrt)["value"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    assert found.any()


def test_the_rollouts_are_those_of_simulate(simulator, latents):
    for noise in ({}, {"seed": 3}, {"draw": 2}):
        segment = wl.simulate(simulator, latents, STEPS, stop_at_end=False, **noise)
        trace = trace_of(simulator, latents, **noise)
        assert torch.equal(trace.taken, segment.action)
        torch.testing.assert_close((255 * torch.stack(trace.frames)).round().to(torch.uint8), segment.obs)


CHANGES = {
    "step": dict(step=1),
    "sum": dict(step="sum"),
    "draws": dict(draws=3),
    "seed": dict(seed=1),
    "draw": dict(draw=1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_argument_changes_the_maps(simulator, latents, name):
    plain, other = (saliency(simulator, latents, **changed)["value"] for changed in ({}, CHANGES[name]))
    assert np.abs(plain[:, :2] - other[:, :2]).max() > 1e-3 * np.abs(plain).max()


def test_the_noise_of_draws_and_the_steps_of_a_sum_count(simulator, latents):
    near, far = (saliency(simulator, latents, draws=3, noise=noise)["value"] for noise in (1e-6, 0.3))
    plain = saliency(simulator, latents)["value"]
    assert np.abs(near - plain).max() < 0.01 * np.abs(plain).max() < np.abs(far - plain).max()
    short, long = (saliency(simulator, latents, step="sum", num_steps=n)["value"] for n in (2, 4))
    assert (short.shape[1], long.shape[1]) == (2, 4)
    assert np.abs(short - long[:, :2]).max() > 1e-3 * np.abs(long).max()


def test_paths_sum_to_the_whole(simulator, latents):
    found = saliency(simulator, latents, wrt="env_state", paths=True)
    assert set(found) == {"value", "value@agent", "value@environment", "value@mixed"}
    parts = sum(found[f"value@{path}"] for path in ("agent", "environment", "mixed"))
    np.testing.assert_allclose(parts, found["value"], atol=1e-5 * np.abs(found["value"]).max())
    assert found["value@environment"].any()
    assert found["value@mixed"].any()


def test_directions_are_functions(simulator, latents):
    found = saliency(simulator, latents, names=["hx_direction"], wrt="hidden", directions=PCA)
    assert list(found) == ["hx_direction_0_pca", "hx_direction_1_pca"]
    for name, row in zip(found, PCA["pca"].read.numpy()):
        np.testing.assert_allclose(found[name][:, STEP + 1], np.tile(row, (B, 1)), atol=1e-5)


def test_the_precision_is_float32_inside_and_the_simulators_own_afterwards(made, latents):
    coarse = wl.load_simulator(made / "model.safetensors", made / "agent.safetensors", precision="bf16")
    precisions = [module.precision for module in coarse.model.modules() if hasattr(module, "precision")]
    assert set(precisions) == {"bf16"}
    fine = wl.load_simulator(made / "model.safetensors", made / "agent.safetensors", precision="fp32")
    np.testing.assert_array_equal(saliency(coarse, latents)["value"], saliency(fine, latents)["value"])
    assert [m.precision for m in coarse.model.modules() if hasattr(m, "precision")] == precisions


def test_functions_go_by_name(simulator):
    names = [one.name for one in wl.functions(simulator, directions=PCA)]
    assert {"value", "leftwards", "action_left", "hidden_7", "hx_direction_1_pca"} <= set(names)
    assert names == list(wl.known_functions(simulator.actions, PCA, 8))
    assert [one.name for one in wl.functions(simulator, ["done", "value"])] == ["done", "value"]
    with pytest.raises(UsageError, match="no function 'speed'; there are: value"):
        wl.functions(simulator, ["speed"])
    with pytest.raises(UsageError, match="take one from load_simulator"):
        wl.functions(toy_simulator(), ["value"])


def test_a_step_beyond_the_rollout_is_refused(simulator, latents):
    with pytest.raises(UsageError, match="no value at step 7: the rollout has it at steps 0 to 4"):
        saliency(simulator, latents, step=7)


def test_an_unknown_input_is_refused(simulator, latents):
    with pytest.raises(UsageError, match="no gradients with respect to 'pixels'; there are those to frames"):
        wl.saliency(simulator, latents, ["value"], wrt="pixels")


def test_a_recorded_trace_repeats_the_recording_and_has_gradients(simulator, made):
    rollouts = wl.Rollouts.open(made / "store")
    segment = rollouts.windows(4, anchor="start", pad="none").batch(np.arange(B))
    trace = wl.recorded_trace(simulator.agent, segment)
    torch.testing.assert_close(torch.stack(trace.value), segment.value, atol=1e-4, rtol=0)
    found = wl.gradients(trace, trace.value[STEP][None], ("frames",))["frames"][0]
    (by_hand,) = torch.autograd.grad(trace.value[STEP].sum(), trace.frames[0], retain_graph=True)
    torch.testing.assert_close(found[0], by_hand)
    parts = wl.path_gradients(trace, trace.value[STEP][None], ("frames",))
    torch.testing.assert_close(parts["agent"]["frames"][0], found)
    assert not parts["mixed"]["frames"].any()


def test_a_stored_simulated_episode_is_simulated_again(simulator, made, tmp_path):
    record(made, tmp_path / "simulated", num_samples=4)
    rollouts = wl.Rollouts.open(tmp_path / "simulated")
    trace = wl.replayed_trace(simulator, rollouts, np.arange(4), 1)
    firsts = [rollouts.episode(i) for i in range(4)]
    assert trace.taken[0].tolist() == [one["action"][0] for one in firsts]
    values = [one["value"][0] for one in firsts]
    np.testing.assert_allclose(trace.value[0].detach(), values, rtol=1e-4)


def test_jacobians_of_scores_and_their_mean(simulator):
    start = torch.randn(24, simulator.model.config.latent_size, generator=torch.Generator().manual_seed(1))
    jacobians = wl.score_jacobians(trace_of(simulator, start, STEP + 1), PCA["pca"], STEP)
    in_scores = wl.in_scores(jacobians["hidden/total"].detach(), PCA["pca"]).numpy()
    assert in_scores.shape == (24, STEP + 1, 2, 2)
    np.testing.assert_allclose(in_scores[:, 0], np.tile(np.eye(2), (24, 1, 1)), atol=1e-4)
    found = wl.mean_jacobian(in_scores, np.arange(24), np.ones(24, bool), resamples=50)
    np.testing.assert_allclose(found.mean, in_scores.mean(0), rtol=1e-4, atol=1e-6)


def test_a_method_scores_on_the_benchmark_as_the_published_table_says():
    benchmark = wl.SaliencyBenchmark.open()
    value = wl.agent_value(wl.load_agent("coinrun"), torch.from_numpy(benchmark.hidden))
    frames = torch.from_numpy(benchmark.frames).float() / 255
    maps = wl.METHODS["gradient_norm"].compute(value, frames, wl.MethodConfig())
    published = json.loads((ROOT / "docs" / "results" / "saliency_truth.json").read_text())
    row = published["scores"]["real"]["value/value"]["gradient_norm"]["spearman"]
    assert benchmark.score(maps.numpy())["spearman"]["value"] == pytest.approx(row["value"], abs=0.01)
    log_probs = wl.agent_log_probs(wl.load_agent("coinrun"), torch.from_numpy(benchmark.hidden), range(15))
    out = log_probs(frames[:2], torch.arange(2))
    torch.testing.assert_close(out.exp().sum(1), torch.ones(2))


def test_a_stored_run_opens(tmp_path):
    store = wl.SaliencyStore.open(write_run(tmp_path / "run", 3))
    assert repr(store) == "SaliencyStore(3 samples, 3 functions at step 3)"
