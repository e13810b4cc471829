"""Saliency of numbered samples: starting points of a store of real rollouts, simulated or as recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from common.integrity import check_memory
from common.runs import UsageError
from common.words import counted
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.starts import NO_SOURCE, InformedStarts
from interpret.attribution.saliency import SaliencyConfig, recorded_saliency, simulated_saliency
from interpret.attribution.trace import graph_bytes, recorded_trace, simulated_trace
from rollouts.store import Rollouts
from rollouts.windows import Windows

COMBINED = -1
"""Number of the sample that stands for the mean of several latents."""

Kind = Literal["simulated", "combined", "recorded"]


@dataclass(frozen=True)
class SampleSaliency:
    """Computes the stored arrays (saliency_store) of numbered samples.

    Args:
        simulator: with its agent.
        starts: numbered starting points.
        rollouts: their store.
        config: functions and gradients.
        seed: of all noise.
        greedy: the agent takes its most likely action.
        use_mode: take the mode of the environment states.
        device: of the networks.
    """

    simulator: Simulator
    starts: InformedStarts
    rollouts: Rollouts
    config: SaliencyConfig
    seed: int = 0
    greedy: bool = False
    use_mode: bool = False
    device: torch.device | str = "cpu"

    def simulated(self, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """Samples simulated from the latents of their first frames: with the same flags, those that
        record_gen_samples.py records.
        """
        return self._simulated(self._latents(ids), ids, ids)

    def combined(self, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """One sample from the mean of several latents, with the noise of the first of them."""
        mean = self._latents(ids).mean(0, keepdim=True)
        mean = F.normalize(mean, dim=-1) if self.simulator.model.spherical else mean
        return self._simulated(mean, [COMBINED], ids[:1])

    def recorded(self, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """The agent on the recorded frames from the samples' first one on."""
        window = self._windows(ids).batch(np.arange(len(ids))).to(self.device)
        return recorded_saliency(self.simulator.agent, window, ids, self._keys(ids), self.config)

    def computed_as(self, kind: Kind) -> Callable[[Sequence[int]], dict[str, torch.Tensor]]:
        """The method that computes samples of a kind from their numbers."""
        return {"simulated": self.simulated, "combined": self.combined, "recorded": self.recorded}[kind]

    def long_enough(self, ids: Sequence[int]) -> list[int]:
        """The samples whose recorded episode has all steps that matter.

        Raises:
            UsageError: there is none.
        """
        source = self.starts.source(np.array(ids))
        left = self.rollouts.episodes["length"][source[:, 0]] - source[:, 1]
        needed = self.config.grad_steps
        long = [one for one, steps in zip(ids, left) if steps >= needed]
        if not long:
            raise UsageError(
                f"the recorded episodes end before {counted(needed, 'step')} after these samples; give other "
                "--sample_ids or a smaller --step"
            )
        return long

    def check_memory(self, batch_size: int, kind: Kind) -> None:
        """Raises UsageError if a batch of samples would take more than the machine's memory."""
        copies = batch_size * self.config.draws
        size = self.step_bytes(kind == "recorded") * self.config.grad_steps * copies
        shape = self.simulator.model.config.obs_shape
        size += 3 * 4 * copies * self.config.steps * int(np.prod(shape))
        check_memory(size, f"--batch_size {batch_size} in {self.config.draws} draws (--draws)")

    def step_bytes(self, recorded: bool) -> int:
        """Bytes that one copy of a sample keeps per step for the backward pass."""
        one, two = (graph_bytes(lambda steps=steps: self._trace(steps, recorded)) for steps in (1, 2))
        return max(two - one, 0)

    def source_facts(self, ids: Sequence[int]) -> dict[str, list[int]]:
        """Episode, step and level of the first frame of each sample; NO_SOURCE for a combined one."""
        if list(ids) == [COMBINED]:
            return {name: [NO_SOURCE] for name in ("episode", "step", "level")}
        episode, step = self.starts.source(np.array(ids)).T
        level = self.rollouts.episodes["level_seed"][episode]
        return {"episode": episode.tolist(), "step": step.tolist(), "level": level.tolist()}

    def _simulated(self, z: torch.Tensor, numbers, streams) -> dict[str, torch.Tensor]:
        return simulated_saliency(
            self.simulator, z, numbers, self._keys(streams), self.config, self.greedy, self.use_mode
        )

    def _trace(self, steps: int, recorded: bool):
        if recorded:
            return recorded_trace(self.simulator.agent, self._windows([0]).batch([0]).to(self.device), steps)
        return simulated_trace(self.simulator, self._latents([0]), steps, self._keys([0]))

    @torch.no_grad()
    def _latents(self, ids: Sequence[int]) -> torch.Tensor:
        return self.starts.latents(np.array(ids), self._keys(ids), self.device)

    def _windows(self, ids: Sequence[int]) -> Windows:
        return Windows(self.rollouts, self.config.steps, self.starts.source(np.array(ids)))

    def _keys(self, ids: Sequence[int]) -> NoiseKeys:
        return NoiseKeys(self.seed, np.array(ids))
