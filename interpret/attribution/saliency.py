"""Saliency of simulated and recorded samples: averaged gradients of many functions from one forward pass.

SmoothGrad (Smilkov et al. 2017) in the latent of simulated samples, as in the original system, and in the
pixels of recorded ones: gradients are averaged over a sample and noisy copies of it. Copies share the noise
of actions and states.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from common.policy import Policy
from generative.model.world_model import WorldModel
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from interpret.attribution.draws import perturbed_frames, perturbed_latents, repeated_keys
from interpret.attribution.functions import Function
from interpret.attribution.saliency_store import encode_gradients
from interpret.attribution.trace import Trace, recorded_trace, simulated_trace
from interpret.attribution.trace_gradients import value_gradients, value_path_gradients
from rollouts.segment import Segment


@dataclass(frozen=True)
class SaliencyConfig:
    """What is differentiated, at which step, and with respect to what."""

    functions: Sequence[Function]
    steps: int
    """Of each clip, T."""
    step: int | Literal["sum"] = 4
    """At which the functions are read, or "sum": over all steps that have a value."""
    inputs: tuple[str, ...] = ("frames", "hidden")
    """Of trace_gradients.INPUTS."""
    draws: int = 9
    """Copies of each sample, the first of them without noise."""
    noise: float = 1.25e-4
    """Standard deviation of the noise, of latents, or of pixels in [0, 1] where frames are recorded."""
    paths: bool = False
    """Also the parts of each gradient by path."""
    keep_float: bool = False
    """Keep the gradients of frames in full, too."""

    @property
    def grad_steps(self) -> int:
        """S: steps that can matter to some function."""
        if self.step == "sum":
            return self.steps
        return min(self.step + 1 + any(one.reads_next for one in self.functions), self.steps)


def simulated_saliency(
    simulator: Simulator,
    z: torch.Tensor,
    samples: Sequence[int],
    keys: NoiseKeys,
    config: SaliencyConfig,
    greedy: bool = False,
    use_mode: bool = False,
) -> dict[str, torch.Tensor]:
    """The stored arrays (`saliency_store`) of samples simulated from latents.

    Args:
        simulator: with its agent.
        z: [B, Z].
        samples: numbers [B].
        keys: of the samples' noise.
        config: functions and gradients.
        greedy, use_mode: as in `Simulator.simulate`.
    """
    trace = sample_trace(simulator, z, keys, config, greedy, use_mode)
    clip = _clip(trace, config.draws) | {
        "reward": _first_draws(trace.reward, config.draws),
        "done": _first_draws(trace.done, config.draws),
        "length": _lengths(_first_draws(trace.ended, config.draws)),
    }
    return {"sample": torch.tensor(samples)} | clip | _maps(trace, config, simulator.model)


def sample_trace(
    simulator: Simulator,
    z: torch.Tensor,
    keys: NoiseKeys,
    config: SaliencyConfig,
    greedy: bool = False,
    use_mode: bool = False,
) -> Trace:
    """The trace of all draws of samples: [B * draws], those of a sample next to each other."""
    return simulated_trace(
        simulator,
        perturbed_latents(z, keys, config.draws, config.noise, simulator.model.spherical),
        config.steps,
        repeated_keys(keys, config.draws),
        greedy=greedy,
        use_mode=use_mode,
        detach_agent=False,
        grad_steps=config.grad_steps,
    )


def recorded_saliency(
    agent: Policy, segment: Segment, samples: Sequence[int], keys: NoiseKeys, config: SaliencyConfig
) -> dict[str, torch.Tensor]:
    """The stored arrays of recorded windows [T, B] that the agent sees again.

    reward and done are the recorded ones; steps after the end of an episode do not exist (`length`).
    """
    copies = perturbed_frames(segment, keys, config.draws, config.noise)
    trace = recorded_trace(agent, copies, grad_steps=config.grad_steps)
    clip = _clip(trace, config.draws) | {
        "reward": segment.reward.T.float(),
        "done": (segment.terminated | segment.truncated).T.float(),
        "length": segment.mask.sum(0),
    }
    return {"sample": torch.tensor(samples)} | clip | _maps(trace, config, None)


def mean_gradients(
    trace: Trace, config: SaliencyConfig, model: WorldModel | None
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Gradients of one function after the other, and of their parts by path, averaged over draws.

    Args:
        trace: of all draws.
        config: functions and gradients.
        model: of the simulator; needed for env_state.

    Yields:
        The name, <function> or <function>@<path>, and {input: gradient}, time-major: frames [S, B, H, W, C],
        hidden [S + 1, B, D], env_state [S, B, Dh], actions [S, B, A], latent [B, Z].
    """
    matters = trace.until(config.grad_steps)
    values = {one.name: one.at(matters, config.step) for one in config.functions}
    for name, value in values.items():
        for label, found in _by_path(matters, value, config, model).items():
            yield name + label, {key: _mean_of_draws(x, key, config.draws) for key, x in found.items()}


def _maps(trace: Trace, config: SaliencyConfig, model: WorldModel | None) -> dict[str, torch.Tensor]:
    """The stored arrays of every function; one function at a time in memory."""
    arrays = {}
    for name, found in mean_gradients(trace, config, model):
        arrays |= encode_gradients(name, found, config.keep_float)
    return {name: array.cpu() for name, array in arrays.items()}


def _by_path(trace: Trace, value: torch.Tensor, config: SaliencyConfig, model) -> dict[str, dict]:
    """Gradients by the ending of their name: "" for the whole, "@<path>" for a part."""
    if not config.paths:
        return {"": value_gradients(trace, value, config.inputs, model)}
    parts = value_path_gradients(trace, value, config.inputs, model)
    return {"" if path == "total" else f"@{path}": found for path, found in parts.items()}


def _mean_of_draws(gradient: torch.Tensor, name: str, draws: int) -> torch.Tensor:
    axis = 0 if name == "latent" else 1
    return gradient.unflatten(axis, (-1, draws)).mean(axis + 1)


def _clip(trace: Trace, draws: int) -> dict[str, torch.Tensor]:
    """What every clip has, of the draws without noise: [B, T, ...]."""
    frames = _first_draws(trace.frames, draws)
    return {
        "obs": (255 * frames).round().to(torch.uint8),
        "action": trace.taken[:, ::draws].T.cpu(),
        "value": _first_draws(trace.value, draws),
        "logits": _first_draws(trace.logits, draws),
        "hidden": _first_draws(trace.hidden[1:], draws),
    }


def _first_draws(steps: Sequence[torch.Tensor], draws: int) -> torch.Tensor:
    return torch.stack([step.detach()[::draws] for step in steps], 1).cpu()


def _lengths(ended: torch.Tensor) -> torch.Tensor:
    """Steps [B] up to the first end of episodes [B, T], that step included."""
    before = torch.cat([torch.zeros_like(ended[:, :1]), ended[:, :-1]], 1).cumsum(1) == 0
    return before.sum(1)
