"""Is the straight-through gradient right on average? What it predicts of a small move of the latent, beside
what rollouts show.

The gradient is taken in hard mode, where it is an estimate, along one direction and forward (dual numbers, as
in Wengert 1964): one pass gives every quantity at every step, the same that a backward pass gives
(tests/analysis/test_gradient_check.py). What it predicts is averaged over rollouts; what happens is half the
difference between rollouts from either side, with the same noise. Along the path `environment` the actions
are those of the unmoved rollout; `mixed` lets them change; `agent` is what the change of actions adds: the
difference of the two.
"""

import numpy as np
import torch
from torch.autograd import forward_ad

from common.precision import set_precision
from common.stats import estimate, json_number, level_counts
from generative.simulator import NoiseKeys, Simulator
from rollouts.segment import Segment

PATHS = ("agent", "environment", "mixed")
QUANTITIES = ("value", "logit", "hidden", "reward", "done")
"""Value, logit of the action that the unmoved rollout takes, one unit of the hidden state, and the
probabilities of reward and end.
"""


def perturbations(z: torch.Tensor, noise: torch.Tensor, share: float, spherical: bool) -> torch.Tensor:
    """Moves [B, Z] of the latents z [B, Z], `share` of their length, in the directions of `noise`; along the
    sphere where it is one.
    """
    if spherical:
        noise = noise - (noise * z).sum(-1, keepdim=True) * z
    return share * z.norm(dim=-1, keepdim=True) * noise / noise.norm(dim=-1, keepdim=True)


def to_float32(simulator: Simulator) -> Simulator:
    """The same simulator without bf16, which forward derivatives cannot pass (PyTorch's autocast leaves
    tangents as they are).
    """
    set_precision("fp32", simulator.model, simulator.agent)
    return simulator


def predicted_and_measured_changes(
    simulator: Simulator, z: torch.Tensor, move: torch.Tensor, keys: NoiseKeys, steps: int, unit: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and measured change of every quantity at every step when z [B, Z] moves by `move` [B, Z], in
    one rollout each.

    unit [B]: which hidden unit. Returns two tensors [paths, quantities, steps, B]; their means over noise are
    to be compared.
    """
    base, mixed = _derivative(simulator, z, move, keys, steps, unit, actions=None)
    held = base.action
    _, environment = _derivative(simulator, z, move, keys, steps, unit, actions=held)
    with torch.no_grad():
        free, fixed = (
            _difference(simulator, z, move, keys, steps, unit, base, actions) for actions in (None, held)
        )
    return torch.stack([mixed - environment, environment, mixed]), torch.stack([free - fixed, fixed, free])


def _derivative(simulator, z, move, keys, steps, unit, actions) -> tuple[Segment, torch.Tensor]:
    with forward_ad.dual_level():
        out = simulator.simulate(
            forward_ad.make_dual(z, move), steps, keys, grad=True, ends=False, actions=actions
        )
        dual = quantities(out, out.action, unit)
        tangent = forward_ad.unpack_dual(dual).tangent
        base = Segment(
            **{
                name: forward_ad.unpack_dual(getattr(out, name)).primal
                for name in vars(out)
                if name != "extra"
            }
        )
    return base, torch.zeros_like(dual) if tangent is None else tangent


def _difference(simulator, z, move, keys, steps, unit, base: Segment, actions) -> torch.Tensor:
    """Half of the quantities at z + move less those at z - move; the agent begins with what it remembers at
    z.
    """
    ends = (
        simulator.simulate(z + sign * move, steps, keys, hidden=base.hidden[0], ends=False, actions=actions)
        for sign in (1, -1)
    )
    after, before = (quantities(out, base.action, unit) for out in ends)
    return (after - before) / 2


def quantities(out: Segment, action: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """The QUANTITIES at every step: [quantities, T, B]."""
    hidden = out.hidden_after()
    logit = out.logits.gather(-1, action[..., None])[..., 0]
    chosen = hidden.gather(-1, unit.expand(len(hidden), -1)[..., None])[..., 0]
    return torch.stack([out.value, logit, chosen, out.extra["reward_prob"], out.extra["done_prob"]])


def gradient_agreement(
    predicted: np.ndarray, measured: np.ndarray, clusters: np.ndarray, resamples: int = 2000, *, seed: int = 0
) -> dict[str, list]:
    """Slope of measured [n] on predicted [n], their correlation, and the share of equal signs, each
    [estimate, low, high].

    Intervals: 95%, bootstrapped over whole `clusters` [n]. Signs are compared where something changed. None
    where nothing varies.
    """
    _, index = np.unique(clusters, return_inverse=True)
    x = np.asarray(predicted, float)
    y = np.asarray(measured, float)
    changed = np.asarray(measured) != 0
    moments = [np.ones_like(x), x, y, x * x, y * y, x * y, changed & (np.sign(x) == np.sign(y)), changed]
    sums = np.stack([np.bincount(index, moment) for moment in moments], 1)  # [clusters, moments]
    count = len(sums)
    resampled = _of_moments((level_counts(count, resamples, seed=seed) @ sums).T)
    return {
        name: [json_number(bound) for bound in estimate(values)]
        for name, values in zip(("slope", "correlation", "sign"), resampled)
    }


def _of_moments(m: np.ndarray) -> tuple:
    n, x, y, xx, yy, xy, same, changed = m
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = xx / n - (x / n) ** 2
        other = yy / n - (y / n) ** 2
        covariance = xy / n - x * y / n**2
        flat = (variance <= 1e-12 * xx / n) | (other <= 1e-12 * yy / n)  # rounding errors of a constant
        slope = covariance / variance
        correlation = covariance / np.sqrt(variance * other)
        return np.where(flat, np.nan, slope), np.where(flat, np.nan, correlation), same / changed


def cross_half_agreement(
    predicted: np.ndarray, measured: np.ndarray, clusters: np.ndarray
) -> dict[str, list]:
    """`agreement` of each half of the predictions [2, n] with the other half of the measurements [2, n].

    The halves are of different rollouts. Within one rollout a gradient foretells that rollout's own luck,
    which is no part of a mean.
    """
    return gradient_agreement(predicted.reshape(-1), measured[::-1].reshape(-1), np.tile(clusters, 2))


def noise_ceiling(predicted: np.ndarray, measured: np.ndarray) -> float | None:
    """The correlation across halves that a perfect estimator would show: geometric mean of those between the
    halves [2, n] of each.

    After Spearman (1904, "The proof and measurement of association between two things"). None where a half
    does not vary; 0 where two halves disagree.
    """
    if min(np.ptp(halves, axis=1).min() for halves in (predicted, measured)) == 0:
        return None
    return float(np.sqrt(np.prod([max(np.corrcoef(halves)[0, 1], 0.0) for halves in (predicted, measured)])))
