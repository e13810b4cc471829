"""Groups of categorical variables: uniform mixing, straight-through sampling and KL."""

import torch

MODES = ("hard", "relaxed")


def unimix(raw: torch.Tensor, mix: float) -> torch.Tensor:
    """Log-probabilities [..., C] of (1 - mix) softmax(raw) + mix / C."""
    return torch.log((1 - mix) * torch.softmax(raw, -1) + mix / raw.shape[-1])


def sample_categorical(logits: torch.Tensor, noise: torch.Tensor | None, mode: str = "hard") -> torch.Tensor:
    """A one-hot sample [..., C] with a straight-through gradient.

    Args:
        logits: [..., C].
        noise: Gumbel noise [..., C] (Gumbel-max trick), or None for the mode of the distribution.
        mode: "hard": one-hot forward, gradient of the probabilities backward. "relaxed": the probabilities
            both ways, ignoring the noise; finite differences can check it.
    """
    if mode not in MODES:
        raise ValueError(f"unknown gradient mode {mode!r}; choose hard or relaxed")
    if mode == "relaxed":
        return torch.softmax(logits, -1)
    index = (logits if noise is None else logits + noise).argmax(-1, keepdim=True)
    sample = torch.zeros_like(logits).scatter_(-1, index, 1.0)
    if not logits.requires_grad:
        return sample
    probabilities = torch.softmax(logits, -1)
    return sample + (probabilities - probabilities.detach())


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats, summed over groups: log-probabilities [..., G, C] -> [...]."""
    return (p.exp() * (p - q)).sum((-2, -1))


def balanced_kl(
    posterior: torch.Tensor, prior: torch.Tensor, free_nats: float = 1.0, representation_scale: float = 0.1
) -> torch.Tensor:
    """The KL loss of DreamerV3 (Hafner et al. 2023): dynamics loss plus scaled representation loss.

    Args:
        posterior, prior: log-probabilities [..., G, C].
        free_nats: each of the two losses is clamped from below at this value, where it has no gradient.
        representation_scale: weight of the loss that moves the posterior towards the prior.

    Returns:
        The loss in nats, [...].
    """
    dynamics = kl(posterior.detach(), prior).clamp(min=free_nats)
    representation = kl(posterior, prior.detach()).clamp(min=free_nats)
    return dynamics + representation_scale * representation
