"""Presets: any content of the file ends in a configuration or in one line."""

import pytest

import agents.presets
import generative.model.config
from common.runs import UsageError

DEEP = "[" * 50_000
LOAD = {
    agents.presets: lambda name: agents.presets.load_preset(name, 15, (64, 64, 3)),
    generative.model.config: lambda name: generative.model.config.load_preset(name, {"num_actions": 15}, {}),
}


@pytest.mark.parametrize("module", LOAD)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "- small",
        "5",
        "null",
        "small: [1]",
        "small: text",
        "small: 5",
        "small: {num: !!python/object:os.system {}}",
        "!!tag",
        DEEP,
        "{",
        "small: {speed: 1}",
        "other: {}",
    ],
)
def test_what_is_no_file_of_presets_is_one_line(monkeypatch, tmp_path, module, text):
    (tmp_path / "presets.yml").write_text(text)
    monkeypatch.setattr(module, "PRESETS", tmp_path / "presets.yml")
    with pytest.raises(UsageError) as caught:
        LOAD[module]("small")
    assert "\n" not in str(caught.value)
    assert "presets.yml" in str(caught.value) or "unknown preset" in str(caught.value)


BAD = (
    "wide",
    "[]",
    "{}",
    "null",
    "-1",
    "0",
    "2.5",
    "true",
    "1000000000",
    "1" + "0" * 40,
    ".nan",
    ".inf",
)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    ("module", "field"),
    [
        (agents.presets, "hidden_size"),
        (agents.presets, "n_envs"),
        (generative.model.config, "units"),
        (generative.model.config, "batch_size"),
    ],
)
def test_a_value_that_cannot_be_names_the_field(monkeypatch, tmp_path, module, field, value):
    (tmp_path / "presets.yml").write_text(f"small: {{{field}: {value}}}\n")
    monkeypatch.setattr(module, "PRESETS", tmp_path / "presets.yml")
    with pytest.raises(UsageError, match=f"preset 'small'.*{field} is") as caught:
        LOAD[module]("small")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("module", LOAD)
def test_an_alias_inside_what_it_names_is_refused(monkeypatch, tmp_path, module):
    (tmp_path / "presets.yml").write_text("small: {units: &a [*a]}\n")
    monkeypatch.setattr(module, "PRESETS", tmp_path / "presets.yml")
    with pytest.raises(
        UsageError, match="presets.yml is damaged .an alias stands inside what it names"
    ) as caught:
        LOAD[module]("small")
    assert "\n" not in str(caught.value)


def test_more_memory_than_the_machine_has_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(agents.presets, "PRESETS", tmp_path / "presets.yml")
    for values, message in (
        ("hidden_size: 65536, feature_size: 65536", "the sizes ask for more than"),
        ("n_envs: 65536, n_steps: 65536", "49,152 GiB"),
    ):
        (tmp_path / "presets.yml").write_text(f"small: {{{values}}}\n")
        with pytest.raises(UsageError, match=message):
            LOAD[agents.presets]("small")


def test_an_empty_preset_is_the_defaults(monkeypatch, tmp_path):
    (tmp_path / "presets.yml").write_text("_base: &base {units: 8}\nsmall:\n")
    for module, load in LOAD.items():
        monkeypatch.setattr(module, "PRESETS", tmp_path / "presets.yml")
        assert load("small")
        with pytest.raises(UsageError, match="unknown preset '_base'; choose one of: small"):
            load("_base")
