"""Jacobians of scores: equal to products of matrices in a linear loop, to finite differences in the relaxed
simulator, and split by path.
"""

import numpy as np
import pytest
import torch

from common.policy import PolicyWrapper
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from interpret.attribution.jacobians import by_lag, in_scores, score_jacobians
from interpret.attribution.trace import recorded_trace, simulated_trace
from tests.helpers.linear_loop import (
    ENV,
    HIDDEN,
    MODEL,
    linear_trace,
    matrices,
    skewed_directions,
    true_jacobians,
)
from tests.helpers.toy_simulator import toy_simulator

STEP = 4
TOLERANCE = 1e-4


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest entry."""
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def linear():
    """Jacobians of two directions of the linear loop, and the true ones in all units of the hidden state."""
    m = matrices()
    directions = skewed_directions(HIDDEN, 2)
    found = score_jacobians(linear_trace(m, STEP + 2), directions, STEP, MODEL)
    return directions, found, [true_jacobians(m, lag) for lag in range(STEP + 1)]


@pytest.mark.parametrize("name", ["hidden/total", "hidden/agent", "env_state/total", "env_state/environment"])
def test_a_linear_loop_has_the_products_of_its_matrices(linear, name):
    directions, found, true = linear
    expected = torch.stack([directions.read @ one[name] for one in true]).expand(3, -1, -1, -1)
    assert off(found[name], expected) < TOLERANCE
    for mutant in (found[name].roll(1, 1), found[name].flip(1), found[name].flip(2), -found[name]):
        assert off(mutant, expected) > 0.1


def test_in_scores_rows_are_earlier_and_columns_later_scores(linear):
    directions, found, true = linear
    jacobian = in_scores(found["hidden/total"], directions)
    expected = torch.stack([(directions.read @ one["hidden/total"] @ directions.write).T for one in true])
    assert off(jacobian[0], expected) < TOLERANCE
    torch.testing.assert_close(jacobian[:, 0], torch.eye(2, dtype=torch.float64).expand(3, -1, -1))
    assert off(jacobian[0].mT, expected) > 0.1


def test_environment_states_in_scores_of_their_directions(linear):
    directions, found, _ = linear
    env_directions = skewed_directions(ENV, 2, seed=6)
    scored = score_jacobians(
        linear_trace(matrices(), STEP + 2), directions, STEP, MODEL, env_directions=env_directions
    )
    torch.testing.assert_close(scored["env_state/total"], found["env_state/total"] @ env_directions.write)
    torch.testing.assert_close(scored["hidden/total"], found["hidden/total"])


def test_paths_that_are_not_asked_for_are_left_out():
    trace = linear_trace(matrices(), STEP + 1)
    directions = skewed_directions(HIDDEN, 2)
    assert "env_state/environment" not in score_jacobians(
        trace, directions, STEP, MODEL, environment_path=False
    )
    assert set(score_jacobians(trace, directions, STEP)) == {"hidden/total", "hidden/agent"}


def test_every_sample_has_its_own_jacobian_and_later_steps_do_not_matter():
    simulator = toy_simulator()
    directions = skewed_directions(8, 2)
    z = torch.randn(4, simulator.model.config.latent_size, generator=torch.Generator().manual_seed(0))
    numbers = np.arange(4)
    whole = score_jacobians(simulated_trace(simulator, z, 5, NoiseKeys(0, numbers)), directions, 2)
    alone = score_jacobians(simulated_trace(simulator, z[2:3], 3, NoiseKeys(0, numbers[2:3])), directions, 2)
    for name in whole:
        torch.testing.assert_close(whole[name][2:3], alone[name], atol=1e-4, rtol=1e-3)


class Nudged(PolicyWrapper):
    """The agent, with something added to its state after frame `step`."""

    def __init__(self, policy, step: int, change: torch.Tensor):
        super().__init__(policy)
        self.step = step
        self.change = change
        self.seen = 0

    def advance(self, obs, state, first, reward):
        state = super().advance(obs, state, first, reward)
        self.seen += 1
        return state + self.change if self.seen == self.step + 1 else state


class NudgedSimulator(Simulator):
    """A simulator with something added to parts of the environment state at step `at`, before its frame."""

    at, change, taken = 0, {}, 0

    def step(self, state, action, noise=None, mode="hard", textures=None):
        after = super().step(state, action, noise, mode, textures)
        self.taken += 1
        if self.taken != self.at:
            return after
        moved = {name: getattr(after, name) + by for name, by in self.change.items()}
        return self.model.paint(after._replace(**moved), mode)


def relaxed_scores(simulator, z, directions, policy=None) -> torch.Tensor:
    """Scores [B, K] after frame STEP of a relaxed rollout."""
    keys = NoiseKeys(0, np.arange(len(z)))
    start = simulator.start(z, "relaxed")
    walk = simulator.rollout(start, STEP + 1, keys, policy=policy, mode="relaxed", ends=False)
    return directions.scores(list(walk)[-1].state)


@pytest.fixture(scope="module")
def relaxed():
    """A relaxed rollout, its Jacobians, and what it takes to repeat it."""
    simulator = toy_simulator(knows_phase=True)
    z = torch.randn(3, simulator.model.config.latent_size, generator=torch.Generator().manual_seed(4))
    directions = skewed_directions(8, 3)
    trace = simulated_trace(simulator, z, STEP + 1, NoiseKeys(0, np.arange(3)), mode="relaxed")
    return simulator, z, directions, score_jacobians(trace, directions, STEP, simulator.model)


def measured(small: float, scores_at) -> torch.Tensor:
    """Central difference of scores_at(change) for changes of size `small`."""
    with torch.no_grad():
        return (scores_at(small) - scores_at(-small)) / (2 * small)


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_writing_an_earlier_score_agrees_with_finite_differences(relaxed, lag):
    simulator, z, directions, found = relaxed
    jacobian = in_scores(found["hidden/total"], directions)
    for source in range(3):

        def scores_at(size: float, source: int = source) -> torch.Tensor:
            move = size * directions.write[:, source].float()
            return relaxed_scores(simulator, z, directions, Nudged(simulator.agent, STEP - lag, move))

        difference = measured(3e-3, scores_at)
        assert off(jacobian[:, lag, source], difference) < 0.005
        assert off(jacobian[:, :, source].roll(1, 1)[:, lag], difference) > 0.05
    mixed = found["hidden/total"] - found["hidden/agent"]
    assert mixed[:, lag].abs().max() > 1e-4  # the difference includes what goes through actions


@pytest.mark.parametrize(
    ("part", "lag"), [("vector", 1), ("vector", 3), ("pose", 0), ("motion", 2), ("position", 1)]
)
def test_moving_an_earlier_environment_state_agrees_with_finite_differences(relaxed, part, lag):
    simulator, z, directions, found = relaxed
    config = simulator.model.config
    widths = {"vector": config.vector_size, "pose": config.pose_size, "motion": 2, "position": 2}
    before = sum(
        width for name, width in widths.items() if list(widths).index(name) < list(widths).index(part)
    )
    unit = config.tile_pixels if part in ("motion", "position") else 1
    move = torch.randn(widths[part], generator=torch.Generator().manual_seed(2))
    gradient = found["env_state/total"][..., before : before + len(move)]

    def scores_at(size: float) -> torch.Tensor:
        nudged = NudgedSimulator(simulator.model, simulator.agent, simulator.noop)
        nudged.at, nudged.change = STEP - lag, {part: size * move}
        return relaxed_scores(nudged, z, directions)

    difference = measured(1e-3, scores_at)
    assert off(gradient[:, lag] @ (move / unit), difference) < 0.1  # differences of 1e-3 in float32
    assert off(gradient[:, lag + 1] @ (move / unit), difference) > 0.5


def test_parts_of_a_state_are_coordinates_and_not_computed_from_each_other():
    """The recurrent vector is not painted, though pose and place of the same step are computed from it."""
    simulator = toy_simulator()
    z = torch.randn(2, simulator.model.config.latent_size, generator=torch.Generator().manual_seed(0))
    trace = simulated_trace(simulator, z, 3, NoiseKeys(0, np.arange(2)), mode="relaxed")
    shown, later = trace.hidden[2].sum(), trace.hidden[3].sum()
    (now,) = torch.autograd.grad(shown, trace.env[1].vector, retain_graph=True, materialize_grads=True)
    (after,) = torch.autograd.grad(later, trace.env[1].vector, retain_graph=True)
    assert (now == 0).all()
    assert (after != 0).any()
    (first,) = torch.autograd.grad(later, trace.env[0].vector)
    assert (first != 0).any()


def test_on_recorded_frames_there_is_memory_alone():
    simulator = toy_simulator()
    z = torch.randn(3, simulator.model.config.latent_size, generator=torch.Generator().manual_seed(0))
    run = simulator.simulate(z, 4, NoiseKeys(0, np.arange(3)), ends=False)
    directions = skewed_directions(8, 2)
    found = score_jacobians(recorded_trace(simulator.agent, run), directions, 3)
    torch.testing.assert_close(found["hidden/total"], found["hidden/agent"])
    assert found["hidden/agent"][:, 3].abs().max() > 0


def test_no_weight_collects_a_gradient():
    """Defect 21 of the original system: it assigned `requires_grad` to the module, which does nothing."""
    simulator = toy_simulator()
    z = torch.randn(2, simulator.model.config.latent_size, generator=torch.Generator().manual_seed(0))
    trace = simulated_trace(simulator, z, 2, NoiseKeys(0, np.arange(2)))
    score_jacobians(trace, skewed_directions(8, 2), 1, simulator.model)
    weights = [*simulator.model.parameters(), *simulator.agent.parameters()]
    assert not [weight for weight in weights if weight.requires_grad or weight.grad is not None]


def test_lags_begin_at_the_step_itself():
    rows = torch.arange(6.0)[:, None, None]
    assert by_lag(rows, 3, "hidden").flatten().tolist() == [4, 3, 2, 1]
    assert by_lag(rows, 3, "env_state").flatten().tolist() == [3, 2, 1, 0]
