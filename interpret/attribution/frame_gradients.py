"""Saliency: gradients of the agent's value with respect to pixels, and finite differences that check them.

Two paths from frame to value: the agent sees the frame itself; or the frame is the last that the simulator is
given, and the value is that of a simulated frame some steps later, along given actions (the straight-through
gradient, hard mode).
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import rankdata

from agents.actor_critic import ActorCritic
from common.precision import set_precision
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator

ValueOf = Callable[[torch.Tensor], torch.Tensor]
"""Frames [B, H, W, C] in [0, 1] -> values [B]."""


def direct_value(agent: ActorCritic, hidden: torch.Tensor) -> ValueOf:
    """The value when the agent with state hidden [B, D] sees the frame."""
    first = torch.zeros(len(hidden), dtype=torch.bool)
    reward = torch.zeros(len(hidden))

    def value(frames: torch.Tensor) -> torch.Tensor:
        return agent.heads(agent.advance(frames, hidden, first, reward))[1]

    return value


def simulated_value(
    simulator: Simulator, earlier: torch.Tensor, actions: torch.Tensor, keys: NoiseKeys
) -> ValueOf:
    """The value some simulated steps after the frame. The same keys draw the same noise for every frame.

    No gradient passes through the agent's memory of the earlier frames.

    Args:
        simulator: with its agent.
        earlier: [K - 1, B, H, W, C] frames before the frame, in [0, 1].
        actions: [T, B], taken from the frame on.
        keys: of the noise.
    """

    def value(frames: torch.Tensor) -> torch.Tensor:
        latent = simulator.encode(torch.cat([earlier, frames[None]]))
        z = latent.sample(keys.normal(latent.mean.shape[1], latent.mean))
        last = actions[-1:]  # the value is read before this action; it has to be given all the same
        run = simulator.simulate(
            z,
            len(actions) + 1,
            keys,
            actions=torch.cat([actions, last]),
            grad=torch.is_grad_enabled(),
            ends=False,
        )
        return run.value[-1]

    return value


def frame_gradient(value: ValueOf, frames: torch.Tensor) -> torch.Tensor:
    """Gradient of the value at frames [B, H, W, C], of the same shape."""
    with torch.enable_grad():
        leaf = frames.clone().requires_grad_()
        return torch.autograd.grad(value(leaf).sum(), leaf)[0].detach()


def sample_patches(count: int, side: int, patch: int, rng: np.random.Generator) -> np.ndarray:
    """Top-left corners [count, 2] of distinct square patches on a grid over a side x side frame."""
    grid = np.stack(
        np.meshgrid(np.arange(0, side, patch), np.arange(0, side, patch), indexing="ij"), -1
    ).reshape(-1, 2)
    return rng.permutation(grid)[:count]


def brighten_patches(frames: torch.Tensor, corners: np.ndarray, patch: int, step: float) -> torch.Tensor:
    """Frames [B, H, W, C], each with the patch at corners [B, 2] brighter by `step`."""
    out = frames.clone()
    for frame, (row, column) in zip(out, corners):
        frame[row : row + patch, column : column + patch] += step
    return out


def predicted_changes(gradient: torch.Tensor, corners: np.ndarray, patch: int, step: float) -> torch.Tensor:
    """Change [B, P] that the gradient [B, H, W, C] predicts for each brighter patch at corners [B, P, 2]."""
    rows = [[g[r : r + patch, c : c + patch].sum() for r, c in some] for g, some in zip(gradient, corners)]
    return step * torch.tensor(rows)


@torch.no_grad()
def measured_change(
    value: ValueOf, frames: torch.Tensor, corners: np.ndarray, patch: int, step: float
) -> torch.Tensor:
    """Half the difference [B] of the values with a patch at corners [B, 2] brighter and darker by `step`."""
    brighter, darker = (value(brighten_patches(frames, corners, patch, sign * step)) for sign in (1, -1))
    return (brighter - darker) / 2


def randomised_agent(agent: ActorCritic, seed: int) -> ActorCritic:
    """The same architecture with untrained weights: a saliency map that it reproduces does not depend on
    training (Adebayo et al. 2018).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = ActorCritic(agent.config).eval().requires_grad_(False)
    set_precision(agent.encoder.precision, fresh)
    return fresh


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation [n] of the rows of a and b [n, P]; NaN where a row is constant."""
    ranks = [rankdata(x, axis=1) for x in (a, b)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred[0] * centred[1]).sum(1) / np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
