"""Null edits: what an edit of the same size along other directions does.

Null directions leave the scores of the tested ones as they are. The strength of a null edit is matched so
that it moves the state as far as the tested edit (equal norm), or the policy as far (KL).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from common.policy import Policy
from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.interventions.edit import Edit
from interpret.interventions.interventions import bind
from interpret.interventions.score_edits import grouped

MIN_NULLS = 99
"""Fewer cannot say what is beyond 95% of them."""
NULL_SET = "null"
"""Name of the set of a null edit."""
_WIDEST = 64.0
"""A matched strength lies within this factor of the tested one."""
_HALVINGS = 30


class StateSample(NamedTuple):
    """States [n, D] of the unedited agent before and after observations."""

    before: torch.Tensor
    after: torch.Tensor


Measure = Callable[[Edit, Directions], float]
"""How much an edit changes, on average over a sample of states."""


def null_sets(
    edit: Edit,
    directions: Directions,
    states: np.ndarray,
    count: int,
    seed: int,
    covariance: bool,
    spared: Sequence[int] = (),
) -> list[Directions]:
    """`count` sets of random directions, as many each as the edit touches, that do not move its scores.

    Args:
        edit: the tested edit.
        directions: its set.
        states: [n, D] real states, which set mean, scale and covariance.
        count: number of sets.
        seed: of the draws.
        covariance: draw from the covariance of the states; otherwise all directions of standardised states
            are equally likely.
        spared: further directions of the set whose scores they do not move.
    """
    touched = list(edit.touched)
    spared = sorted({*touched, *spared})
    mean, std = states.mean(0, dtype=np.float64), states.std(0, dtype=np.float64)
    std = np.where(std > 0, std, 1.0)
    write = directions.write[:, touched].cpu().numpy()
    kept, along = directions.read[spared].cpu().numpy(), directions.write[:, spared].cpu().numpy()
    standard = (states - mean) / std
    spread = np.cov(standard.T) if covariance else np.eye(len(std))
    rng = np.random.default_rng([seed, int(covariance)])
    drawn = rng.multivariate_normal(np.zeros(len(std)), spread, (count, len(touched)), method="eigh")
    columns = drawn.swapaxes(1, 2) * std[:, None]  # [count, D, k]
    columns -= along @ np.linalg.solve(kept @ along, kept @ columns)
    length = np.linalg.norm(write, axis=0) / np.linalg.norm(columns, axis=1, keepdims=True)
    return [_set_of(one, mean, std) for one in columns * length]


def _set_of(columns: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Directions:
    """Directions that write columns [D, k]; scores are zero at the mean state."""
    read = np.linalg.pinv(columns / std[:, None]) / std
    names = [f"null_{i}" for i in range(columns.shape[1])]
    return Directions(read, -read @ mean, columns, mean, names, {"method": "null"})


def on_null(edit: Edit) -> Edit:
    """The edit with the directions that it touches numbered from 0, as null sets have them."""
    place = {direction: i for i, direction in enumerate(edit.touched)}
    return replace(
        edit,
        directions=tuple(place[one] for one in edit.directions),
        to=tuple(None if one is None else place[one] for one in edit.to),
        direction_set=NULL_SET,
    )


def on_fitted(
    edit: Edit, directions: Directions, count: int, seed: int, spared: Sequence[int] = ()
) -> list[Edit]:
    """Up to `count` edits of the same kind on other directions of the set, none of which the edit touches or
    `spared` names.

    Raises:
        UsageError: if the set has too few.
    """
    others = [one for one in range(len(directions)) if one not in {*edit.touched, *spared}]
    if len(others) < len(edit.touched):
        raise UsageError(
            f"the set has {len(others)} other directions, and an edit of {len(edit.touched)} needs as many"
        )
    rng = np.random.default_rng([seed, 2])
    draws = [rng.permutation(others)[: len(edit.touched)].tolist() for _ in range(20 * count)]
    chosen = list(dict.fromkeys(map(tuple, draws)))[:count]
    places = [dict(zip(edit.touched, one)) for one in chosen]
    return [
        replace(
            edit,
            directions=tuple(place[one] for one in edit.directions),
            to=tuple(None if one is None else place[one] for one in edit.to),
        )
        for place in places
    ]


@torch.no_grad()
def changed_states(edit: Edit, directions: Directions, sample: StateSample) -> torch.Tensor:
    """States [n, D] after one step's edit, wherever the edit acts."""
    always = replace(edit, window=None, condition=None, before_heads=True, direction_set="")
    (group,) = grouped(bind([always], {"one": directions}), before_heads=True)
    step = torch.zeros(len(sample.after), dtype=torch.long, device=sample.after.device)
    return group.apply(sample.after, sample.before, step, [torch.ones_like(step, dtype=torch.bool)])


def norm_measure(sample: StateSample) -> Measure:
    """Mean length of the change of the state."""
    return lambda edit, directions: float(
        (changed_states(edit, directions, sample) - sample.after).norm(dim=-1).mean()
    )


def kl_measure(policy: Policy, sample: StateSample) -> Measure:
    """Mean KL(policy after the edit || policy before it)."""
    with torch.no_grad():
        original = torch.log_softmax(policy.heads(sample.after)[0].double(), -1)

    @torch.no_grad()
    def measure(edit: Edit, directions: Directions) -> float:
        logits = policy.heads(changed_states(edit, directions, sample))[0]
        edited = torch.log_softmax(logits.double(), -1)
        return float((edited.exp() * (edited - original)).sum(-1).mean())

    return measure


def matched(edit: Edit, directions: Directions, measure: Measure, target: float) -> tuple[Edit, bool]:
    """The edit at the strength at which `measure` gives the target, by bisection; and whether that lies
    within a factor of 64 of its own strength.
    """
    low, high = edit.strength / _WIDEST, edit.strength * _WIDEST
    if not measure(replace(edit, strength=low), directions) <= target:
        return replace(edit, strength=low), False
    if not measure(replace(edit, strength=high), directions) >= target:
        return replace(edit, strength=high), False
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        above = measure(replace(edit, strength=middle), directions) > target
        low, high = (low, middle) if above else (middle, high)
    return replace(edit, strength=(low * high) ** 0.5), True
