"""Which paths a check of gradients rejects, and what is said where there is none."""

import json

import pytest

from analysis.rendering.path_trust import SHIPPED_CHECK, PathTrust, path_trust
from common.checkpoints import write_json
from common.runs import UsageError

IDS = {"world_model_file": "w", "agent_file": "a"}


def check_file(path, *greyed: str, **inputs):
    paths = {name: {"greyed": name in greyed} for name in ("agent", "environment", "mixed")}
    write_json(path, {"inputs": IDS | inputs, "paths": paths})
    return path


@pytest.mark.parametrize(
    ("greyed", "rejected"),
    [
        # the check calls the effect of changed actions `agent`; rewards and ends are reached by it alone
        ("agent", ["value@mixed", "reward", "done"]),
        ("mixed", ["value"]),
        ("environment", ["value@environment"]),
    ],
)
def test_a_path_that_fails_the_check_is_rejected_and_no_other(tmp_path, greyed, rejected):
    trust = path_trust(IDS, False, check_file(tmp_path / "check.json", greyed))
    names = ("value", "value@agent", "value@environment", "value@mixed", "reward", "done")
    assert [name for name in names if trust.rejects(name)] == rejected
    assert "fails the check" in trust.words


def test_maps_of_recorded_frames_need_no_check(tmp_path):
    trust = path_trust(IDS, True, check_file(tmp_path / "check.json", "agent", "mixed"))
    assert trust == PathTrust(())
    assert trust.words == ""


def test_the_shipped_check_is_for_the_shipped_simulator_alone():
    shipped = json.loads(SHIPPED_CHECK.read_text())
    found = path_trust(shipped["inputs"], False)
    assert found.rejects("value@mixed") == shipped["paths"]["agent"]["greyed"]
    other = path_trust(shipped["inputs"] | {"world_model_file": "another"}, False)
    assert other.failed is None
    assert "unchecked" in other.words
    assert not other.rejects("value@mixed")


@pytest.mark.parametrize("name", IDS)
def test_a_given_check_of_another_model_or_agent_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="is not a check of these maps' world_model_file w, agent_file a"):
        path_trust(IDS, False, check_file(tmp_path / "check.json", **{name: "other"}))
