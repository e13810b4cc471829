"""Hypotheses: what a file must hold, and verdicts by the interval, the smallest effect and the nulls."""

import numpy as np
import pytest
import yaml

from common.errors import UsageError
from common.stats import Estimate
from interpret.interventions.edit import Edit
from interpret.interventions.effects import holm
from interpret.interventions.hypothesis import Hypothesis, check_family, judge, read_hypothesis

WHOLE = {
    "sentence": "Without direction 1 the agent dies more",
    "agent": "a",
    "directions": "d",
    "edit": {"kind": "collapse", "directions": [1], "mode": "state"},
    "kl": 0.02,
    "scenes": "hazard",
    "steps": 24,
    "event": "death",
    "change": "rise",
    "smallest_effect": 0.05,
    "n": 2000,
    "null_points": 100,
    "num_nulls": 99,
    "levels": [500_000, 100_000],
}


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
        (dict(event="score"), "event is 'score'"),
        (dict(change="up"), "change is 'up'"),
        (dict(scenes="all"), "scenes is 'all'"),
        (dict(smallest_effect=0.0), "smallest_effect is 0.0"),
        (dict(smallest_effect="much"), "smallest_effect is 'much'"),
        (dict(n=0), "must be 1 or more"),
        (dict(kl=0.0), "kl must be above 0"),
        (dict(null_points=2001), "null_points from 1 to n"),
        (dict(test="t test"), "test is 't test'"),
        (dict(exclusions="short episodes"), "exclusions is 'short episodes'"),
        (dict(edit={"kind": "collapse", "directions": [1], "strength": 2.0}), "leave its strength out"),
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
    ("effect", "p", "layouts", "verdict"),
    [
        (Estimate(0.2, 0.1, 0.3), 0.05, 500, "confirmed"),
        (Estimate(0.2, 0.1, 0.3), 0.051, 500, "undecided"),
        (Estimate(0.2, -0.01, 0.3), 0.01, 500, "undecided"),
        (Estimate(0.04, 0.01, 0.08), 0.01, 500, "undecided"),
        (Estimate(0.2, 0.1, 0.3), None, 500, "undecided"),
        (Estimate(0.01, -0.02, 0.04), 0.01, 500, "refuted"),
        (Estimate(-0.2, -0.3, -0.1), 0.01, 500, "refuted"),
        (Estimate(0.0, 0.0, 0.0), 0.01, 6, "too few to say"),
        (Estimate(0.2, 0.1, 0.3), 0.01, 29, "too few to say"),
    ],
)
def test_verdicts_of_a_predicted_rise_and_the_mirrored_ones_of_a_fall(effect, p, layouts, verdict):
    assert judge(hypothesis(), effect, p, layouts) == verdict
    mirrored = Estimate(-effect.value, -effect.high, -effect.low)
    assert judge(hypothesis(change="fall"), mirrored, p, layouts) == verdict


def test_holm_rejects_what_its_definition_rejects():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.choice([0.001, 0.01, 0.012, 0.02, 0.04, 0.06, 0.5], 5)
        rejected, left = set(), 5
        for i in np.argsort(p, kind="stable"):
            if p[i] > 0.05 / left:
                break
            rejected.add(int(i))
            left -= 1
        assert set(np.flatnonzero(holm(p) <= 0.05 + 1e-12).tolist()) == rejected


def test_five_hypotheses_can_pass_with_99_nulls_and_six_cannot():
    five = {f"{i}.yaml": hypothesis(edit=Edit("collapse", (i,), mode="state")) for i in range(5)}
    check_family(five)
    assert holm([1 / 100] * 5).max() <= 0.05 + 1e-12
    with pytest.raises(UsageError, match="6 hypotheses need 119"):
        check_family(five | {"5.yaml": hypothesis(edit=Edit("collapse", (9,), mode="state"))})


def test_edits_of_a_family_may_differ_in_sign():
    up, down = (
        hypothesis(edit=Edit("add", (i,), values=(sign,), mode="state")) for i, sign in enumerate((1.0, -1.0))
    )
    check_family({"a.yaml": up, "b.yaml": down})
    other = hypothesis(edit=Edit("add", (1,), values=(2.0,), mode="state"))
    with pytest.raises(UsageError, match="the signs of their values"):
        check_family({"a.yaml": up, "b.yaml": other})
