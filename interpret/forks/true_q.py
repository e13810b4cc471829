"""What every action is truly worth: at a saved fork point the real game is forked, each action tried, and the
agent plays on.

Over many noise draws this gives Q under the agent's own policy in the game itself: it calibrates the value
head, and says at which steps it matters what is done.
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
    """returns [M, E, D]: discounted rewards from each fork point on, by effect class of the first action and
    noise draw, in the game's units. cut [M, E, D]: whether the run had not ended at the horizon; what comes
    after is left out.
    """

    returns: np.ndarray
    cut: np.ndarray


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
    """Plays on every effect class at every fork point `draws` times, for at most `steps` steps.

    A draw's noise is the same for all actions of a fork point. env: as many runs go on at a time as it has slots;
    runs that have ended cost no more.
    """
    acts = np.unique(env.effect_classes)
    shape = len(points), len(acts), draws
    point, effect, draw = (x.ravel() for x in np.indices(shape))
    returns = np.zeros(len(point))
    cut = np.ones(len(point), bool)
    for at in range(0, len(point), env.num):
        here = slice(at, min(at + env.num, len(point)))
        some = points.take(point[here])
        for now in fork(
            env, policy, some, steps, some.keys(seed, draw[here]), acts[effect[here]][None], device
        ):
            returns[at + now.slot] += gamma**now.t * now.reward
            cut[at + now.slot] = ~(now.terminated | now.truncated)
        if bar is not None:
            bar.update(here.stop - at)
    return ForkReturns(returns.reshape(shape), cut.reshape(shape))


def policy_outputs(
    policy: Policy, points: ForkPoints, effect_classes, device="cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """What the agent makes of each fork point: its value [M], in its own units (NaN without a value head), and
    the probability [M, E] of each effect class.
    """
    still = torch.zeros(len(points), dtype=torch.bool, device=device)
    with torch.inference_mode():
        state = policy.advance(
            torch.from_numpy(points.frames[-1]).to(device), points.hidden.to(device), still, still.float()
        )
        logits, value = policy.heads(state)
    probability = torch.softmax(logits.float(), -1).cpu().numpy()
    shares = np.stack(
        [probability[:, np.asarray(effect_classes) == c].sum(1) for c in np.unique(effect_classes)], 1
    )
    return np.full(len(points), np.nan) if value is None else value.float().cpu().numpy(), shares


def policy_values(returns: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The real value [M, D] of each fork point: Q averaged by the policy's own probabilities [M, E], draw by
    draw.
    """
    return (returns * shares[..., None]).sum(1)


def advantages(returns: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Q less the value, [M, E]."""
    return (returns - policy_values(returns, shares)[:, None]).mean(2)


class Criticality(NamedTuple):
    """How much depends on the action, [M] each: Q of the best class less Q of the worst (Torrey & Taylor
    2013, "Teaching on a budget"), its standard error, and which classes these are.
    """

    gap: np.ndarray
    error: np.ndarray
    best: np.ndarray
    worst: np.ndarray


def criticality(returns: np.ndarray) -> Criticality:
    """From returns [M, E, D], D at least 2.

    Best and worst are picked on one half of the draws and compared on the other, both ways round: a
    difference between the extremes of noisy numbers would be above zero where nothing depends on the action.
    `best` and `worst` are by all draws.
    """
    points, _, draws = returns.shape
    if draws < 2:
        raise ValueError(
            "criticality needs 2 or more draws: one half picks the actions, the other compares them"
        )
    row = np.arange(points)
    gaps = []
    halves = returns[..., : draws // 2], returns[..., draws // 2 :]
    for pick, compare in (halves, halves[::-1]):
        q = pick.mean(2)
        gaps.append(compare[row, q.argmax(1)] - compare[row, q.argmin(1)])
    gap = np.concatenate(gaps, 1)
    q = returns.mean(2)
    return Criticality(gap.mean(1), gap.std(1, ddof=1) / np.sqrt(draws), q.argmax(1), q.argmin(1))


class Calibration(NamedTuple):
    """The value head against the real value. slope, intercept, correlation: of the real value on the head's
    [R]; root: root mean square error, the draws' own error taken out [R].
    """

    slope: np.ndarray
    intercept: np.ndarray
    correlation: np.ndarray
    root: np.ndarray


def value_calibration(head: np.ndarray, real: np.ndarray, weights: np.ndarray) -> Calibration:
    """head [M] in the game's units, real [M, D] draws, weights [R, M]. A calibrated head has slope 1 and
    intercept 0.
    """
    fitted = fit_line(weights, head[:, None], real)
    draws = real.shape[1]
    own = real.var(1, ddof=1) / draws if draws > 1 else np.zeros(len(real))
    square = ratio(weights, (head - real.mean(1)) ** 2 - own, np.ones(len(head)))
    return Calibration(fitted.slope, fitted.intercept, fitted.correlation, np.sqrt(np.maximum(square, 0)))


def reliability_curve(
    head: np.ndarray, real: np.ndarray, weights: np.ndarray, bins: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the head's value [B] and of the real one [R, B] in bins of equal numbers of fork points by the
    head's value.
    """
    edges = np.quantile(head, np.linspace(0, 1, bins + 1)[1:-1])
    index = np.searchsorted(edges, head, side="right")
    used = np.unique(index)
    inside = (index[:, None] == used).astype(float)
    return (inside * head[:, None]).sum(0) / inside.sum(0), ratio(
        weights, inside * real.mean(1)[:, None], inside
    )
