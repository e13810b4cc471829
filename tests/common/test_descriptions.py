"""Every JSON file that a script reads, whatever its content, ends in a result or in one line that names the
file.
"""

import pytest

from analysis.io.steps import cached_json, find_step, read_numbers
from analysis.model_eval.report_card_page import build_page
from analysis.plot_loss_over_time import draw
from analysis.probing.store_concepts import GROUP, load_concepts
from analysis.training_curves.curves import load_run
from common.descriptions import check_entries, fits, look_up, read_yaml
from common.errors import UsageError
from common.runs import Run, read_config
from rollouts.scene_bank import SceneBank
from tests.helpers.made_store import make_store


def concepts(path):
    store = make_store(path / "store", [3])
    (path / GROUP / "made").mkdir(parents=True)
    (path / "done.json").rename(path / GROUP / "made" / "done.json")
    return load_concepts(store, path)


def training_run(path):
    (path / "log.csv").write_text("timesteps,mean_episode_rewards\n1,2\n")
    return load_run(path)


READERS = {
    "config.json": read_config,
    "numbers.json": read_numbers,
    "report.json": build_page,
    "loss_over_time.json": lambda path: draw(path / "loss_over_time.json"),
    "scenes.json": SceneBank.open,
    "part.json": lambda path: cached_json(Run(path, True), "part", dict),
    "done.json": concepts,
}
TEXTS = [
    "",
    "null",
    "[]",
    "5",
    '"x"',
    "{",
    "[" * 200_000,
    '{"held_out": ' + "[" * 200_000,
    "1" * 5000,
    "\x00",
    '{"held_out": 5}',
]
VALID = {
    "part.json": ("null", "[]", "5", '"x"'),
    "config.json": ('{"held_out": 5}',),
    "numbers.json": ('{"held_out": 5}',),
}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_says_anything_is_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    if text in VALID.get(name, ()) or (name == "part.json" and text.startswith('{"held_out": 5')):
        return
    with pytest.raises(UsageError) as caught:
        READERS[name](tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["null", "[]", "{", "[" * 200_000, '{"env": 5}', '{"args": null}'])
def test_a_runs_configuration_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match="config.json is damaged.*remove it to draw the run without it"):
        training_run(tmp_path)


@pytest.mark.parametrize("text", ["null", "[]", "5", "[" * 200_000])
def test_a_step_whose_configuration_is_none_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "done.json").write_text("{}")
    with pytest.raises(UsageError, match="config.json is damaged"):
        find_step(tmp_path, "hidden", 1, "command", tmp_path)


def test_kinds():
    right = [
        (1, int),
        (1, float),
        (1.5, float),
        ("a", str),
        (True, bool),
        (None, int | None),
        ([1, 2], list[int]),
        ((1, 2), tuple[int, int]),
        ({"a": 1.0}, dict[str, float]),
        ({}, dict),
    ]
    wrong = [
        (True, int),
        (1.5, int),
        ("1", int),
        (float("nan"), float),
        (float("inf"), float),
        (None, int),
        ([1, "a"], list[int]),
        ((1,), tuple[int, int]),
        ({1: 1.0}, dict[str, float]),
        ([], dict),
    ]
    assert all(fits(value, kind) for value, kind in right)
    assert not any(fits(value, kind) for value, kind in wrong)


def test_an_entry_is_named_where_it_is_missing_or_of_another_kind():
    with pytest.raises(UsageError, match="^x.json is damaged: its description lacks a.b; take another file$"):
        look_up({"a": {}}, "a.b", int, "x.json")
    with pytest.raises(UsageError, match="^x.json is damaged: its a.b is 'c'; expected a whole number$"):
        look_up({"a": {"b": "c"}}, "a.b", int, "x.json")
    check_entries({"a": 1}, {"a": int, "b": str}, "x.json")


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else '1'}]\n" for i in range(9)),
        "a: &a [*a]\n",
        "a: &a {b: [*a]}\n",
    ],
)
def test_aliases_that_multiply_or_contain_themselves_are_refused(tmp_path, text):
    (tmp_path / "x.yml").write_text(text)
    with pytest.raises(UsageError, match=r"x.yml is damaged .*alias"):
        read_yaml(tmp_path / "x.yml", "fix it")


def test_aliases_in_moderation_are_read(tmp_path):
    (tmp_path / "x.yml").write_text("a: &a {b: 1}\nc: {<<: *a, d: [*a, *a]}\n")
    assert read_yaml(tmp_path / "x.yml", "fix it")["c"] == {"b": 1, "d": [{"b": 1}, {"b": 1}]}
