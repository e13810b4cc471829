"""Run the agent inside the world model."""

import numpy as np
import torch

from common.errors import UsageError
from common.policy import Policy
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from interpret.forks.fork_points import ForkPoints
from rollouts.segment import Segment


def simulate(
    simulator: Simulator,
    start: ForkPoints | torch.Tensor | int,
    num_steps: int = 16,
    *,
    seed: int = 0,
    draw: int = 0,
    policy: Policy | None = None,
    actions: np.ndarray | None = None,
    stop_at_end: bool = True,
) -> Segment:
    """Run the agent on simulated frames.

    Args:
        simulator: The world model with its agent.
        start: Where to begin: B fork points (their frames are encoded), frames [K, B, H, W, C] uint8, latents
            [B, Z], or a number of draws from the prior.
        num_steps: Simulated steps T.
        seed: Of all noise. Give `recording_seed(rollouts)` to pair fork points with `fork`.
        draw: Which repetition of the noise, as for `fork`.
        policy: Acts in place of the simulator's own agent.
        actions: [T, B] integers, taken in place of the policy's own.
        stop_at_end: Whether steps after a simulated end are masked.

    Returns:
        A Segment [T, B, ...]; `extra["latent"]` [B, Z] is where each run began.

    Raises:
        UsageError: `start` is neither of these.
    """
    z, keys = starting_latents(simulator, start, seed, draw)
    given = None if actions is None else torch.as_tensor(np.asarray(actions, np.int64), device=z.device)
    return simulator.simulate(z, num_steps, keys, policy=policy, actions=given, ends=stop_at_end).to("cpu")


@torch.no_grad()
def starting_latents(
    simulator: Simulator, start: ForkPoints | torch.Tensor | int, seed: int = 0, draw: int = 0
) -> tuple[torch.Tensor, NoiseKeys]:
    """Latents [B, Z] and the noise keys of their runs; arguments as in `simulate`."""
    bins = simulator.model.bins
    config = simulator.model.config
    if isinstance(start, ForkPoints):
        keys = start.keys(seed, draw)
        frames = torch.from_numpy(start.frames)
    elif isinstance(start, int):
        keys = NoiseKeys(seed, np.arange(start), draw)
        return simulator.model.random_latent(keys.normal(config.latent_size, bins)), keys
    elif start.ndim == 2 and start.shape[1] == config.latent_size:
        return start.to(bins), NoiseKeys(seed, np.arange(len(start)), draw)
    elif start.ndim == 5 and tuple(start.shape[2:]) == config.obs_shape:
        keys = NoiseKeys(seed, np.arange(start.shape[1]), draw)
        frames = start
    else:
        shape = ", ".join(map(str, config.obs_shape))
        raise UsageError(
            f"start has shape {tuple(start.shape)}; expected fork points, frames"
            f" [{config.num_initializing_steps}, B, {shape}], latents [B, {config.latent_size}] or an integer"
        )
    latent = simulator.encode(frames.to(bins.device))
    return latent.sample(keys.normal(latent.mean.shape[1], latent.mean)), keys
