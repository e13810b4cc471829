"""The analyses of the demo: their scripts accept every command, and each planned size changes one of them."""

import dataclasses
from pathlib import Path

import pytest

from analysis.demo_report import commands
from analysis.demo_report.commands import Demo
from analysis.demo_report.plan import Sizes
from tests.project.test_documented_commands import check

ANALYSED = (
    "saliency_samples",
    "saliency_states",
    "target_iterations",
    "gradient_states",
    "num_hazards",
    "pushed_forks",
    "dt_episodes",
)


def analyses(monkeypatch, env_name: str = "coinrun", sizes: Sizes = Sizes()) -> list[list[str]]:
    """The words of the commands of the demo's analyses."""
    ran = []
    monkeypatch.setattr(commands, "write_json", lambda path, values: None)
    monkeypatch.setattr(commands, "run", lambda *words: ran.append([str(word) for word in words]))
    files = (Path(name) for name in ("agent", "model", "recording", "simulation"))
    commands.analyse(Demo(env_name, Path("out"), sizes), *files)
    return ran


def test_every_command_is_accepted(monkeypatch):
    for words in analyses(monkeypatch):
        check(words)


@pytest.mark.parametrize("name", ANALYSED)
def test_a_size_changes_one_command(monkeypatch, name):
    sizes = dataclasses.replace(Sizes(), **{name: 97})
    usual, other = analyses(monkeypatch), analyses(monkeypatch, sizes=sizes)
    changed = [two for one, two in zip(usual, other, strict=True) if one != two]
    assert len(changed) == 1
    assert "97" in changed[0]


def test_the_panel_follows_the_maps_that_it_shows(monkeypatch):
    scripts = [" ".join(words[:2]) for words in analyses(monkeypatch)]
    assert scripts.index("-m analysis.saliency_panel") == 1 + [line.split()[0] for line in scripts].index(
        "saliency_exps.py"
    )


def test_objects_are_deleted_in_coinrun_only(monkeypatch):
    needs = {"analysis.saliency_truth_precompute", "analysis.real_check", "analysis.interventions_clips"}
    needs |= {"evaluate_dt.py"}
    assert needs <= {word for words in analyses(monkeypatch) for word in words}
    assert not needs & {word for words in analyses(monkeypatch, "jumper") for word in words}
