"""Arms of an experiment: the tested edit at several strengths, and its null edits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from common.policy import Policy
from common.runs import UsageError
from interpret.interventions.edit import Edit
from interpret.interventions.interventions import Interventions, bind
from interpret.interventions.nulls import (
    NULL_SET,
    StateSample,
    kl_measure,
    matched,
    norm_measure,
    null_sets,
    on_fitted,
    on_null,
)

STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0)
TESTED = "tested"
FAMILIES = ("equal norm", "covariance", "KL-matched", "fitted")
"""Null edits: along random directions that move the state as far; the same, drawn from the covariance of the
states; these at the strength that moves the policy as far; and other directions of the set, at that too.
"""

JUDGED_BY = ("KL-matched", "fitted")
"""The families that verdicts use."""
NORM_MATCHED = ("equal norm", "covariance")
"""The families that move the state as far as the tested edit."""


class Arm(NamedTuple):
    """One arm: its family, the strength relative to the tested edit, and whether a match was found."""

    family: str
    strength: float
    interventions: Interventions
    matched: bool = True


def strength_arms(tested: Interventions, strengths: Sequence[float] = STRENGTHS) -> list[Arm]:
    """The tested edit at each strength."""
    edit = only_edit(tested)
    return [
        Arm(TESTED, one, bind([replace(edit, strength=one * edit.strength)], tested.sets))
        for one in strengths
    ]


def null_arms(tested: Interventions, policy: Policy, sample: StateSample, count: int, seed: int) -> list[Arm]:
    """The null edits of every family, up to `count` each, matched to the tested edit at its own strength.

    Args:
        tested: one edit.
        policy: the agent.
        sample: its states, over which matches hold on average.
        count: of each family.
        seed: of the null directions.
    """
    edit = only_edit(tested)
    directions = tested.sets[edit.direction_set]
    states = sample.after.double().cpu().numpy()
    norm, kl = norm_measure(sample), kl_measure(policy, sample)
    one = on_null(edit)
    drawn = {
        "equal norm": [(one, null) for null in null_sets(edit, directions, states, count, seed, False)],
        "covariance": [(one, null) for null in null_sets(edit, directions, states, count, seed, True)],
        "fitted": [(other, directions) for other in on_fitted(edit, directions, count, seed)],
    }
    drawn["KL-matched"] = drawn["covariance"]
    measures = {"equal norm": norm, "covariance": norm, "KL-matched": kl, "fitted": kl}
    target = {measure: measure(edit, directions) for measure in (norm, kl)}
    arms = []
    for family in FAMILIES:
        measure = measures[family]
        for null, null_set in drawn[family]:
            null_set = null_set.to(directions.read.device)
            found, is_matched = matched(null, null_set, measure, target[measure])
            bound = bind([found], {**tested.sets, NULL_SET: null_set})
            arms.append(Arm(family, found.strength / edit.strength, bound, is_matched))
    return arms


def only_edit(tested: Interventions) -> Edit:
    """The one edit that is tested. Raises UsageError for several, and for a patch, which has no null."""
    if len(tested) != 1 or tested.edits[0].kind == "patch":
        kinds = ", ".join(edit.kind for edit in tested.edits) or "none"
        raise UsageError(f"an experiment tests one edit that is no patch, not {kinds}: give one")
    return tested.edits[0]
