"""Error measures that the world model's losses are composed of."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.nn import functional as F

from common.distributed import DistContext
from generative.model import twohot
from generative.model.world_model import Latent, Outcome, WorldModel
from rollouts.segment import Segment


def outcome_errors(
    model: WorldModel, outcome: Outcome, reward: torch.Tensor, terminated: torch.Tensor, weight: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Cross-entropies [T, B] of predicted rewards and ends, in nats.

    The raw logit, "uncalibrated_done", trains the networks with every window counting the same: reweighted,
    the few windows that teach deaths would count for little. "done" is the reweighted BCE of the calibrated
    logit; it trains its scale and bias only.

    Args:
        model: the world model.
        outcome: its predictions [T, B, ...].
        reward: recorded rewards [T, B].
        terminated: whether the action ended its episode [T, B].
        weight: importance weight of each window [B].
    """
    terminated = terminated.to(outcome.uncalibrated_done_logit.dtype)
    calibrated_logit = model.calibrate_done(outcome.uncalibrated_done_logit.detach())
    return {
        "reward": weight
        * twohot.cross_entropy(outcome.reward_logits, reward.to(model.bins.dtype), model.bins),
        "done": weight * F.binary_cross_entropy_with_logits(calibrated_logit, terminated, reduction="none"),
        "uncalibrated_done": F.binary_cross_entropy_with_logits(
            outcome.uncalibrated_done_logit, terminated, reduction="none"
        ),
    }


def importance_weights(segment: Segment) -> torch.Tensor:
    """Importance weight [B] of each window, which undoes death oversampling (see `WindowSource`); 1 where
    none is stored.
    """
    return segment.extra.get("weight", torch.ones_like(segment.reward[0]))


def squared_error(frames: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
    """Squared error per pixel, summed over channels: [n, H, W, C] float in [0, 1] and uint8 -> [n, H, W]."""
    return (frames - obs.to(frames.dtype) / 255).square().sum(-1)


def image_error(frames: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
    """Squared error per frame, summed over pixels and channels: [n, H, W, C] float in [0, 1] and uint8 ->
    [n].
    """
    return squared_error(frames, obs).sum((1, 2))


def psnr(error: float, obs_shape: tuple[int, int, int]) -> float:
    """Peak signal-to-noise ratio in dB of a mean summed squared error per frame."""
    height, width, channels = obs_shape
    return -10 * torch.log10(torch.tensor(error / (height * width * channels))).item()


def bottleneck(latent: Latent) -> torch.Tensor:
    """Mean KL to N(0, I) of a Gaussian latent; uniformity loss of spherical ones."""
    if latent.log_variance is None:
        return uniformity_loss(latent.mean)
    return kl_to_standard_normal(latent).mean()


def kl_to_standard_normal(latent: Latent) -> torch.Tensor:
    """KL(q(z) || N(0, I)) in nats: [B]."""
    return 0.5 * (latent.mean.square() + latent.log_variance.exp() - 1 - latent.log_variance).sum(-1)


def uniformity_loss(points: torch.Tensor) -> torch.Tensor:
    """log mean exp(-2 |a - b|^2) over pairs of points [B, Z] of the unit sphere (Wang & Isola 2020).

    0 where all points coincide, least where they are spread evenly; 0 for a single point.
    """
    if len(points) < 2:
        return points.sum() * 0
    return torch.logsumexp(-2 * torch.pdist(points).square(), 0) - math.log(
        len(points) * (len(points) - 1) / 2
    )


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of x where mask is True; 0 where it is True nowhere.

    Within `means_over` processes: a number whose mean over them is the mean over all of their elements.
    """
    return masked_means(({"x": x}, mask))["x"]


def masked_means(*groups: tuple[Mapping[str, torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    """`masked_mean` of each tensor of each group, with the group's mask. Processes exchange all counts at
    once.
    """
    counts = _count(torch.stack([mask.sum() for _, mask in groups]))
    return {
        name: torch.where(mask, one, 0.0).sum() / count
        for (named, mask), count in zip(groups, counts)
        for name, one in named.items()
    }


def ragged_mean(x: torch.Tensor) -> torch.Tensor:
    """The mean of x [n], of which processes may have different n; see `masked_mean`."""
    return x.sum() / _count(torch.tensor(len(x), device=x.device))


def leading(count: int, fraction: float, device: torch.device) -> torch.Tensor:
    """Which of `count` windows [count] are among the first `fraction` of the batch.

    Within `means_over` processes: of the whole batch, of which this process has every size-th window.
    """
    ranks = _ranks.get()
    number = torch.arange(count, device=device) * ranks.size + ranks.rank
    return number < fraction * count * ranks.size


_ALONE = DistContext()
_ranks = ContextVar("_ranks", default=_ALONE)


@contextmanager
def means_over(ranks: DistContext) -> Iterator[None]:
    """Context in which masked means are over the elements of all processes."""
    token = _ranks.set(ranks)
    try:
        yield
    finally:
        _ranks.reset(token)


def _count(own: torch.Tensor) -> torch.Tensor:
    """What a process divides its sum by: the elements of all processes per process."""
    ranks = _ranks.get()
    if ranks.size == 1:
        return own.clamp(min=1)
    return ranks.sum(own).clamp(min=1) / ranks.size
