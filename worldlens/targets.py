"""Latents of the simulator that make the agent do something (docs/target_functions.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from common.errors import UsageError
from common.precision import precision_set
from common.progress import progress_bar
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from interpret.directions.directions import Directions
from interpret.forks.fork_points import ForkPoints
from interpret.targets.latent_optimisation import LatentOptimiser, OptimisationConfig
from interpret.targets.latent_prior import Prior
from interpret.targets.recorded_moments import make_prior, read_moments, recorded_windows
from interpret.targets.target_rollouts import TargetRollouts, reading_of
from interpret.targets.targets import Place, Target, choose_targets
from rollouts.store import Rollouts
from worldlens.saliency import functions
from worldlens.simulate import starting_latents

_SCALE_LATENTS = 64
"""Random latents of the prior over which the function's standard deviation is taken."""


@dataclass(frozen=True)
class OptimisedLatents:
    """N optimised latents and where they began, [N, Z] each.

    value, start_value: the function at both [N], means over rollouts with noise that nothing was chosen by.
    percentile: share, in percent, of recorded latents that are nearer to the prior's typical shell [N].
    curves: value, score, percentile and diversity at every evaluation, [evaluations, N] each.
    """

    latents: torch.Tensor = field(repr=False)
    start: torch.Tensor = field(repr=False)
    value: np.ndarray
    start_value: np.ndarray
    percentile: np.ndarray
    curves: dict[str, np.ndarray] = field(repr=False)


def latent_prior(
    simulator: Simulator, rollouts: Rollouts, num_moments: int = 1000, *, batch_size: int = 64, seed: int = 0
) -> Prior:
    """The Gaussian of the latents of recorded moments: what counts as plausible in `optimise_latents`.

    Args:
        simulator: Encodes the moments.
        rollouts: Where they are from, at least four levels; recorded by the simulator's agent.
        num_moments: Drawn at random.
        batch_size: Moments at a time.
        seed: Of the draw, and of the split of levels into those that it is fit on and those it is
            calibrated on.

    Raises:
        UsageError: Too few levels, or episodes that are too short.
    """
    with precision_set("fp32", simulator.model, simulator.agent):
        windows = recorded_windows(rollouts, simulator.model, 1, num_moments, seed)
        moments = read_moments(simulator, windows, batch_size, simulator.model.bins.device)
        return make_prior("recorded", moments, simulator.model, seed)


def optimise_latents(
    simulator: Simulator,
    start: ForkPoints | torch.Tensor | int,
    target: str = "increase_value",
    step: int | Literal["sum"] = 4,
    *,
    prior: Prior,
    config: OptimisationConfig = OptimisationConfig(),
    num_steps: int = 12,
    directions: Mapping[str, Directions] | None = None,
    places: Mapping[str, Place] | None = None,
    report_rollouts: int = 64,
    batch_size: int = 64,
    seed: int = 0,
) -> OptimisedLatents:
    """Changes latents by gradient until the agent in the simulator meets a target, in expectation over noise.

    An optimum is a claim about the simulator only: compare it with the best of many recorded moments, which
    target_function_exps.py does, before you believe that gradients found anything. Computed in float32.

    Args:
        simulator: One that `load_simulator` returned.
        start: Where the N optimisations begin: fork points, frames or latents, as for `simulate`, or a number
            of random latents of `prior`.
        target: increase_<function>, decrease_<function>, <function>=<number>, or reach_<place>; functions as
            for `functions`.
        step: At which the function is read, or "sum": over all num_steps.
        prior: From `latent_prior`.
        config: Iterations, learning rate, rollouts, weights of prior and diversity.
        num_steps: Steps of a sum.
        directions: As for `functions`.
        places: Points in the agent's state space that targets name.
        report_rollouts: Rollouts per latent that `value` and `start_value` are means of.
        batch_size: Most rollouts at a time.
        seed: Of all noise.

    Raises:
        UsageError: A target that there is not, several, or a step beyond the rollout.
    """
    chosen = _choose(simulator, target, directions, places or {})
    reading = reading_of(chosen, step, num_steps)
    with precision_set("fp32", simulator.model, simulator.agent):
        z = _starts(simulator, start, prior, seed)
        rollouts = TargetRollouts(simulator, chosen, reading, seed, batch_size)
        scale = _scale(rollouts, prior, config.num_rollouts)
        optimiser = LatentOptimiser(rollouts, prior, z, config, scale)
        with progress_bar(total=config.num_iterations, unit="iteration", desc=chosen.name) as bar:
            while not optimiser.done:
                optimiser.step()
                bar.update()
        found = optimiser.latents.detach()
        values = [
            rollouts.scored(one, np.arange(len(z)), report_rollouts, "report").value.mean(1)
            for one in (found, z)
        ]
        percentile = prior.percentile(prior.whiten(found))
    curves = {name: torch.stack(rows).cpu().numpy() for name, rows in optimiser.curves.items()}
    return OptimisedLatents(found, z, *(x.cpu().numpy() for x in (*values, percentile)), curves)


def _choose(
    simulator: Simulator,
    target: str,
    directions: Mapping[str, Directions] | None,
    places: Mapping[str, Place],
) -> Target:
    known = {one.name: one for one in functions(simulator, directions=directions)}
    found = choose_targets([target], known, places)
    if len(found) > 1:
        raise UsageError(f"{target!r} names {len(found)} targets, such as {found[0].name}: give one of them")
    return found[0]


@torch.no_grad()
def _starts(
    simulator: Simulator, start: ForkPoints | torch.Tensor | int, prior: Prior, seed: int
) -> torch.Tensor:
    if not isinstance(start, int):
        return starting_latents(simulator, start, seed)[0]
    return prior.sample(_noise(simulator, start, seed, 0))


@torch.no_grad()
def _scale(rollouts: TargetRollouts, prior: Prior, draws: int) -> float:
    """Standard deviation of the function over random latents of the prior; 1 where it hardly varies."""
    z = prior.sample(_noise(rollouts.simulator, _SCALE_LATENTS, rollouts.seed, 1))
    value = rollouts.scored(z, np.arange(len(z)), draws, "select").value.mean(1)
    scale = float(value.std())
    return scale if scale > 1e-6 else 1.0


def _noise(simulator: Simulator, count: int, seed: int, draw: int) -> torch.Tensor:
    """Standard normal noise [N, Z]."""
    return NoiseKeys(seed, np.arange(count), draw).normal(
        simulator.model.config.latent_size, simulator.model.bins
    )
