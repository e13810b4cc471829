"""Two-hot encoding of scalars over bins evenly spaced in symlog space (Hafner et al. 2023, DreamerV3)."""

import torch


def symlog(x: torch.Tensor) -> torch.Tensor:
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: torch.Tensor) -> torch.Tensor:
    return torch.sign(x) * torch.expm1(x.abs())


def make_bins(count: int, limit: float) -> torch.Tensor:
    """`count` bin centres, evenly spaced in symlog space from -limit to limit, in the scalar's own units."""
    return symexp(torch.linspace(-limit, limit, count))


def encode(x: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """x [...] -> weights [..., bins] on the two nearest bins, whose mean is x clipped to the bins' range."""
    x = x.clamp(bins[0], bins[-1])
    above = torch.searchsorted(bins, x.contiguous()).clamp(1, len(bins) - 1)
    low = bins[above - 1]
    high = bins[above]
    upper_weight = ((x - low) / (high - low))[..., None]
    weights = torch.zeros(*x.shape, len(bins), dtype=x.dtype, device=x.device)
    weights.scatter_(-1, above[..., None] - 1, 1 - upper_weight)
    return weights.scatter_(-1, above[..., None], upper_weight)


def mean(logits: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """The mean of the distribution in the scalar's own units: [..., bins] -> [...]."""
    return torch.softmax(logits, -1) @ bins


def cross_entropy(logits: torch.Tensor, x: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats of the two-hot x [...] under logits [..., bins]; its minimum is 0 only where x
    is a bin centre.
    """
    return -(encode(x, bins) * torch.log_softmax(logits, -1)).sum(-1)
