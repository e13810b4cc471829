"""Which pixels, states or actions a function of the agent depends on, through agent and simulator."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from common.errors import UsageError
from common.precision import precision_set
from generative.simulator import Simulator
from interpret.attribution.functions import Function, choose_functions, known_functions
from interpret.attribution.saliency import SaliencyConfig, mean_gradients, sample_trace
from interpret.attribution.trace_gradients import INPUTS
from interpret.directions.directions import Directions
from interpret.forks.fork_points import ForkPoints
from worldlens.simulate import starting_latents


def functions(
    simulator: Simulator, names: Sequence[str] = (), directions: Mapping[str, Directions] | None = None
) -> list[Function]:
    """Functions that gradients can be taken of, by name: value, action, leftwards, hidden_3, ...

    Args:
        simulator: one that `load_simulator` returned, as functions are named after the game's actions.
        names: the functions; by default all there are.
        directions: of the hidden state, by kind: {"pca": directions} gives hx_direction_0_pca and so on.

    Raises:
        UsageError: An unknown name, or a simulator whose actions have no names.
    """
    if simulator.actions is None:
        raise UsageError("this simulator's actions have no names: take one from load_simulator")
    known = known_functions(simulator.actions, directions or {}, simulator.agent.core.state_size)
    return choose_functions(names or list(known), known)


def saliency(
    simulator: Simulator,
    start: ForkPoints | torch.Tensor | int,
    names: Sequence[str] = ("value", "action"),
    step: int | Literal["sum"] = 4,
    *,
    wrt: Literal["frames", "hidden", "env_state", "actions", "latent"] = "frames",
    num_steps: int = 10,
    draws: int = 1,
    noise: float = 0.01,
    paths: bool = False,
    directions: Mapping[str, Directions] | None = None,
    seed: int = 0,
    draw: int = 0,
) -> dict[str, np.ndarray]:
    """Gradients of functions of the agent in simulated rollouts.

    Computed in float32, as bf16 is too coarse. The rollouts are those of `simulate` with the same start, seed
    and draw, where the simulator was loaded with precision="fp32".

    Args:
        simulator: As for `functions`.
        start: Where B rollouts begin, as for `simulate`.
        names: The functions.
        step: At which they are read, or "sum": over all steps.
        wrt: What is changed: pixels, hidden states, environment states, weights of actions, or the latent.
        num_steps: Simulated steps.
        draws: Copies of each rollout over which gradients are averaged; the first has no noise (SmoothGrad).
        noise: Standard deviation of the latents of the other copies.
        paths: Whether to add the parts of each gradient: <function>@agent, @environment and @mixed.
        directions: As for `functions`.
        seed: Of all noise.
        draw: Which repetition of the noise.

    Returns:
        {function: float32}, S = step + 1 being the steps that can matter: frames [B, S, H, W], summed over
        colours; hidden [B, S + 1, D], before each frame and after the last; env_state [B, S, Dh]; actions
        [B, S, A]; latent [B, Z].

    Raises:
        UsageError: An unknown function or input, or a step at which a function has no value.
    """
    if wrt not in INPUTS:
        raise UsageError(f"no gradients with respect to {wrt!r}; there are those to {', '.join(INPUTS)}")
    chosen = functions(simulator, names, directions)
    config = SaliencyConfig(chosen, num_steps, step, (wrt,), draws, noise, paths)
    with precision_set("fp32", simulator.model, simulator.agent):
        z, keys = starting_latents(simulator, start, seed, draw)
        trace = sample_trace(simulator, z, keys, config)
        gradients = mean_gradients(trace, config, simulator.model)
        return {name: _samples_first(found[wrt], wrt) for name, found in gradients}


def _samples_first(gradient: torch.Tensor, wrt: str) -> np.ndarray:
    if wrt == "frames":
        gradient = gradient.sum(-1)
    return (gradient if wrt == "latent" else gradient.transpose(0, 1)).float().cpu().numpy()
