"""Groups of categorical variables: mixing in the uniform, drawing with a straight-through gradient, and the
KL between them.
"""

import torch
from torch.nn import functional as F

MODES = ("hard", "relaxed")


def with_uniform(raw: torch.Tensor, mix: float) -> torch.Tensor:
    """Log-probabilities [..., C] of (1 - mix) softmax(raw) + mix / C."""
    return torch.log((1 - mix) * torch.softmax(raw, -1) + mix / raw.shape[-1])


def draw(logits: torch.Tensor, noise: torch.Tensor | None, mode: str = "hard") -> torch.Tensor:
    """A one-hot draw [..., C] from logits [..., C] by Gumbel noise of their shape; without noise the
    likeliest class.

    hard: one-hot forward, the gradient of the probabilities backward. relaxed: the probabilities both ways,
    and the noise has no part in it; this is what finite differences can check.
    """
    if mode not in MODES:
        raise ValueError(f"unknown gradient mode {mode!r}; choose hard or relaxed")
    probabilities = torch.softmax(logits, -1)
    if mode == "relaxed":
        return probabilities
    index = (logits if noise is None else logits + noise).argmax(-1)
    return F.one_hot(index, logits.shape[-1]).to(logits.dtype) + (probabilities - probabilities.detach())


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats, summed over groups: log-probabilities [..., G, C] -> [...]."""
    return (p.exp() * (p - q)).sum((-2, -1))


def balanced_kl(
    posterior: torch.Tensor, prior: torch.Tensor, free: float = 1.0, towards_posterior: float = 0.1
) -> torch.Tensor:
    """DreamerV3's KL loss (Hafner et al. 2023): 1.0 x prior moved towards posterior + 0.1 x the other way.

    Each of the two is held at `free` nats (on the sum over groups) from below, where it gives no gradient.
    [..., G, C] -> [...].
    """
    dynamics = kl(posterior.detach(), prior).clamp(min=free)
    representation = kl(posterior, prior.detach()).clamp(min=free)
    return dynamics + towards_posterior * representation
