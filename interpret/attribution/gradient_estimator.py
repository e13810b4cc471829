"""Is the straight-through gradient unbiased? Its prediction for a small change of the latent against
rollouts.

The gradient is taken in hard mode, along one direction and forward (dual numbers, Wengert 1964): one pass
gives every quantity at every step, the same as a backward pass (tests/analysis/test_gradient_check.py).
Predictions are averaged over rollouts. The measured change is half the difference of rollouts from either
side, with the same noise. Along the path `environment` the actions are those of the unperturbed rollout;
along `mixed` they may change; `agent` is the difference of the two, the effect of changed actions.
"""

import numpy as np
import torch
from torch.autograd import forward_ad

from common.precision import set_precision
from common.stats import estimate, json_number, level_counts
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from rollouts.segment import Segment

PATHS = ("agent", "environment", "mixed")
QUANTITIES = ("value", "logit", "hidden", "reward", "done")
"""Value; logit of the action that the unperturbed rollout takes; one unit of the hidden state; probabilities
of reward and end.
"""


def perturbations(z: torch.Tensor, noise: torch.Tensor, share: float, spherical: bool) -> torch.Tensor:
    """Changes [B, Z] of latents z [B, Z] in the directions of `noise`, of length `share` * |z|; tangential to
    the sphere if `spherical`.
    """
    if spherical:
        noise = noise - (noise * z).sum(-1, keepdim=True) * z
    return share * z.norm(dim=-1, keepdim=True) * noise / noise.norm(dim=-1, keepdim=True)


def holding_place(simulator: Simulator, z: torch.Tensor, move: torch.Tensor) -> torch.Tensor:
    """The part of moves [B, Z] that leaves the start's place in its tile and its motion, to first order.

    A picture drawn by nearest neighbour changes by whole pixels when it moves by a part of one, in the game
    as in the simulator: no gradient predicts which.
    """
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        _, phase, motion, _ = simulator.model.start_head(leaf)
        rows = torch.cat([phase, motion], -1).sum(0)
        slopes = torch.stack([torch.autograd.grad(row, leaf, retain_graph=True)[0] for row in rows], -1)
    basis, _ = torch.linalg.qr(slopes.detach())  # [B, Z, 4]
    return move - (basis @ (basis.mT @ move[..., None]))[..., 0]


def to_float32(simulator: Simulator) -> Simulator:
    """The same simulator in float32: PyTorch's autocast drops forward-mode tangents."""
    set_precision("fp32", simulator.model, simulator.agent)
    return simulator


def predicted_and_measured_changes(
    simulator: Simulator, z: torch.Tensor, move: torch.Tensor, keys: NoiseKeys, steps: int, unit: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and measured change of every quantity at every step when z moves, in one rollout each.

    Their means over noise are to be compared.

    Args:
        simulator: with its agent.
        z: [B, Z].
        move: [B, Z], the change of z.
        keys: of the noise.
        steps: T.
        unit: [B], which hidden unit is one of the quantities.

    Returns:
        Two tensors [paths, quantities, T, B].
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
    leaf = z.detach().requires_grad_()  # the painter keeps no slope for what asks for no gradient
    with forward_ad.dual_level():
        out = simulator.simulate(
            forward_ad.make_dual(leaf, move), steps, keys, grad=True, ends=False, actions=actions
        )
        dual = quantities(out, out.action, unit)
        tangent = forward_ad.unpack_dual(dual).tangent
        base = Segment(
            **{
                name: forward_ad.unpack_dual(getattr(out, name)).primal.detach()
                for name in vars(out)
                if name != "extra"
            }
        )
    return base, torch.zeros_like(dual) if tangent is None else tangent.detach()


def _difference(simulator, z, move, keys, steps, unit, base: Segment, actions) -> torch.Tensor:
    """Half the difference of the quantities at z + move and z - move, from the agent's state at z."""
    ends = (
        simulator.simulate(z + sign * move, steps, keys, hidden=base.hidden[0], ends=False, actions=actions)
        for sign in (1, -1)
    )
    after, before = (quantities(out, base.action, unit) for out in ends)
    return (after - before) / 2


def quantities(out: Segment, action: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """QUANTITIES at every step: [quantities, T, B]."""
    hidden = out.hidden_after()
    logit = out.logits.gather(-1, action[..., None])[..., 0]
    chosen = hidden.gather(-1, unit.expand(len(hidden), -1)[..., None])[..., 0]
    return torch.stack([out.value, logit, chosen, out.extra["reward_prob"], out.extra["done_prob"]])


def gradient_agreement(
    predicted: np.ndarray, measured: np.ndarray, clusters: np.ndarray, resamples: int = 2000, *, seed: int = 0
) -> dict[str, list]:
    """Agreement of measured with predicted changes.

    Args:
        predicted: [n].
        measured: [n].
        clusters: [n], the level of each, over which intervals are bootstrapped.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        {"slope", "correlation", "sign"}: [estimate, low, high] of the regression of measured on predicted, of
        their correlation, and of the share of equal signs where something changed; None where nothing varies.
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
    """Agreement of each half of the predictions [2, n] with the other half of the measurements [2, n].

    The halves are of different rollouts: within one rollout, gradient and measurement share its noise.
    """
    return gradient_agreement(predicted.reshape(-1), measured[::-1].reshape(-1), np.tile(clusters, 2))


def noise_ceiling(predicted: np.ndarray, measured: np.ndarray) -> float | None:
    """The cross-half correlation that a perfect estimator would have: geometric mean of the correlations
    between the two halves of each.

    Correction for attenuation (Spearman 1904). None if a half does not vary; 0 if two halves disagree.
    """
    if min(np.ptp(halves, axis=1).min() for halves in (predicted, measured)) == 0:
        return None
    return float(np.sqrt(np.prod([max(np.corrcoef(halves)[0, 1], 0.0) for halves in (predicted, measured)])))
