"""How plausible a latent is, and coordinates in which plausible latents are standard normal.

A latent is plausible if it lies in the typical shell: of a Gaussian in d dimensions nearly all samples lie at
a distance of about sqrt(d) from the mean, and the mean itself, the most likely point, is as unusual as a
point far outside. The penalty of a latent is therefore that of its distance from the mean, for each part of
the latent: zero in the shell, growing on both sides of it.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from common.runs import UsageError
from common.words import counted

_REFERENCE = 4000
"""Samples of N(0, I) that percentiles under it are read from."""


@dataclass(frozen=True)
class GaussianPrior:
    """A Gaussian N(mean, L L^T) over latents, with whitened coordinates u: z = mean + L u.

    mean [Z], factor [Z, Z] lower triangular. split: u[:split] belongs to the global part of the latent, the
    rest to its tiles given that. centre, spread [2]: mean and standard deviation of the length of either part
    among plausible latents. reference [n]: their penalties, ascending.
    """

    mean: torch.Tensor
    factor: torch.Tensor
    split: int
    centre: torch.Tensor
    spread: torch.Tensor
    reference: torch.Tensor

    def to(self, device: torch.device | str) -> "GaussianPrior":
        """The same prior on a device."""
        tensors = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, torch.Tensor)}
        return replace(self, **tensors)

    def whiten(self, z: torch.Tensor) -> torch.Tensor:
        """Whitened coordinates u [N, Z] of latents [N, Z]."""
        return torch.linalg.solve_triangular(self.factor, (z - self.mean).T, upper=False).T

    def latent(self, u: torch.Tensor) -> torch.Tensor:
        """Latents [N, Z] from whitened coordinates; differentiable."""
        return self.mean + u @ self.factor.T

    def project(self, u: torch.Tensor) -> torch.Tensor:
        """u itself: every point is a latent."""
        return u

    def lengths(self, u: torch.Tensor) -> torch.Tensor:
        """Lengths [N, 2] of the two parts of u."""
        return torch.stack([u[:, : self.split].norm(dim=1), u[:, self.split :].norm(dim=1)], 1)

    def penalty(self, u: torch.Tensor) -> torch.Tensor:
        """Half the squared deviation of the lengths from the shell, in standard deviations, summed: [N]."""
        return ((self.lengths(u) - self.centre) / self.spread).square().sum(1) / 2

    def percentile(self, u: torch.Tensor) -> torch.Tensor:
        """Share [N], in percent, of plausible latents whose penalty is smaller."""
        below = torch.searchsorted(self.reference, self.penalty(u).contiguous())
        return 100 * below / len(self.reference)

    def sample(self, noise: torch.Tensor) -> torch.Tensor:
        """Latents [N, Z] from standard normal noise [N, Z]."""
        return self.latent(noise)


@dataclass(frozen=True)
class SphericalPrior:
    """The uniform distribution on the unit sphere: every point is as plausible as any other.

    u lies on the sphere of radius sqrt(Z), on which each of its numbers has variance 1.
    """

    def whiten(self, z: torch.Tensor) -> torch.Tensor:
        return z * z.shape[-1] ** 0.5

    def latent(self, u: torch.Tensor) -> torch.Tensor:
        return F.normalize(u, dim=-1)

    def project(self, u: torch.Tensor) -> torch.Tensor:
        """The nearest point of the sphere."""
        return self.whiten(F.normalize(u, dim=-1))

    def penalty(self, u: torch.Tensor) -> torch.Tensor:
        return u.new_zeros(len(u))

    def percentile(self, u: torch.Tensor) -> torch.Tensor:
        """NaN [N]: undefined."""
        return u.new_full((len(u),), math.nan)

    def sample(self, noise: torch.Tensor) -> torch.Tensor:
        return F.normalize(noise, dim=-1)


Prior = GaussianPrior | SphericalPrior


def standard_prior(width: int, split: int, seed: int = 0) -> GaussianPrior:
    """N(0, I) over latents of `width` numbers, of which the first `split` are the global part."""
    bare = _bare(torch.zeros(width), torch.eye(width), split)
    generator = torch.Generator().manual_seed(seed)
    return _calibrated(bare, torch.randn(_REFERENCE, width, generator=generator))


def recorded_prior(
    mean: torch.Tensor, log_variance: torch.Tensor, groups: np.ndarray, split: int, seed: int = 0
) -> GaussianPrior:
    """The Gaussian with mean and covariance of the aggregate posterior of recorded moments.

    It is fit on half of the levels. The shell and the percentiles are those of the other half.

    Args:
        mean: of q(z) [n, Z].
        log_variance: of q(z) [n, Z].
        groups: level of each moment [n].
        split: width of the global part of the latent.
        seed: of the halves and of the samples of q(z).

    Raises:
        UsageError: fewer than 4 levels.
    """
    rng = np.random.default_rng([seed, 29])
    levels = rng.permutation(np.unique(groups))
    if len(levels) < 4:
        raise UsageError(
            f"recorded moments of {counted(len(levels), 'level')}: a prior is fit on one half of the levels "
            "and calibrated on the other, and needs 4 or more; take more moments, or --prior standard"
        )
    fit = torch.from_numpy(np.isin(groups, levels[: len(levels) // 2]))
    device = mean.device
    mean, variance = mean.double().cpu(), log_variance.double().exp().cpu()
    covariance = torch.cov(mean[fit].T) + torch.diag(variance[fit].mean(0))
    bare = _bare(mean[fit].mean(0), torch.linalg.cholesky(covariance), split)
    noise = torch.from_numpy(rng.standard_normal(mean[~fit].shape))
    return _calibrated(bare, mean[~fit] + variance[~fit].sqrt() * noise).to(device)


def _bare(mean: torch.Tensor, factor: torch.Tensor, split: int) -> GaussianPrior:
    """A prior that is not calibrated yet."""
    return GaussianPrior(mean, factor, split, torch.zeros(2), torch.ones(2), torch.zeros(0))


def _calibrated(bare: GaussianPrior, plausible: torch.Tensor) -> GaussianPrior:
    """The prior in float32 with shell and reference of plausible latents [n, Z]."""
    u = bare.whiten(plausible)
    lengths = bare.lengths(u)
    shell = lengths.mean(0), lengths.std(0).clamp(min=1e-3)
    prior = replace(
        bare,
        mean=bare.mean.float(),
        factor=bare.factor.float(),
        centre=shell[0].float(),
        spread=shell[1].float(),
    )
    return replace(prior, reference=prior.penalty(u.float()).sort().values)
