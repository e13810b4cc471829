"""Stored simulated episodes as traces: the same latents, noise and actions, with gradients."""

import numpy as np
import torch

from common.runs import UsageError
from generative.noise_keys import NoiseKeys
from generative.record import Sampling
from generative.simulator import Simulator
from interpret.attribution.trace import Trace, simulated_trace
from rollouts.store import Rollouts


def stored_sampling(rollouts: Rollouts) -> Sampling:
    """How the episodes of a simulated store were sampled.

    Raises:
        UsageError: for real episodes, which have no latent.
    """
    values = rollouts.manifest.get("sampling")
    if not rollouts.simulated or values is None:
        raise UsageError(
            f"{rollouts.path} holds no simulated episodes, and gradients need their latents: give a store "
            "recorded with record_gen_samples.py"
        )
    return Sampling(**values | {"manual": tuple(values["manual"])})


def check_recorded_with(rollouts: Rollouts, world_model_id: str, agent_id: str) -> None:
    """Raises UsageError if a simulated store is of another world model or agent."""
    inputs = rollouts.manifest.get("inputs", {})
    for name, given in (("world_model_file", world_model_id), ("agent_file", agent_id)):
        if inputs.get(name) != given:
            raise UsageError(
                f"{rollouts.path} was recorded with --{name} {inputs.get(name)}, not {given}: give that "
                "file, or record the store again with record_gen_samples.py"
            )


def replayed_trace(simulator: Simulator, rollouts: Rollouts, episodes: np.ndarray, steps: int) -> Trace:
    """The first steps of stored simulated episodes [B], simulated again with gradients.

    An episode that the model ended goes on here. Rounding may change an action now and then: compare
    `Trace.taken` with the stored ones.
    """
    sampling = stored_sampling(rollouts)
    samples = rollouts.episodes["id"][episodes]
    device = simulator.model.bins.device
    actions = sampling.actions(samples)
    return simulated_trace(
        simulator,
        torch.from_numpy(rollouts.episodes["latent"][episodes]).to(device),
        steps,
        NoiseKeys(sampling.seed, samples // sampling.per_start),
        actions=None if actions is None else actions.to(device),
        greedy=sampling.greedy,
        use_mode=sampling.use_mode,
    )


def same_actions(trace: Trace, rollouts: Rollouts, episodes: np.ndarray) -> np.ndarray:
    """Whether each sample [B] takes the actions of its stored episode, up to where that one ends."""
    taken = trace.taken.cpu().numpy()
    length = np.minimum(rollouts.episodes["length"][episodes], len(taken))
    stored = rollouts.steps("action")
    first = rollouts.first_step[episodes]
    return np.array(
        [np.array_equal(stored[at : at + n], taken[:n, b]) for b, (at, n) in enumerate(zip(first, length))]
    )
