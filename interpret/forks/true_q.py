"""True Q-values: from fork points of the real game every action is tried, and the agent plays on.

Averaged over noise draws this gives Q under the agent's own policy. It calibrates the value head and shows at
which steps the choice of action matters.
"""

from typing import NamedTuple

import numpy as np
import torch

from common.policy import Policy
from common.stats import ratio
from interpret.errors_in_variables import fit_line
from interpret.forks.fork_points import ForkPoints
from interpret.forks.worlds import fork


class ForkReturns(NamedTuple):
    """Discounted returns of forks."""

    returns: np.ndarray
    """[M, E, D]: by effect class of the first action and noise draw, in the game's units."""
    cut: np.ndarray
    """[M, E, D] bool: whether the run still went on at the horizon; later rewards are not counted."""


def fork_returns(
    env,
    policy: Policy,
    points: ForkPoints,
    draws: int,
    steps: int,
    gamma: float,
    seed: int,
    device="cpu",
    bar=None,
) -> ForkReturns:
    """Tries every effect class at every fork point `draws` times and plays on.

    A draw's noise is shared by all actions of a fork point.

    Args:
        env: the real game; as many runs go on at a time as it has slots.
        policy: acts after the first action.
        points: M fork points.
        draws: D, runs per fork point and action.
        steps: the horizon.
        gamma: discount per step.
        seed: of the noise.
        device: of the policy.
        bar: a progress bar, updated by runs.
    """
    acts = np.unique(env.effect_classes)
    shape = len(points), len(acts), draws
    point, effect, draw = (x.ravel() for x in np.indices(shape))
    returns = np.zeros(len(point))
    cut = np.ones(len(point), bool)
    for at in range(0, len(point), env.num):
        rows = slice(at, min(at + env.num, len(point)))
        batch_points = points.take(point[rows])
        for now in fork(
            env,
            policy,
            batch_points,
            steps,
            batch_points.keys(seed, draw[rows]),
            acts[effect[rows]][None],
            device,
        ):
            returns[at + now.slot] += gamma**now.t * now.reward
            cut[at + now.slot] = ~(now.terminated | now.truncated)
        if bar is not None:
            bar.update(rows.stop - at)
    return ForkReturns(returns.reshape(shape), cut.reshape(shape))


def policy_outputs(
    policy: Policy, points: ForkPoints, effect_classes, device="cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """The agent's value [M] at each fork point (NaN without a value head) and the probability [M, E] of each
    effect class.
    """
    not_first = torch.zeros(len(points), dtype=torch.bool, device=device)
    with torch.inference_mode():
        state = policy.advance(
            torch.from_numpy(points.frames[-1]).to(device),
            points.hidden.to(device),
            not_first,
            not_first.float(),
        )
        logits, value = policy.heads(state)
    probability = torch.softmax(logits.float(), -1).cpu().numpy()
    shares = np.stack(
        [probability[:, np.asarray(effect_classes) == c].sum(1) for c in np.unique(effect_classes)], 1
    )
    return np.full(len(points), np.nan) if value is None else value.float().cpu().numpy(), shares


def policy_values(returns: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The true value [M, D] of each fork point: Q averaged over the policy's `shares` [M, E]."""
    return (returns * shares[..., None]).sum(1)


def advantages(returns: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Q less the value, [M, E]."""
    return (returns - policy_values(returns, shares)[:, None]).mean(2)


class Criticality(NamedTuple):
    """How much depends on the action at each fork point (Torrey & Taylor 2013, "Teaching on a budget")."""

    gap: np.ndarray
    """[M]: Q of the best effect class less Q of the worst."""
    error: np.ndarray
    """[M]: standard error of the gap."""
    best: np.ndarray
    """[M], by all draws, as `worst`."""
    worst: np.ndarray


def criticality(returns: np.ndarray) -> Criticality:
    """Gap between the best and the worst action, from returns [M, E, D].

    The actions are picked on one half of the draws and compared on the other, both ways round: the gap
    between extremes of noisy means would otherwise be positive even where nothing depends on the action.

    Raises:
        ValueError: for fewer than two draws.
    """
    num_points, _, draws = returns.shape
    if draws < 2:
        raise ValueError(
            "criticality needs 2 or more draws: one half picks the actions, the other compares them"
        )
    row = np.arange(num_points)
    gaps = []
    halves = returns[..., : draws // 2], returns[..., draws // 2 :]
    for pick, compare in (halves, halves[::-1]):
        q = pick.mean(2)
        gaps.append(compare[row, q.argmax(1)] - compare[row, q.argmin(1)])
    gap = np.concatenate(gaps, 1)
    q = returns.mean(2)
    return Criticality(gap.mean(1), gap.std(1, ddof=1) / np.sqrt(draws), q.argmax(1), q.argmin(1))


class Calibration(NamedTuple):
    """Regression of the true value on the value head's."""

    slope: np.ndarray
    """[R], as the other fields."""
    intercept: np.ndarray
    correlation: np.ndarray
    root: np.ndarray
    """Root mean squared error, without the sampling error of the draws."""


def value_calibration(head: np.ndarray, real: np.ndarray, weights: np.ndarray) -> Calibration:
    """Calibration of the value head; a calibrated head has slope 1 and intercept 0.

    Args:
        head: [M], values in the game's units.
        real: [M, D], true values by draw.
        weights: [R, M] bootstrap weights.
    """
    fitted = fit_line(weights, head[:, None], real)
    draws = real.shape[1]
    error_variance = real.var(1, ddof=1) / draws if draws > 1 else np.zeros(len(real))
    square = ratio(weights, (head - real.mean(1)) ** 2 - error_variance, np.ones(len(head)))
    return Calibration(fitted.slope, fitted.intercept, fitted.correlation, np.sqrt(np.maximum(square, 0)))


def reliability_curve(
    head: np.ndarray, real: np.ndarray, weights: np.ndarray, bins: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Mean value of the head [bins] and mean true value [R, bins], in bins of equally many fork points by the
    head's value.
    """
    edges = np.quantile(head, np.linspace(0, 1, bins + 1)[1:-1])
    index = np.searchsorted(edges, head, side="right")
    used = np.unique(index)
    inside = (index[:, None] == used).astype(float)
    return (inside * head[:, None]).sum(0) / inside.sum(0), ratio(
        weights, inside * real.mean(1)[:, None], inside
    )
