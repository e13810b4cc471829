"""Perturbation of frames: regions are blended into a blurred copy, all regions of all frames in one batch."""

import torch
from torch.nn import functional as F

from interpret.attribution.frame_functions import FrameFunction


def gaussian_blur(frames: torch.Tensor, std: float) -> torch.Tensor:
    """Frames [B, H, W, C] blurred by a Gaussian of standard deviation `std` pixels; edges are repeated."""
    radius = max(int(3 * std + 0.5), 1)
    offsets = torch.arange(-radius, radius + 1, device=frames.device)
    kernel = torch.exp(-0.5 * (offsets / std) ** 2).to(frames)
    kernel = (kernel / kernel.sum())[None, None]
    for axis in (1, 2):
        lines = frames.movedim(axis, -1)
        padded = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (radius, radius), mode="replicate")
        frames = F.conv1d(padded, kernel).reshape(lines.shape).movedim(-1, axis)
    return frames


def region_centres(size: int, stride: int) -> torch.Tensor:
    """Centres of equal regions along one side, at most `stride` pixels apart."""
    count = -(-size // stride)
    return (torch.arange(count) + 0.5) * size / count - 0.5


def blur_masks(size: tuple[int, int], stride: int, std: float) -> torch.Tensor:
    """Gaussian masks [M, H, W], 1 at their centres, which lie on a grid; row by row."""
    profiles = [
        torch.exp(-0.5 * ((torch.arange(length) - region_centres(length, stride)[:, None]) / std) ** 2)
        for length in size
    ]
    return torch.einsum("ah,bw->abhw", *profiles).flatten(0, 1)


@torch.no_grad()
def perturbed_outputs(
    function: FrameFunction, frames: torch.Tensor, masks: torch.Tensor, fill: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs with and without regions replaced, in one call of the function.

    Args:
        function: of frames.
        frames: [B, H, W, C].
        masks: [M, H, W], the weight of the fill.
        fill: [B, H, W, C], what replaces the frame there.

    Returns:
        Outputs of the frames [B, ...], and of each mask [M, B, ...].
    """
    weight = masks[:, None, :, :, None]
    changed = frames + weight * (fill - frames)  # [M, B, H, W, C]
    batch = torch.cat([frames[None], changed])
    sample = torch.arange(len(frames), device=frames.device).repeat(len(batch))
    out = function(batch.flatten(0, 1), sample).unflatten(0, batch.shape[:2])
    return out[0], out[1:]


def sarfa_scores(original: torch.Tensor, perturbed: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """SARFA [M, B]: harmonic mean of specificity and relevance (Puri et al. 2020).

    Specificity is the fall of the action's probability, 0 if it rises. Relevance is 1 / (1 + KL) between the
    distributions over the other actions, with the perturbation and without it.

    Args:
        original: log-probabilities [B, J].
        perturbed: [M, B, J].
        action: [B].
    """
    index = action[:, None]
    fall = (original.exp() - perturbed.exp()).gather(-1, index.expand(*perturbed.shape[:-1], 1))[..., 0]
    mine = F.one_hot(action, original.shape[-1]).bool()
    others = [torch.log_softmax(x.masked_fill(mine, -torch.inf), -1) for x in (original, perturbed)]
    gap = (others[1] - others[0]).masked_fill(mine, 0)
    relevance = 1 / (1 + (others[1].exp() * gap).sum(-1))
    fall = fall.clamp(min=0)
    return 2 * fall * relevance / (fall + relevance)


def enlarge(scores: torch.Tensor, frames: torch.Tensor, stride: int) -> torch.Tensor:
    """Scores [M, B] of regions on a grid as maps [B, H, W], interpolated bilinearly between their centres."""
    height, width = frames.shape[1:3]
    grid = len(region_centres(height, stride)), len(region_centres(width, stride))
    maps = scores.T.unflatten(1, grid)[:, None]
    return F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)[:, 0]
