"""Hypotheses about an edit: files that are registered before they are tested, and how a test ends."""

from dataclasses import dataclass, fields
from pathlib import Path

from common.descriptions import check_kinds, read_yaml
from common.errors import UsageError
from common.stats import Estimate
from interpret.interventions.edit import Edit, edit_of
from interpret.interventions.effects import NullTest

CHANGES = {"rise": 1, "fall": -1}
EVENTS = ("death", "coin")
SCENES = ("hazard", "any")
VERDICTS = ("confirmed", "refuted", "undecided")


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
    scenes: str
    """hazard or any: the states that are forked, chosen from what precedes the fork."""
    steps: int
    """Horizon of a fork."""
    event: str
    """death or coin, within the horizon."""
    change: str
    """rise or fall."""
    smallest_effect: float
    """Smallest change of the probability that is of interest; 0.03 is 3 points."""
    n: int
    """Fork points, each on another layout."""
    levels: tuple[int, int]
    """First level of the sealed range, and their number."""
    seed: int = 0

    def __post_init__(self):
        check_kinds(self)
        for name, known in (("event", EVENTS), ("change", tuple(CHANGES)), ("scenes", SCENES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of: {', '.join(known)}")
        if not 0 < self.smallest_effect < 1:
            raise ValueError(f"smallest_effect is {self.smallest_effect}; give a number between 0 and 1")
        if min(self.n, self.steps, self.levels[1]) < 1 or self.levels[0] < 0:
            raise ValueError("n, steps and the number of levels must be 1 or more, the first level 0 or more")


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


def judge(hypothesis: Hypothesis, effect: Estimate, null: NullTest | None) -> str:
    """One of VERDICTS.

    Confirmed: the interval lies on the predicted side of zero, the effect is as large as the smallest one of
    interest, and beyond 95% of the KL-matched nulls. Refuted: the interval lies below the smallest effect of
    interest, in the predicted direction. null: None where no null edit could be matched.
    """
    sign = CHANGES[hypothesis.change]
    low, high = sorted((sign * effect.low, sign * effect.high))
    if high < hypothesis.smallest_effect:
        return "refuted"
    beyond = (
        null is not None and null.holds(effect.value) and sign * effect.value >= hypothesis.smallest_effect
    )
    return "confirmed" if low > 0 and beyond else "undecided"
