"""Rollouts from latents, and what a target's function is in them: values, and gradients with respect to the
latents.

A rollout's noise depends on the seed, its role, its stream (the number of its start or candidate) and its
draw, not on the batch. Roles have noise of their own, so that what was chosen under one is judged under
another.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from common.runs import UsageError
from generative.model.texture_cache import TextureCache
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from interpret.attribution.trace import Trace, simulated_trace, trace_of
from interpret.attribution.trace_gradients import closed
from interpret.targets.targets import Target

ROLES = ("train", "select", "report", "show", "latents", "smoothing")
_APART = 10_000_019
"""Between the seeds of two roles."""


@dataclass(frozen=True)
class Reading:
    """Where a target's function is read: at a step or summed over all, in rollouts of `steps` steps."""

    step: int | Literal["sum"]
    steps: int

    @property
    def last(self) -> int:
        """The last step that is read."""
        return self.steps - 1 if self.step == "sum" else self.step


def reading_of(target: Target, step: int | Literal["sum"], num_sim_steps: int) -> Reading:
    """The shortest reading of a target at `step`, or of all steps.

    Raises:
        UsageError: the step lies beyond the rollout.
    """
    more = int(target.function.reads_next)
    if step == "sum":
        if num_sim_steps <= more:
            raise UsageError(f"{target.name} needs --num_sim_steps {more + 1} or more, not {num_sim_steps}")
        return Reading("sum", num_sim_steps)
    if not 0 <= step < num_sim_steps - more:
        raise UsageError(
            f"--step {step} of {target.name} lies beyond the rollout, whose --num_sim_steps {num_sim_steps} "
            f"give it at steps 0 to {num_sim_steps - 1 - more}; raise --num_sim_steps or lower --step"
        )
    return Reading(step, step + 1 + more)


def noise_keys(seed: int, role: str, stream: np.ndarray, draw: np.ndarray) -> NoiseKeys:
    """Keys of rollouts [B] by stream and draw, [B] integers each."""
    return NoiseKeys(seed + _APART * ROLES.index(role), stream, draw)


class Scored(NamedTuple):
    """Rollouts of N latents under several draws of noise: [N, draws].

    value: of the target's function. ended: probability that the episode has ended before it is read.
    """

    value: torch.Tensor
    ended: torch.Tensor


@dataclass(frozen=True)
class TargetRollouts:
    """Rollouts of one target.

    batch_size: most rollouts at a time. detach_agent, detach_actions: paths without a gradient, see
    `Simulator.simulate`.
    """

    simulator: Simulator
    target: Target
    reading: Reading
    seed: int
    batch_size: int
    detach_agent: bool = True
    detach_actions: bool = True

    def scored(self, z: torch.Tensor, streams: np.ndarray, draws: int, role: str) -> Scored:
        """Values of latents [N, Z] under `draws` draws each, without gradients."""
        parts = [
            self._values(z[which], noise_keys(self.seed, role, streams[which], draw))
            for which, draw in self._chunks(len(z), draws)
        ]
        return Scored(*(torch.cat(part).reshape(len(z), draws) for part in zip(*parts)))

    def _values(self, z: torch.Tensor, keys: NoiseKeys) -> tuple[torch.Tensor, torch.Tensor]:
        trace = plain_trace(self.simulator, z, self.reading.steps, keys)
        goes_on = 1 - torch.stack(trace.done)[: self.reading.last]
        return self.target.function.at(trace, self.reading.step), 1 - goes_on.prod(0)

    def gradients(
        self, latents: Callable[[np.ndarray, np.ndarray], torch.Tensor], count: int, draws: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, torch.Tensor]]:
        """Gradients of the score, rollout by rollout, under noise of the role "train".

        Args:
            latents: makes the latents [B, Z] of rollouts by the number of the latent and the draw, [B] each.
            count: how many latents there are.
            draws: numbers of the draws of each.

        Yields:
            Number and draw of B rollouts, and their gradients [B, Z] with respect to the latent.
        """
        for which, place in self._chunks(count, len(draws)):
            draw = draws[place]
            keys = noise_keys(self.seed, "train", which, draw)
            z = latents(which, draw)
            trace = simulated_trace(
                self.simulator, z, self.reading.steps, keys, detach_agent=self.detach_agent
            )
            score = self.target.score(self.target.function.at(trace, self.reading.step)).sum()
            with closed(trace.action_edge) if self.detach_actions else nullcontext():
                yield which, draw, gradient_of(score, trace.latent)

    def _chunks(self, count: int, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Latent and draw of up to batch_size rollouts at a time, latent by latent."""
        for at in range(0, count * draws, self.batch_size):
            row = np.arange(at, min(at + self.batch_size, count * draws))
            yield row // draws, row % draws


def gradient_of(output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Gradient of the sum of an output with respect to x; zero where it does not depend on it."""
    if not output.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(output.sum(), x, materialize_grads=True)[0]


@torch.no_grad()
def plain_trace(simulator: Simulator, z: torch.Tensor, steps: int, keys: NoiseKeys) -> Trace:
    """A trace without gradients, in less time and memory; its frames are uint8. Nothing ends."""
    textures = TextureCache(simulator.model.config, len(z), z.device)
    start = simulator.start(z, textures=textures)
    walk = list(simulator.rollout(start, steps, keys, ends=False, textures=textures))
    return trace_of(walk, start.hidden, z)
