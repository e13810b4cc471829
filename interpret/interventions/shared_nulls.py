"""Null edits of a family of hypotheses. All share those that are KL-matched to one dose: along random
directions that leave the scores of every tested direction as they are, and along the other directions of the
set. Each has its own that move the state as far as its edit does.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from common.policy import Policy
from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.interventions.arms import NORM_MATCHED, Arm
from interpret.interventions.edit import Edit
from interpret.interventions.interventions import bind
from interpret.interventions.nulls import (
    NULL_SET,
    StateSample,
    changed_states,
    kl_measure,
    matched,
    norm_measure,
    null_sets,
    on_fitted,
    on_null,
)


def dosed(edit: Edit, directions: Directions, policy: Policy, sample: StateSample, kl: float) -> Edit:
    """The edit at the strength at which mean KL(edited || original) over the sample is `kl`.

    Raises:
        UsageError: no strength within a factor of 64 has that effect on the policy.
    """
    found, is_matched = matched(edit, directions, kl_measure(policy, sample), kl)
    if not is_matched:
        raise UsageError(f"no strength of the edit moves the policy by {kl} nats: give another kl")
    return found


def shared_null_arms(
    edits: Sequence[Edit],
    directions: Directions,
    policy: Policy,
    sample: StateSample,
    count: int,
    seed: int,
    kl: float,
) -> list[Arm]:
    """Arms of the families KL-matched, `count`, and fitted, as many as the set has other directions.

    Args:
        edits: the tested ones, which differ in their directions and the signs of their values.
        directions: their set.
        policy: the agent.
        sample: its states, over which matches hold on average.
        count: of KL-matched arms.
        seed: of the null directions.
        kl: in nats.
    """  # fmt: skip
    first = edits[0]
    tested = _touched(edits)
    upward = tuple(map(abs, first.values))
    states = sample.after.double().cpu().numpy()
    null = _with_values(on_null(first), upward)
    drawn = null_sets(first, directions, states, count, seed, True, tested)
    candidates = [("KL-matched", null, one) for one in drawn]
    if len(directions) - len(tested) >= len(first.touched):
        others = on_fitted(_with_values(first, upward), directions, len(directions), seed, tested)
        candidates += [("fitted", other, directions) for other in others]
    measure = kl_measure(policy, sample)
    arms = []
    for family, edit, own in candidates:
        own = own.to(directions.read.device)
        found, is_matched = matched(edit, own, measure, kl)
        bound = bind([found], {first.direction_set or "tested": directions, NULL_SET: own})
        arms.append(Arm(family, found.strength, bound, is_matched))
    return arms


def norm_null_arms(
    edit: Edit,
    edits: Sequence[Edit],
    directions: Directions,
    sample: StateSample,
    count: int,
    seed: int,
) -> list[Arm]:
    """Arms of the families NORM_MATCHED, `count` each: random directions, all equally likely or drawn from
    the states' covariance, at the strength at which they move the state as far as the edit does.

    Args:
        edit: a tested one, at the strength that is tested.
        edits: those of the family, whose scores null directions leave as they are.
        directions: their set.
        sample: states of the agent, over which matches hold on average.
        count: of each family.
        seed: of the null directions; those from the covariance are the KL-matched ones.
    """
    states = sample.after.double().cpu().numpy()
    measure = norm_measure(sample)
    target = measure(edit, directions)
    null = _with_values(on_null(edit), tuple(map(abs, edit.values)))
    arms = []
    for family in NORM_MATCHED:
        drawn = null_sets(edit, directions, states, count, seed, family == "covariance", _touched(edits))
        for own in (one.to(directions.read.device) for one in drawn):
            found, is_matched = matched(null, own, measure, target)
            arms.append(Arm(family, found.strength, bind([found], {NULL_SET: own}), is_matched))
    return arms


def _touched(edits: Sequence[Edit]) -> list[int]:
    return sorted({one for edit in edits for one in edit.touched})


def _with_values(edit: Edit, values: tuple[float, ...]) -> Edit:
    return replace(edit, values=values)


@torch.no_grad()
def logit_shifts(arm: Arm, policy: Policy, sample: StateSample, choices: Sequence[np.ndarray]) -> np.ndarray:
    """What an arm does in one step, read from the heads: mean change of the log odds of each choice [C].

    choices: [A] bool each, the actions that belong to it.
    """
    (edit,) = arm.interventions.edits
    after = changed_states(edit, arm.interventions.sets[edit.direction_set], sample)
    before, now = (_log_odds(policy.heads(x)[0].double(), choices) for x in (sample.after, after))
    return (now - before).mean(0).cpu().numpy()


def _log_odds(logits: torch.Tensor, choices: Sequence[np.ndarray]) -> torch.Tensor:
    columns = []
    for chosen in choices:
        chosen = torch.as_tensor(chosen, device=logits.device)
        columns.append(logits[:, chosen].logsumexp(-1) - logits[:, ~chosen].logsumexp(-1))
    return torch.stack(columns, 1)
