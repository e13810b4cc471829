"""Simulated episodes into a rollout store: one batch at a time, one shard per batch, the same bits however
often it is interrupted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.progress import progress_bar
from common.stopping import saving_on_stop
from generative.model.config import WorldModelConfig
from generative.simulator import EXTRA_STEPS, NoiseKeys, Simulator
from generative.starts import Starts, check_start_count
from rollouts.growth import GROWN, shard_ranges
from rollouts.segment import Segment
from rollouts.store import create_store, shards_kept, unwritten, write_shard

NO_LEVEL = -1
"""level_seed of an episode that no level of the game made."""
_COPIED = ("action", "reward", "terminated", "truncated", "value", "logits", "log_prob")


@dataclass(frozen=True)
class Sampling:
    """How samples are made. Sample i depends on these and on i alone."""

    num_samples: int
    num_sim_steps: int
    batch_size: int
    seed: int
    use_mode: bool = False
    """The likeliest latent and environment states, and ends where their probability passes one half; else all
    are drawn.
    """
    greedy: bool = False
    """The agent's likeliest actions; else it draws them."""
    manual: tuple[int, ...] = ()
    """Actions taken in turn, from the first again when they run out, in place of the agent's own."""
    grid: bool = False
    """One episode for every action of `manual`, held throughout, from each starting place, with the same
    noise.
    """
    env_state: str = "float16"
    """How the environment's deterministic state is stored: float32, float16, or none."""
    grown_from: tuple[int, ...] = ()
    """Numbers of samples that the store was recorded with before, where its last shard was not full: no shard
    runs over them.
    """

    def shards(self) -> list[range]:
        """The numbers of the samples of each shard."""
        return shard_ranges(self.num_samples, self.batch_size, self.grown_from)

    def values(self) -> dict:
        """What a manifest says of it."""
        return {name: value for name, value in vars(self).items() if name != GROWN or value}

    @property
    def per_place(self) -> int:
        """Episodes from each starting place."""
        return len(self.manual) if self.grid else 1

    def actions(self, samples: np.ndarray) -> torch.Tensor | None:
        """What the numbered samples do [T, B], where that is given."""
        if not self.manual:
            return None
        turn = np.arange(self.num_sim_steps)[:, None]
        turn = np.broadcast_to(samples if self.grid else turn, (self.num_sim_steps, len(samples)))
        return torch.from_numpy(np.array(self.manual)[turn % len(self.manual)])

    def behaviour(self, names: list[str]) -> str:
        """What a store calls the way in which actions came about."""
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
) -> int:
    """Simulates every sample that the store does not hold yet, and says how many that were. Memory: one
    batch, whatever the number of samples.

    manifest: what the store is to say beyond its fields. An episode ends `terminated` where the model says so
    and is `cut` at num_sim_steps otherwise; steps after an end are not kept. Raises UsageError when there are
    too few starting places.
    """
    check_start_count(starts, -(-sampling.num_samples // sampling.per_place))
    create_store(path, manifest | extra_fields(simulator.model.config, sampling.env_state))
    shards = range(len(sampling.shards()))
    made = 0
    with saving_on_stop(lambda: shards_kept(path, shards)):
        for index in unwritten(path, progress_bar(shards, unit="shard", desc="simulate")):
            made += _record_shard(
                simulator, starts, sampling, path, index, manifest["action_names"], agent_id, device
            )
    return made


def _record_shard(
    simulator,
    starts,
    sampling: Sampling,
    path: Path,
    index: int,
    action_names: list[str],
    agent_id: str,
    device,
) -> int:
    samples = np.array(sampling.shards()[index])
    places = samples // sampling.per_place
    segment = _simulate(simulator, starts, sampling, samples, places, device)
    steps, episodes = segment_to_shard(segment, sampling.env_state)
    source = starts.source(places)
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


def _simulate(simulator: Simulator, starts: Starts, sampling: Sampling, samples, places, device) -> Segment:
    keys = NoiseKeys(sampling.seed, places)
    actions = sampling.actions(samples)
    with torch.no_grad():
        z = starts.latents(places, keys, device)
    how = dict(
        greedy=sampling.greedy, use_mode=sampling.use_mode, actions=None if actions is None else actions.to(device)
    )
    return simulator.simulate(z, sampling.num_sim_steps, keys, **how).to("cpu")


def extra_fields(config: WorldModelConfig, env_state: str) -> dict:
    """What a simulated store holds beyond a real one, as its manifest declares it."""
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
    """The existing steps of a simulated Segment, episode after episode, and what its episodes have once.

    A sample counts as complete when it ended with an action that more likely than not earned a reward.
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
