"""Starting points of simulations: numbered latents, encoded from recorded frames or random."""

from pathlib import Path

import numpy as np
import torch

from agents.actor_critic import load_agent
from common.runs import UsageError
from common.words import counted
from generative.compatibility import check_store
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from rollouts.store import BadStore, Rollouts

RECORDINGS = Path("data")
"""Where record.py writes its stores."""
NO_SOURCE = -1
"""Source episode and step of a random starting point."""


class InformedStarts:
    """Latents of recorded windows, in a random order of all windows of the store.

    Args:
        simulator: encodes the windows.
        rollouts: the store.
        seed: of the order.
        use_mode: take the mode of q(z) instead of a sample.
    """

    def __init__(self, simulator: Simulator, rollouts: Rollouts, seed: int, use_mode: bool = False):
        k = simulator.model.config.num_initializing_steps
        self.windows = rollouts.windows(k, anchor="start", pad="none")
        self.order = np.random.default_rng(seed).permutation(len(self.windows))
        self.simulator = simulator
        self.count = len(self.order)
        self.use_mode = use_mode
        self.path = rollouts.path
        self._to_last = np.array([0, k - 1])  # the last initialising frame is the first simulated one

    def latents(self, indices: np.ndarray, keys: NoiseKeys, device) -> torch.Tensor:
        """z [B, Z] of the numbered starting points [B]."""
        latent = self.simulator.encode(self.windows.batch(self.order[indices]).obs.to(device))
        return latent.sample(None if self.use_mode else keys.normal(latent.mean.shape[1], latent.mean))

    def source(self, indices: np.ndarray) -> np.ndarray:
        """Episode and step in the store of the first simulated frame, [B, 2]."""
        return self.windows.table[self.order[indices]] + self._to_last


class RandomStarts:
    """Random latents, from N(0, I) or uniform on the sphere, keyed by number and seed."""

    count = 2**31 - 1

    def __init__(self, simulator: Simulator):
        self.model = simulator.model

    def latents(self, indices: np.ndarray, keys: NoiseKeys, device) -> torch.Tensor:
        return self.model.random_latent(keys.normal(self.model.config.latent_size, self.model.bins))

    def source(self, indices: np.ndarray) -> np.ndarray:
        return np.full((len(indices), 2), NO_SOURCE)


Starts = InformedStarts | RandomStarts


def open_starts(
    simulator: Simulator,
    meta: dict,
    data_dir: Path | None,
    rand_init: bool,
    agent_file: Path,
    seed: int,
    use_mode: bool = False,
) -> tuple[Starts, Rollouts | None]:
    """The starting points that the flags ask for, and their store, if any.

    Args:
        simulator: encodes recorded windows.
        meta: the world model's description.
        data_dir: store of recorded windows; None for the model's training store, searched in RECORDINGS.
        rand_init: random latents instead.
        agent_file: the agent that the store must belong to.
        seed: of the order of the windows.
        use_mode: take the mode of q(z) instead of a sample.

    Raises:
        UsageError: both data_dir and rand_init are given, or neither and the training store is not found.
    """
    if rand_init and data_dir:
        raise UsageError(
            "--rand_init starts from random latents and --data_dir from recorded frames: give one of them"
        )
    if rand_init:
        return RandomStarts(simulator), None
    rollouts = open_agent_rollouts(data_dir or training_store(meta), agent_file)
    return InformedStarts(simulator, rollouts, seed, use_mode), rollouts


def training_store(meta: dict) -> Path:
    """The store in RECORDINGS that a world model with this description was trained on.

    Raises UsageError where there is none.
    """
    for manifest in sorted(RECORDINGS.glob("*/manifest.json")):
        try:
            if Rollouts.open(manifest.parent).id == meta.get("data"):
                return manifest.parent
        except BadStore:  # damaged, or another kind of directory
            continue
    raise UsageError(
        f"the store that this world model was trained on is not in {RECORDINGS}/: give --data_dir, any store "
        "of its agent's rollouts (python record.py makes one), or --rand_init for random latents, whose "
        "frames are blurred"
    )


def check_start_count(starts: Starts, wanted: int) -> None:
    """Raises UsageError when there are fewer starting points than wanted."""
    if wanted > starts.count:
        raise UsageError(
            f"{starts.path} has {counted(starts.count, 'starting point')}, and {wanted} were asked for; "
            "ask for fewer"
        )


def open_agent_rollouts(data_dir: Path, agent_file: Path) -> Rollouts:
    """Opens a store of an agent's rollouts. Raises UsageError when another agent must have recorded it."""
    rollouts = Rollouts.open(data_dir)
    check_store(rollouts, *load_agent(agent_file), agent_file)
    return rollouts
