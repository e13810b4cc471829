"""Diversity of latents: the mean distance of their first frames, root mean squared over pixels."""

import torch

from generative.simulator import Simulator
from interpret.targets.target_rollouts import gradient_of

_SMALL = 1e-8  # added to squared distances, whose root has no gradient at 0


@torch.no_grad()
def first_frames(simulator: Simulator, z: torch.Tensor, batch_size: int) -> torch.Tensor:
    """First frames [N, H, W, C] in [0, 1] of latents [N, Z]."""
    return torch.cat([simulator.decode(simulator.start(part).env) for part in z.split(batch_size)])


def mean_distance(frames: torch.Tensor) -> torch.Tensor:
    """Mean distance [] of the pairs of frames [N, H, W, C]; 0 for fewer than two."""
    count = len(frames)
    return _distances(frames, frames, 0).sum() / max(count * (count - 1), 1)


def distance_gradients(simulator: Simulator, z: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Gradient [N, Z] of the mean distance of first frames with respect to latents.

    Latents are taken up to batch_size at a time while the frames of all are held: a pair is in the mean once
    for either of its two frames, so each counts twice.
    """
    fixed = first_frames(simulator, z, batch_size)
    count = len(z)
    gradients = []
    for begin in range(0, count, batch_size):
        with torch.enable_grad():
            leaf = z[begin : begin + batch_size].detach().requires_grad_()
            frames = simulator.decode(simulator.start(leaf).env)
            part = 2 * _distances(frames, fixed, begin).sum() / max(count * (count - 1), 1)
        gradients.append(gradient_of(part, leaf))
    return torch.cat(gradients)


def _distances(frames: torch.Tensor, others: torch.Tensor, begin: int) -> torch.Tensor:
    """Distances [B, N] of frames from others, of which they are those from `begin` on; 0 from itself."""
    square = torch.stack([(frame - others).square().mean((1, 2, 3)) for frame in frames])
    itself = torch.arange(len(frames), device=frames.device)
    other = torch.ones_like(square).index_put((itself, begin + itself), square.new_zeros(()))
    return (square + _SMALL).sqrt() * other
