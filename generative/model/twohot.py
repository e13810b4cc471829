"""Scalars as distributions over bins that are even in symlog space (Hafner et al. 2023): any reward scale,
exact means.
"""

import torch


def symlog(x: torch.Tensor) -> torch.Tensor:
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: torch.Tensor) -> torch.Tensor:
    return torch.sign(x) * torch.expm1(x.abs())


def make_bins(count: int, limit: float) -> torch.Tensor:
    """`count` bin centres, even in symlog space between -limit and limit, in the scalar's own units."""
    return symexp(torch.linspace(-limit, limit, count))


def encode(x: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """x [...] -> weights [..., bins]: shared between the two nearest bins so that their mean is x; clipped to
    the bins' range.
    """
    x = x.clamp(bins[0], bins[-1])
    above = torch.searchsorted(bins, x.contiguous()).clamp(1, len(bins) - 1)
    low = bins[above - 1]
    high = bins[above]
    share = ((x - low) / (high - low))[..., None]
    weights = torch.zeros(*x.shape, len(bins), dtype=x.dtype, device=x.device)
    return weights.scatter_(-1, above[..., None] - 1, 1 - share).scatter_(-1, above[..., None], share)


def mean(logits: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """The distribution's mean in the scalar's own units: [..., bins] -> [...]."""
    return torch.softmax(logits, -1) @ bins


def cross_entropy(logits: torch.Tensor, x: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the two-hot x [...] under logits [..., bins], nats; 0 is reached only where x lies on
    a bin.
    """
    return -(encode(x, bins) * torch.log_softmax(logits, -1)).sum(-1)
