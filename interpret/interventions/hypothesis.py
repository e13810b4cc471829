"""Hypotheses about an edit: files that are registered before they are tested, and how a test ends."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from common.descriptions import check_kinds, read_yaml
from common.errors import UsageError
from common.stats import Estimate
from interpret.interventions.edit import Edit, edit_of
from interpret.interventions.effects import MIN_LAYOUTS
from interpret.interventions.nulls import on_null

CHANGES = {"rise": 1, "fall": -1}
TESTED_EVENTS = ("death", "coin", "jump", "left")
SCENES = ("hazard", "any")
TESTS = ("sign flips by layout and KL-matched nulls, Holm 0.05",)
EXCLUSIONS = ("none",)
VERDICTS = ("confirmed", "refuted", "undecided", "too few to say")
ALPHA = 0.05
MAX_FAMILY = 8
SHARED = ("agent", "directions", "scenes", "steps", "n", "null_points", "num_nulls", "kl", "levels", "seed")
"""Fields that hypotheses of a family share, because they share fork points, control arms and nulls."""


@dataclass(frozen=True)
class Hypothesis:
    """Under an edit, from certain states, the probability of an event rises or falls."""

    sentence: str
    """The claim in words."""
    agent: str
    """Id of the agent's file."""
    directions: str
    """Id of the directions."""
    edit: Edit
    """At full strength; `kl` sets the strength that is tested."""
    kl: float
    """Mean KL(edited policy || original) in one step, over states of the control arm: the dose."""
    scenes: str
    """hazard or any: the states that are forked, chosen from what precedes the fork."""
    steps: int
    """Horizon of a fork."""
    event: str
    """death or coin, within the horizon; jump or left, share of steps with an action up or left."""
    change: str
    """rise or fall."""
    smallest_effect: float
    """Smallest change of the probability or share that is of interest; 0.03 is 3 points."""
    n: int
    """Fork points, each on another layout."""
    null_points: int
    """How many of these, the first ones, null edits are played at: the tested edit is compared there, and its
    effect is estimated on all n.
    """
    num_nulls: int
    """KL-matched null edits."""
    levels: tuple[int, int]
    """First level of the sealed range, and their number."""
    test: str = TESTS[0]
    exclusions: str = EXCLUSIONS[0]
    """Fork points that are left out."""
    why: str = ""
    """What the hypothesis is drawn from."""
    seed: int = 0

    def __post_init__(self):
        check_kinds(self)
        for name, known in (
            ("event", TESTED_EVENTS),
            ("change", tuple(CHANGES)),
            ("scenes", SCENES),
            ("test", TESTS),
            ("exclusions", EXCLUSIONS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of: {', '.join(known)}")
        if not 0 < self.smallest_effect < 1:
            raise ValueError(f"smallest_effect is {self.smallest_effect}; give a number between 0 and 1")
        if min(self.n, self.steps, self.levels[1]) < 1 or self.levels[0] < 0:
            raise ValueError("n, steps and the number of levels must be 1 or more, the first level 0 or more")
        if not (self.kl > 0 and 1 <= self.null_points <= self.n):
            raise ValueError("kl must be above 0, and null_points from 1 to n")
        if self.edit.strength != 1:
            raise ValueError("kl sets the strength of the edit: leave its strength out")


def read_hypothesis(path: Path) -> Hypothesis:
    """The hypothesis of a YAML file. Raises UsageError for anything else."""
    given = read_yaml(path, "give a file with the fields of a hypothesis")
    known = {field.name for field in fields(Hypothesis)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise UsageError(f"{path} has an unknown field {unknown[0]!r}; it takes: {', '.join(sorted(known))}")
    try:
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        if "edit" in values:
            values["edit"] = edit_of(values["edit"])
        return Hypothesis(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path} is no hypothesis: {error}") from error


def check_family(family: Mapping[str, Hypothesis]) -> None:
    """Raises UsageError unless hypotheses, by file name, can be tested together: at most MAX_FAMILY, with
    the SHARED fields in common, edits that differ in their directions and the signs of their values only, and
    enough nulls that the smallest p-value can pass.
    """
    (first, one), *others = family.items()
    if len(family) > MAX_FAMILY:
        raise UsageError(f"{len(family)} hypotheses in a folder: a family has {MAX_FAMILY} at most")
    for name, other in others:
        for field in SHARED:
            if getattr(one, field) != getattr(other, field):
                raise UsageError(
                    f"{first} and {name} differ in {field}: hypotheses of a folder share fork points and "
                    f"nulls, so give both the same {', '.join(SHARED)}"
                )
        if shared_edit(one.edit) != shared_edit(other.edit):
            raise UsageError(
                f"the edits of {first} and {name} differ in more than their directions and the signs of "
                "their values: put one of them into another folder"
            )
    needed = round(len(family) / ALPHA) - 1
    if one.num_nulls < needed:
        raise UsageError(
            f"num_nulls is {one.num_nulls}, and {len(family)} hypotheses need {needed}: with fewer no "
            f"p-value passes Holm {ALPHA}"
        )


def shared_edit(edit: Edit) -> Edit:
    """The edit on directions 0, 1, ..., with positive values: what the null edits of a family share."""
    one = on_null(edit)
    return replace(one, values=tuple(map(abs, one.values)))


def judge(hypothesis: Hypothesis, effect: Estimate, p: float | None, layouts: int) -> str:
    """One of VERDICTS.

    Confirmed: the interval lies on the predicted side of zero, the effect is as large as the smallest one of
    interest, and p is at most 0.05. Refuted: the interval lies below the smallest effect of interest, in the
    predicted direction.

    Args:
        hypothesis: that is tested.
        effect: on all n fork points.
        p: the larger of those of sign flips and of the KL-matched nulls, adjusted for the family; None where
            no null edit could be matched.
        layouts: that the interval is from.
    """
    if layouts < MIN_LAYOUTS:
        return "too few to say"
    sign = CHANGES[hypothesis.change]
    low, high = sorted((sign * effect.low, sign * effect.high))
    if high < hypothesis.smallest_effect:
        return "refuted"
    passes = p is not None and p <= ALPHA + 1e-9 and sign * effect.value >= hypothesis.smallest_effect
    return "confirmed" if low > 0 and passes else "undecided"
