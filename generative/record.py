"""Records simulated episodes into a rollout store, one batch per shard; resumable bit for bit."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.policy import Policy
from common.progress import progress_bar
from common.shared_flags import ALONE, Job
from common.stopping import saving_on_stop
from generative.model.config import WorldModelConfig
from generative.noise_keys import NoiseKeys
from generative.simulator import EXTRA_STEPS, Simulator
from generative.starts import Starts, check_start_count
from rollouts.growth import GROWN, shard_ranges
from rollouts.segment import Segment
from rollouts.store import create_store, shards_kept, unwritten, write_shard

NO_LEVEL = -1
"""The level_seed of simulated episodes."""
_COPIED = ("action", "reward", "terminated", "truncated", "value", "logits", "log_prob")


@dataclass(frozen=True)
class Sampling:
    """How samples are simulated. Sample i depends on these values and on i alone."""

    num_samples: int
    num_sim_steps: int
    batch_size: int
    seed: int
    use_mode: bool = False
    """Take the mode of latents and environment states, and end episodes where done is above 0.5, instead of
    sampling.
    """
    greedy: bool = False
    """The agent takes its most likely action instead of sampling."""
    manual: tuple[int, ...] = ()
    """Actions taken in turn, repeating, instead of the agent's."""
    grid: bool = False
    """From each starting point, one episode per action of `manual`, held throughout, with the same noise."""
    env_state: str = "float16"
    """Dtype of the stored deterministic state: float32, float16, or none to leave it out."""
    grown_from: tuple[int, ...] = ()
    """Sizes at which the store was complete before, with a last shard that was not full; shards end there."""

    def shards(self) -> list[range]:
        """Sample numbers of each shard."""
        return shard_ranges(self.num_samples, self.batch_size, self.grown_from)

    def values(self) -> dict:
        """The values for a store's manifest."""
        return {name: value for name, value in vars(self).items() if name != GROWN or value}

    @property
    def per_start(self) -> int:
        """Episodes from each starting point."""
        return len(self.manual) if self.grid else 1

    def actions(self, samples: np.ndarray) -> torch.Tensor | None:
        """The given actions [T, B] of the numbered samples, or None where the agent chooses."""
        if not self.manual:
            return None
        index = samples if self.grid else np.arange(self.num_sim_steps)[:, None]
        index = np.broadcast_to(index, (self.num_sim_steps, len(samples)))
        return torch.from_numpy(np.array(self.manual)[index % len(self.manual)])

    def behaviour(self, names: list[str]) -> str:
        """The behaviour recorded in the store."""
        if self.manual:
            return "manual: " + (" or " if self.grid else " ").join(names[action] for action in self.manual)
        return "greedy" if self.greedy else "agent"


def record_samples(
    simulator: Simulator,
    starts: Starts,
    sampling: Sampling,
    path: Path,
    manifest: dict,
    agent_id: str,
    device,
    policy: Policy | None = None,
    job: Job = ALONE,
) -> int:
    """Simulates the samples of this job's shards that the store lacks; returns how many.

    Memory holds one batch.

    An episode is `terminated` where the model predicts its end, and otherwise `cut` at num_sim_steps; steps
    after an end are not stored.

    Args:
        simulator: simulates.
        starts: starting points.
        sampling: how the samples are simulated.
        path: the store.
        manifest: of the store, besides the fields it declares.
        agent_id: policy id of the episodes.
        device: that simulates.
        policy: acts instead of the simulator's agent.
        job: of several that fill the store.

    Raises:
        UsageError: too few starting points.
    """
    check_start_count(starts, -(-sampling.num_samples // sampling.per_start))
    create_store(path, manifest | extra_fields(simulator.model.config, sampling.env_state))
    shards = job.share(range(len(sampling.shards())))
    recorded = 0
    with saving_on_stop(lambda: shards_kept(path, shards)):
        for index in unwritten(path, progress_bar(shards, unit="shard", desc="simulate")):
            recorded += _record_shard(
                simulator, starts, sampling, path, index, manifest["action_names"], agent_id, device, policy
            )
    return recorded


def _record_shard(
    simulator,
    starts,
    sampling: Sampling,
    path: Path,
    index: int,
    action_names: list[str],
    agent_id: str,
    device,
    policy: Policy | None,
) -> int:
    samples = np.array(sampling.shards()[index])
    start_indices = samples // sampling.per_start
    segment = _simulate(simulator, starts, sampling, samples, start_indices, device, policy)
    steps, episodes = segment_to_shard(segment, sampling.env_state)
    source = starts.source(start_indices)
    behaviour = sampling.behaviour(action_names)
    write_shard(
        path,
        index,
        steps,
        episodes
        | {
            "id": samples,
            "level_seed": np.full(len(samples), NO_LEVEL),
            "repeat": np.zeros(len(samples), np.int64),
            "behaviour": np.full(len(samples), behaviour),
            "policy_id": np.full(len(samples), agent_id),
            "source_episode": source[:, 0],
            "source_step": source[:, 1],
        },
    )
    return len(samples)


def _simulate(
    simulator: Simulator,
    starts: Starts,
    sampling: Sampling,
    samples,
    start_indices,
    device,
    policy: Policy | None,
) -> Segment:
    keys = NoiseKeys(sampling.seed, start_indices)
    actions = sampling.actions(samples)
    with torch.no_grad():
        z = starts.latents(start_indices, keys, device)
    options = dict(
        policy=policy,
        greedy=sampling.greedy,
        use_mode=sampling.use_mode,
        actions=None if actions is None else actions.to(device),
    )
    return simulator.simulate(z, sampling.num_sim_steps, keys, **options).to("cpu")


def extra_fields(config: WorldModelConfig, env_state: str) -> dict:
    """Declarations, for the manifest, of the fields that simulated stores have besides those of real ones."""
    steps = {} if env_state == "none" else {"env_state": (env_state, [config.deter_size])}
    steps |= {"env_class": ("uint8", [config.stoch_shape[0]])} | {
        name: ("float32", []) for name in ("done_prob", "reward_prob")
    }
    episodes = {"latent": ("float32", [config.latent_size])}
    episodes |= {name: ("int64", []) for name in ("previous_action", "source_episode", "source_step")}
    declared = {"extra_step_fields": steps, "extra_episode_fields": episodes}
    return {
        key: {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in fields.items()}
        for key, fields in declared.items()
    }


def segment_to_shard(
    segment: Segment, env_state: str = "float32"
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns of the steps and of the episodes of a simulated Segment.

    Existing steps only, episode after episode. An episode is complete when the action that ended it has a
    reward probability above 0.5.
    """
    alive = segment.mask.T.numpy()  # [B, T]
    length = alive.sum(1)

    def flat(x: torch.Tensor) -> np.ndarray:
        return x.detach().transpose(0, 1).numpy()[alive]

    steps = {name: flat(getattr(segment, name)) for name in _COPIED} | {
        "obs": flat(segment.obs),
        "hidden": flat(segment.hidden[:-1]),
    }
    steps |= {name: flat(segment.extra[name]) for name in EXTRA_STEPS if name != "env_state"}
    if env_state != "none":
        steps["env_state"] = flat(segment.extra["env_state"]).astype(env_state)
    last = np.cumsum(length) - 1
    rows = np.arange(len(length))
    return steps, {
        "length": length,
        "complete": steps["terminated"][last] & (steps["reward_prob"][last] > 0.5),
        "final_hidden": segment.hidden.numpy()[length, rows],
        "latent": segment.extra["latent"].numpy(),
        "previous_action": segment.extra["previous_action"].numpy(),
    }
