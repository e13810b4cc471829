"""Where simulations begin: numbered starting places, in recorded frames or at random, each with its latent."""

from pathlib import Path

import numpy as np
import torch

from agents.actor_critic import load_agent
from common.runs import UsageError
from common.words import counted
from generative.compatibility import check_store
from generative.simulator import NoiseKeys, Simulator
from rollouts.store import BadStore, Rollouts

RECORDINGS = Path("data")
"""Where record.py writes its stores."""
NO_SOURCE = -1
"""Source episode and step of a place that no recording has."""


class InformedStarts:
    """Latents of recorded windows: place i is the i-th in a random order of all windows of the store.

    use_mode: the likeliest latent of a window; else it is drawn.
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

    def latents(self, places: np.ndarray, keys: NoiseKeys, device) -> torch.Tensor:
        """z [B, Z] of the numbered places."""
        latent = self.simulator.encode(self.windows.batch(self.order[places]).obs.to(device))
        return latent.sample(None if self.use_mode else keys.normal(latent.mean.shape[1], latent.mean))

    def source(self, places: np.ndarray) -> np.ndarray:
        """[B, 2]: episode and step, in the real store, of the frame that the simulation shows first."""
        return self.windows.table[self.order[places]] + self._to_last


class RandomStarts:
    """Latents drawn from N(0, I), or from the sphere; a place's number, with the seed, is its draw."""

    count = 2**31 - 1

    def __init__(self, simulator: Simulator):
        self.model = simulator.model

    def latents(self, places: np.ndarray, keys: NoiseKeys, device) -> torch.Tensor:
        return self.model.random_latent(keys.normal(self.model.config.latent_size, self.model.bins))

    def source(self, places: np.ndarray) -> np.ndarray:
        return np.full((len(places), 2), NO_SOURCE)


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
    """Where to begin, and the store if any: windows of the store at data_dir, or of the one that the model
    was trained on where that is below RECORDINGS; with rand_init, random latents.

    Raises UsageError where neither is given and the training store is not there, and where both are.
    """
    if rand_init and data_dir:
        raise UsageError(
            "--rand_init begins at random latents and --data_dir in recorded frames: give one of them"
        )
    if rand_init:
        return RandomStarts(simulator), None
    rollouts = open_agent_rollouts(data_dir or training_store(meta), agent_file)
    return InformedStarts(simulator, rollouts, seed, use_mode), rollouts


def training_store(meta: dict) -> Path:
    """The store below RECORDINGS that a world model of this description was trained on. Raises UsageError
    where there is none.
    """
    for manifest in sorted(RECORDINGS.glob("*/manifest.json")):
        try:
            if Rollouts.open(manifest.parent).id == meta.get("data"):
                return manifest.parent
        except BadStore:  # another kind of directory, or damaged: no reason to stop
            continue
    ways = "give --data_dir, any store of its agent's rollouts (python record.py makes one), or --rand_init for random latents"
    raise UsageError(
        f"the store that this world model was trained on is not in {RECORDINGS}/: {ways}, whose pictures are smeared"
    )


def check_start_count(starts: Starts, wanted: int) -> None:
    """Raises UsageError when there are fewer places than wanted."""
    if wanted > starts.count:
        raise UsageError(
            f"{starts.path} has {counted(starts.count, 'starting place')}, fewer than the {wanted} asked for; ask for fewer"
        )


def open_agent_rollouts(data_dir: Path, agent_file: Path) -> Rollouts:
    """The store that informed samples begin from. Raises UsageError when it is not the agent's."""
    rollouts = Rollouts.open(data_dir)
    check_store(rollouts, *load_agent(agent_file), agent_file)
    return rollouts
