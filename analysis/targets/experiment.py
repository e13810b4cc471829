"""What all targets of a run share: latents to begin from, candidates to compare with, and their cost."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from common.runs import Run
from generative.simulator import Simulator
from generative.starts import InformedStarts
from interpret.targets.best_of_n import Draw
from interpret.targets.latent_optimisation import OptimisationConfig, simulated_steps
from interpret.targets.latent_prior import Prior
from interpret.targets.recorded_moments import RecordedMoments, read_moments
from interpret.targets.target_rollouts import Reading, TargetRollouts, noise_keys
from interpret.targets.targets import Target
from rollouts.windows import Windows

ARMS = ("start", "optimised", "best_recorded", "best_random")
BASELINES = ("recorded", "random")
NO_LEVEL = -1


@dataclass(frozen=True)
class Sizes:
    """Sizes of the experiment and of its batches.

    report_rollouts: rollouts per latent under fresh noise. num_sim_steps: length of the rollouts that are
    shown, and of sums over steps. batch_size: most rollouts at a time.
    """

    report_rollouts: int
    num_sim_steps: int
    batch_size: int


@dataclass(frozen=True)
class Begin:
    """Where N optimisations begin: each at the best of `pool` candidates of a baseline, or at given latents.

    baseline: "recorded" or "random". given: latents [N, Z], or None.
    """

    num_starts: int
    pool: int
    baseline: Literal["recorded", "random"]
    given: torch.Tensor | None = None


@dataclass(frozen=True)
class Experiment:
    """What the targets of a run share.

    Args:
        run: receives the parts.
        simulator: with its agent.
        prior: over latents.
        recorded: numbered latents of recorded moments.
        moments: that simulated ones are compared with.
        begin: where optimisations begin.
        config: of the optimisation.
        sizes: of everything else.
        seed: of all noise.
        detach_agent, detach_actions: paths without a gradient, see `Simulator.simulate`.
        ids: of world model and agent.
    """

    run: Run
    simulator: Simulator
    prior: Prior
    recorded: InformedStarts
    moments: RecordedMoments
    begin: Begin
    config: OptimisationConfig
    sizes: Sizes
    seed: int
    detach_agent: bool
    detach_actions: bool
    ids: dict[str, str]

    def rollouts(self, target: Target, reading: Reading) -> TargetRollouts:
        """Rollouts of a target."""
        detached = self.detach_agent, self.detach_actions
        return TargetRollouts(self.simulator, target, reading, self.seed, self.sizes.batch_size, *detached)

    @property
    def num_starts(self) -> int:
        return self.begin.num_starts

    def candidate_cost(self, reading: Reading) -> int:
        """Simulated steps of one candidate."""
        return self.config.num_rollouts * reading.steps

    def start_cost(self, reading: Reading) -> int:
        """Simulated steps of the optimisation from one start, and of the choice of that start."""
        pool = 0 if self.begin.given is not None or self.begin.pool == 1 else self.begin.pool
        return simulated_steps(self.config, reading.steps) + pool * self.candidate_cost(reading)

    def num_candidates(self, reading: Reading) -> int:
        """Candidates of a baseline: as many as cost what all optimisations cost, the pool at least."""
        per_start = round(self.start_cost(reading) / self.candidate_cost(reading))
        return max(per_start, self.begin.pool, 1) * self.num_starts

    def cost(self, reading: Reading) -> int:
        """Simulated steps of optimisations and baselines; a backward pass counts as two forward passes."""
        candidates = len(BASELINES) * self.num_candidates(reading) * self.candidate_cost(reading)
        return candidates + simulated_steps(self.config, reading.steps) * self.num_starts

    def draw(self, baseline: str) -> Draw:
        """Numbered latents of a baseline: samples of q(z) of recorded moments, or of the prior."""
        return {"recorded": self._recorded, "random": self._random}[baseline]

    @torch.no_grad()
    def _recorded(self, numbers: np.ndarray) -> torch.Tensor:
        size = self.sizes.batch_size
        parts = [numbers[at : at + size] for at in range(0, len(numbers), size)]
        return torch.cat([self._encoded(part) for part in parts])

    def _encoded(self, numbers: np.ndarray) -> torch.Tensor:
        keys = noise_keys(self.seed, "latents", numbers, np.zeros_like(numbers))
        return self.recorded.latents(self._place(numbers), keys, self._like.device)

    def _random(self, numbers: np.ndarray) -> torch.Tensor:
        keys = noise_keys(self.seed, "latents", numbers, np.ones_like(numbers))
        return self.prior.sample(keys.normal(self.simulator.model.config.latent_size, self._like))

    @property
    def _like(self) -> torch.Tensor:
        return self.simulator.model.bins

    def candidate_levels(self, baseline: str, numbers: np.ndarray) -> np.ndarray:
        """Level of each candidate [N], or NO_LEVEL."""
        if baseline == "random":
            return np.full(len(numbers), NO_LEVEL)
        episode = self.recorded.source(self._place(numbers))[:, 0]
        return self.recorded.windows.rollouts.episodes["level_seed"][episode]

    def recorded_moments(self, numbers: np.ndarray) -> RecordedMoments:
        """The recorded moments of candidates [N], with what the agent did from there on."""
        windows = self.recorded.windows
        table = windows.table[self.recorded.order[self._place(numbers)]]
        length = windows.length - 1 + self.sizes.num_sim_steps
        whole = Windows(windows.rollouts, length, table)
        return read_moments(self.simulator, whole, self.sizes.batch_size, self._like.device)

    def _place(self, numbers: np.ndarray) -> np.ndarray:
        """Recorded moment of each candidate; once all have been used, they are sampled again."""
        return numbers % self.recorded.count
