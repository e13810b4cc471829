"""What attribution methods explain: functions of frames, of an agent that sees them or of the simulator.

A function takes frames [N, H, W, C] in [0, 1] and, for each, the number of its sample [N]; a method may ask
for any number of changed frames of each sample at once.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from common.policy import Policy, class_log_probs
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator

FrameFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(frames [N, H, W, C], sample [N]) -> values [N], or [N, J]."""


def agent_value(agent: Policy, hidden: torch.Tensor) -> FrameFunction:
    """The value when the agent with the state hidden [B, D] of the sample sees the frame."""
    return lambda frames, sample: _heads(agent, hidden, frames, sample)[1]


def agent_log_probs(agent: Policy, hidden: torch.Tensor, effect_classes: Sequence[int]) -> FrameFunction:
    """Log-probabilities [N, J] of the effect classes of actions after the frame."""
    return lambda frames, sample: class_log_probs(_heads(agent, hidden, frames, sample)[0], effect_classes)


def agent_outputs(agent: Policy, hidden: torch.Tensor, effect_classes: Sequence[int]) -> FrameFunction:
    """Value and log-probabilities of the effect classes, [N, 1 + J]."""

    def outputs(frames: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        logits, value = _heads(agent, hidden, frames, sample)
        return torch.cat([value[:, None], class_log_probs(logits, effect_classes)], 1)

    return outputs


def chosen(function: FrameFunction, index: torch.Tensor) -> FrameFunction:
    """Entry index[sample] of a function's values [N, J]; index [B]."""
    return lambda frames, sample: function(frames, sample).gather(1, index[sample][:, None])[:, 0]


def later_value(
    simulator: Simulator,
    earlier: torch.Tensor,
    hidden: torch.Tensor,
    keys: Sequence[NoiseKeys],
    steps: int,
) -> FrameFunction:
    """The value `steps` simulated steps after the frame, averaged over noise draws.

    The frame is the last that the simulator is given. The agent acts there; no gradient passes through its
    choice of actions, nor through its memory of earlier frames.

    Args:
        simulator: with its agent.
        earlier: [K - 1, B, H, W, C], frames before the frame, in [0, 1].
        hidden: [B, D], the agent's state before it sees the frame.
        keys: of B samples, for each draw.
        steps: 1 or more.
    """

    def value(frames: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        latent = simulator.encode(torch.cat([earlier[:, sample], frames[None]]))
        draws = [_select(one, sample.cpu().numpy()) for one in keys]
        return torch.stack([_rolled_out(latent, one, sample) for one in draws]).mean(0)

    def _rolled_out(latent, noise: NoiseKeys, sample: torch.Tensor) -> torch.Tensor:
        z = latent.sample(noise.normal(latent.mean.shape[1], latent.mean))
        run = simulator.simulate(
            z,
            steps + 1,
            noise,
            hidden=hidden[sample],
            grad=torch.is_grad_enabled(),
            detach_actions=True,
            ends=False,
        )
        return run.value[-1]

    return value


def reconstructions(simulator: Simulator, frames: torch.Tensor, keys: NoiseKeys) -> torch.Tensor:
    """The simulator's first frames [B, H, W, C] uint8 when it is given frames [K, B, H, W, C] in [0, 1]."""
    with torch.no_grad():
        latent = simulator.encode(frames)
        z = latent.sample(keys.normal(latent.mean.shape[1], latent.mean))
        return simulator.simulate(z, 1, keys, ends=False).obs[0]


def _heads(agent: Policy, hidden: torch.Tensor, frames: torch.Tensor, sample: torch.Tensor):
    first = torch.zeros(len(frames), dtype=torch.bool, device=frames.device)
    reward = torch.zeros(len(frames), device=frames.device)
    return agent.heads(agent.advance(frames, hidden[sample], first, reward))


def _select(keys: NoiseKeys, rows: np.ndarray) -> NoiseKeys:
    """The keys of some samples, in that order; they may repeat."""
    columns = np.broadcast_arrays(keys.stream, keys.repeat, keys.step)
    return NoiseKeys(keys.seed, *(column[rows] for column in columns))
