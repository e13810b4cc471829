"""Simulated episodes into a rollout store: one batch at a time, one shard per batch, the same bits however often it is interrupted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.progress import progress_bar
from generative.config import WorldModelConfig
from generative.simulator import EXTRA_STEPS, NoiseKeys, Simulator
from rollouts.segment import Segment
from rollouts.store import Rollouts, create_store, shard_done, write_shard
from rollouts.windows import Windows

NOWHERE = -1
"""source_episode and source_step of a sample that began from a random latent."""
_COPIED = ("action", "reward", "terminated", "truncated", "value", "logits", "log_prob")


@dataclass(frozen=True)
class Sampling:
    """How samples are made. Sample i depends on these and on i alone."""

    num_samples: int
    num_sim_steps: int
    batch_size: int
    seed: int
    modal: bool
    """The likeliest latent and environment states, and ends where their probability passes one half; else all are drawn."""
    greedy: bool
    """The agent's likeliest actions; else it draws them."""


class InformedStart:
    """Latents of recorded windows: sample i begins at the i-th of a random order of the store's windows.

    Raises ValueError when the store has fewer windows than samples are asked for.
    """

    def __init__(self, simulator: Simulator, rollouts: Rollouts, sampling: Sampling):
        k = simulator.model.config.num_initializing_steps
        windows = rollouts.windows(k, anchor="start", pad="none")
        if len(windows) < sampling.num_samples:
            raise ValueError(f"{rollouts.path} has {len(windows)} starting places, fewer than {sampling.num_samples}; lower --num_samples")
        order = np.random.default_rng(sampling.seed).permutation(len(windows))[: sampling.num_samples]
        self.windows, self.simulator, self.modal = Windows(rollouts, k, windows.table[order]), simulator, sampling.modal
        self.source = windows.table[order] + [0, k - 1]  # the last initialising frame is the first simulated one

    def latents(self, samples: np.ndarray, keys: NoiseKeys, device) -> torch.Tensor:
        """z [B, Z] of the numbered samples."""
        latent = self.simulator.encode(self.windows.batch(samples).obs.to(device))
        return latent.sample(None if self.modal else keys.normal(latent.mean.shape[1], latent.mean))


class RandomStart:
    """Latents drawn from N(0, I)."""

    def __init__(self, simulator: Simulator, sampling: Sampling):
        self.width, self.like = simulator.model.config.latent_size, simulator.model.bins
        self.source = np.full((sampling.num_samples, 2), NOWHERE)

    def latents(self, samples: np.ndarray, keys: NoiseKeys, device) -> torch.Tensor:
        return keys.normal(self.width, self.like)


def record_samples(simulator: Simulator, start, sampling: Sampling, path: Path, manifest: dict, agent_id: str, device) -> None:
    """Simulates every sample that the store does not hold yet. Memory: one batch, whatever the number of samples.

    start: an InformedStart or a RandomStart. manifest: what the store is to say beyond its fields. An episode ends `terminated`
    where the model says so and is `cut` at num_sim_steps otherwise; steps after an end are not kept.
    """
    create_store(path, manifest | extra_fields(simulator.model.config))
    shards = -(-sampling.num_samples // sampling.batch_size)
    for index in progress_bar(range(shards), unit="shard", desc="simulate"):
        if shard_done(path, index):
            continue
        samples = np.arange(index * sampling.batch_size, min((index + 1) * sampling.batch_size, sampling.num_samples))
        keys = NoiseKeys(sampling.seed, samples)
        with torch.no_grad():
            z = start.latents(samples, keys, device)
        segment = simulator.simulate(z, sampling.num_sim_steps, keys, greedy=sampling.greedy, modal=sampling.modal).to("cpu")
        steps, episodes = as_shard(segment)
        behaviour = "greedy" if sampling.greedy else "agent"
        write_shard(path, index, steps, episodes | {
            "id": samples, "level_seed": np.full(len(samples), NOWHERE), "repeat": np.zeros(len(samples), np.int64),
            "behaviour": np.full(len(samples), behaviour), "policy_id": np.full(len(samples), agent_id),
            "source_episode": start.source[samples, 0], "source_step": start.source[samples, 1],
        })  # fmt: skip


def extra_fields(config: WorldModelConfig) -> dict:
    """What a simulated store holds beyond a real one, as its manifest declares it."""
    steps = {"env_state": ("float32", [config.deter_size]), "env_class": ("uint8", [config.groups])}
    steps |= {name: ("float32", []) for name in ("done_prob", "reward_prob")}
    episodes = {"latent": ("float32", [config.latent_size])}
    episodes |= {name: ("int64", []) for name in ("previous_action", "source_episode", "source_step")}
    declared = {"extra_step_fields": steps, "extra_episode_fields": episodes}
    return {key: {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in fields.items()} for key, fields in declared.items()}


def as_shard(segment: Segment) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The existing steps of a simulated Segment, episode after episode, and what its episodes have once.

    A sample counts as complete when it ended with an action that more likely than not earned a reward.
    """
    alive = segment.mask.T.numpy()  # [B, T]
    length = alive.sum(1)

    def flat(x: torch.Tensor) -> np.ndarray:
        return x.detach().transpose(0, 1).numpy()[alive]

    steps = {name: flat(getattr(segment, name)) for name in _COPIED} | {"obs": flat(segment.obs), "hidden": flat(segment.hidden[:-1])}
    steps |= {name: flat(segment.extra[name]) for name in EXTRA_STEPS}
    last = np.cumsum(length) - 1
    rows = np.arange(len(length))
    return steps, {
        "length": length, "complete": steps["terminated"][last] & (steps["reward_prob"][last] > 0.5),
        "final_hidden": segment.hidden.numpy()[length, rows],
        "latent": segment.extra["latent"].numpy(), "previous_action": segment.extra["previous_action"].numpy(),
    }  # fmt: skip
