"""In a linear simulator, gradients by path are products of matrices."""

import numpy as np
import pytest
import torch

from envs.vecenv import ActionSpace
from generative.noise_keys import NoiseKeys
from interpret.attribution.functions import PLAIN, Function, known_functions
from interpret.attribution.trace import simulated_trace
from interpret.attribution.trace_gradients import PATHS, closed, path_gradients, value_gradients
from tests.helpers.linear_loop import HIDDEN
from tests.helpers.linear_simulator import LATENT, linear_parts, linear_simulator, true_gradients

STEP, STEPS, B = 3, 5, 4
INPUTS = ("frames", "hidden", "env_state", "actions", "latent")
TOLERANCE = 1e-4


def function(name: str) -> Function:
    return known_functions(ActionSpace(("left", "right"), 0, (0, 1)), {}, HIDDEN)[name]


def traced(**options):
    z = torch.randn(B, LATENT, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    simulator = linear_simulator()
    options = {"detach_agent": False} | options
    return simulated_trace(simulator, z, STEPS, NoiseKeys(0, np.arange(B)), **options), simulator.model


@pytest.fixture(scope="module")
def found():
    """Gradients of the value at STEP, by path and input: [T, B, width], of the latent [B, Z]."""
    trace, model = traced()
    parts = path_gradients(trace, function("value").at(trace, STEP)[None], INPUTS, model)
    return {
        path: {name: flat(gradient[0], name) for name, gradient in of.items()} for path, of in parts.items()
    }


def flat(gradient: torch.Tensor, name: str) -> torch.Tensor:
    if name == "env_state":
        gradient = gradient[..., :3]  # motion follows the vector; nothing reads it
    return gradient if name == "latent" else gradient.flatten(2)


def expected(path: str, name: str) -> torch.Tensor:
    m = linear_parts()
    if path == "environment":
        return expected("held", name) - expected("agent", name)
    if path == "mixed":
        return expected("total", name) - expected("held", name)
    rows = [true_gradients(m, STEP, at, path)[name] for at in range(STEP + 1)]
    return rows[0].expand(B, -1) if name == "latent" else torch.stack(rows)[:, None].expand(-1, B, -1)


def off(gradient: torch.Tensor, truth: torch.Tensor) -> float:
    return float((gradient - truth).abs().max() / truth.abs().max().clamp(min=1e-9))


def until_step(gradient: torch.Tensor, name: str) -> torch.Tensor:
    return gradient if name == "latent" else gradient[: STEP + 1]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("path", ["total", *PATHS])
def test_the_gradient_along_each_path_is_the_product_of_matrices(found, path, name):
    truth = expected(path, name)
    gradient = until_step(found[path][name], name)
    if truth.abs().max() < 1e-12:  # no such path
        assert gradient.abs().max() < 1e-9
    else:
        assert off(gradient, truth) < TOLERANCE
        assert off(-gradient, truth) > 1


@pytest.mark.parametrize(
    ("path", "names"), [("agent", ("env_state", "actions")), ("environment", ("frames", "hidden"))]
)
def test_paths_that_do_not_exist_are_zero(found, path, names):
    assert all(found[path][name].abs().max() < 1e-9 for name in names)


@pytest.mark.parametrize("name", INPUTS)
def test_the_parts_sum_to_the_whole(found, name):
    total = sum(found[path][name] for path in PATHS)
    torch.testing.assert_close(total, found["total"][name])


def test_the_hidden_state_after_the_frame_is_what_the_value_reads(found):
    truth = linear_parts()["v"].expand(B, -1)
    torch.testing.assert_close(found["total"]["hidden"][STEP + 1], truth)


@pytest.mark.parametrize("name", INPUTS[:-1])
def test_what_comes_after_the_step_does_not_matter(found, name):
    after = found["total"][name][STEP + 1 + (name == "hidden") :]
    assert len(after)
    assert not after.any()


@pytest.mark.parametrize("name", INPUTS[:-1])
def test_a_shift_by_one_step_would_be_seen(found, name):
    truth = expected("total", name)
    assert off(found["total"][name].roll(1, 0)[: STEP + 1], truth) > 0.1


def test_the_wrong_edge_would_be_seen(found):
    """With the frames' edge closed in place of the actions', an environment state has no gradient left."""
    trace, model = traced()
    value = function("value").at(trace, STEP)
    truth = expected("held", "env_state")
    with closed(trace.action_edge):
        right = value_gradients(trace, value, ("env_state",), model)
    with closed(trace.frame_edge):
        wrong = value_gradients(trace, value, ("env_state",), model)
    assert off(flat(right["env_state"], "env_state")[: STEP + 1], truth) < TOLERANCE
    assert off(flat(wrong["env_state"], "env_state")[: STEP + 1], truth) > 0.1


def test_edges_are_open_again_afterwards():
    trace, model = traced()
    value = function("value").at(trace, STEP)
    before = value_gradients(trace, value, ("frames",), model)["frames"]
    path_gradients(trace, value[None], ("frames",), model)
    torch.testing.assert_close(value_gradients(trace, value, ("frames",), model)["frames"], before)


def test_the_agents_start_counts_for_the_latent_unless_detached():
    m = linear_parts()
    trace, model = traced(detach_agent=True)
    detached = value_gradients(trace, function("value").at(trace, STEP), ("latent",), model)["latent"]
    through_start = true_gradients(m | {"Z": 0 * m["Z"]}, STEP, 0, "total")["latent"]
    assert off(detached, expected("total", "latent") - through_start) < TOLERANCE
    assert off(detached, expected("total", "latent")) > 0.1


def test_reward_and_end_belong_to_the_action_of_the_step():
    """They read the environment after the action: r (F a + D e)."""
    m = linear_parts()
    trace, model = traced()
    for name, weights in (("reward", m["r"]), ("done", m["d"])):
        gradient = value_gradients(trace, function(name).at(trace, STEP), ("actions", "frames"), model)
        truth = (weights @ m["F"]).expand(B, -1)
        assert off(gradient["actions"][STEP], truth) < TOLERANCE
        assert not gradient["actions"][STEP + 1].any()
        shown = (weights @ m["F"] @ m["G"] @ m["B"]).expand(B, -1)
        assert off(gradient["frames"][STEP].flatten(1), shown) < TOLERANCE


def test_improbable_ends_have_a_slope():
    """Log-odds of -60: a probability that clips at 1e-6 would have none."""
    trace, model = traced()
    object.__setattr__(trace, "done", [torch.sigmoid(e.vector @ model.m["d"] - 60) for e in trace.env])
    gradient = value_gradients(trace, function("done").at(trace, STEP), ("env_state",), model)["env_state"]
    assert off(gradient[STEP][:, :3], model.m["d"].expand(B, -1)) < TOLERANCE


def test_a_difference_of_values_reads_the_next_step():
    trace, model = traced()
    values = [function("value").at(trace, t) for t in (STEP, STEP + 1)]
    torch.testing.assert_close(function("value_delta").at(trace, STEP), values[1] - values[0])
    gradient = value_gradients(trace, function("value_delta").at(trace, STEP), ("frames",), model)["frames"]
    assert gradient[STEP + 1].abs().max() > 1e-3


def test_a_sum_over_steps_is_the_sum_of_the_steps_gradients():
    trace, model = traced()
    for name in PLAIN:
        each = [
            value_gradients(trace, function(name).at(trace, t), ("frames",), model)["frames"]
            for t in range(STEPS - (name == "value_delta"))
        ]
        whole = value_gradients(trace, function(name).at(trace, "sum"), ("frames",), model)["frames"]
        torch.testing.assert_close(whole, sum(each))


def test_steps_without_a_graph_are_those_that_were_asked_for():
    trace, model = traced(grad_steps=STEP + 1)
    whole, _ = traced()
    torch.testing.assert_close(torch.stack(trace.value), torch.stack(whole.value))
    assert [value.requires_grad for value in trace.value] == [True] * (STEP + 1) + [False] * (
        STEPS - STEP - 1
    )
    short, long = (
        value_gradients(one.until(STEP + 1), function("value").at(one, STEP), INPUTS, model)
        for one in (trace, whole)
    )
    for name in INPUTS:
        torch.testing.assert_close(short[name], long[name])


def test_a_closed_edge_stops_what_lies_beyond():
    trace, _ = traced()
    with closed(trace.action_edge, trace.frame_edge):
        (found,) = torch.autograd.grad(
            trace.value[2].sum(), trace.latent, retain_graph=True, allow_unused=True
        )
    (alone,) = torch.autograd.grad(trace.value[2].sum(), trace.latent)
    assert (found - alone).abs().max() > 1e-3
