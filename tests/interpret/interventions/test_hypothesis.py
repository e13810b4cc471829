"""Hypotheses: what a file must hold, and verdicts by the interval, the smallest effect and the nulls."""

import pytest
import yaml

from common.errors import UsageError
from common.stats import Estimate
from interpret.interventions.edit import Edit
from interpret.interventions.effects import NullTest
from interpret.interventions.hypothesis import Hypothesis, judge, read_hypothesis

WHOLE = {
    "sentence": "Without direction 1 the agent dies more",
    "agent": "a",
    "directions": "d",
    "edit": {"kind": "collapse", "directions": [1], "mode": "state"},
    "scenes": "hazard",
    "steps": 24,
    "event": "death",
    "change": "rise",
    "smallest_effect": 0.05,
    "n": 2000,
    "levels": [500_000, 100_000],
}
NARROW = NullTest(-0.02, 0.02, 0.01)


def write(tmp_path, **changed):
    path = tmp_path / "h.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (WHOLE | changed).items() if v is not None}))
    return path


def hypothesis(**changed) -> Hypothesis:
    edit = Edit("collapse", (1,), mode="state")
    return Hypothesis(**(WHOLE | {"edit": edit, "levels": (0, 9)} | changed))


def test_a_file_gives_its_hypothesis(tmp_path):
    found = read_hypothesis(write(tmp_path))
    assert found.edit == Edit("collapse", (1,), mode="state")
    assert found.levels == (500_000, 100_000)
    assert found.seed == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(event="jump"), "event is 'jump'"),
        (dict(change="up"), "change is 'up'"),
        (dict(scenes="all"), "scenes is 'all'"),
        (dict(smallest_effect=0.0), "smallest_effect is 0.0"),
        (dict(smallest_effect="much"), "smallest_effect is 'much'"),
        (dict(n=0), "must be 1 or more"),
        (dict(levels=[1]), "levels is"),
        (dict(edit={"kind": "flip", "directions": [1]}), "no edit 'flip'"),
        (dict(sentence=None), "sentence"),
        (dict(p_value=0.01), "unknown field 'p_value'"),
    ],
    ids=str,
)
def test_an_incomplete_or_impossible_file_is_refused(tmp_path, changed, message):
    with pytest.raises(UsageError, match=message):
        read_hypothesis(write(tmp_path, **changed))


@pytest.mark.parametrize(
    ("effect", "null", "verdict"),
    [
        (Estimate(0.2, 0.1, 0.3), NARROW, "confirmed"),
        (Estimate(0.2, -0.01, 0.3), NARROW, "undecided"),
        (Estimate(0.04, 0.01, 0.08), NARROW, "undecided"),
        (Estimate(0.2, 0.1, 0.3), NullTest(-0.3, 0.3, 0.5), "undecided"),
        (Estimate(0.2, 0.1, 0.3), None, "undecided"),
        (Estimate(0.01, -0.02, 0.04), NARROW, "refuted"),
        (Estimate(-0.2, -0.3, -0.1), NARROW, "refuted"),
    ],
)
def test_verdicts_of_a_predicted_rise_and_the_mirrored_ones_of_a_fall(effect, null, verdict):
    assert judge(hypothesis(), effect, null) == verdict
    mirrored = Estimate(-effect.value, -effect.high, -effect.low)
    assert judge(hypothesis(change="fall"), mirrored, null and NullTest(-null.high, -null.low, 0)) == verdict
