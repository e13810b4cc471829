"""Every flag of analysis.concept_directions changes the directions that it writes."""

import numpy as np
import pytest
import torch

from analysis import concept_directions
from common.cli import parse
from common.errors import UsageError
from common.runs import file_id
from interpret.directions.directions import load_directions

CONCEPTS = ("first", "second")


@pytest.fixture
def fit(world, tmp_path, monkeypatch):
    """The script, on a store whose concepts are units of its state, and one is undefined."""

    def planted(rollouts, out_dir):
        states = rollouts.hidden_after()
        named = {"first": states[:, 0], "second": states[:, 1] > np.median(states[:, 1])}
        third = states[:, 3 if out_dir.name == "other" else 2]
        return named | {"third": third, "late": np.full(len(states), np.nan)}

    monkeypatch.setattr(concept_directions, "load_concepts", planted)

    def main(words="", concepts=CONCEPTS, file=tmp_path / "d.safetensors"):
        common = f"--data_dir {world.store.path} --out_file {file} --components 3 "
        common += f"--concepts {' '.join(concepts)} "
        concept_directions.main(parse(concept_directions.Args, "", (common + words).split()))
        return load_directions(file)

    return main


def test_concepts_and_components_are_those_asked_for(fit, world):
    found = fit()
    assert found.names == (*CONCEPTS, "pc_0", "pc_1", "pc_2")
    assert found.provenance["store"] == world.store.id
    assert found.provenance["agent"] == file_id(world.agent_file)
    assert fit(concepts=("second",)).names == ("second", "pc_0", "pc_1", "pc_2")
    assert fit("--components 1").names == (*CONCEPTS, "pc_0")


def test_the_seed_changes_the_split_that_probes_are_scored_on(fit):
    found, same, other = fit(), fit(), fit("--seed 1")
    assert found.id == same.id != other.id
    assert found.provenance["held_out"] != other.provenance["held_out"]


def test_concepts_are_read_from_the_directory_asked_for(fit, tmp_path):
    one, other = fit(concepts=("third",)), fit(f"--out_dir {tmp_path / 'other'}", concepts=("third",))
    assert one.write[:, 0].abs().argmax() != other.write[:, 0].abs().argmax()


def test_the_file_is_written_where_asked(fit, tmp_path):
    torch.testing.assert_close(fit(file=tmp_path / "e.safetensors").write, fit().write)
    assert (tmp_path / "e.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "message"), [("z", "no concept 'z'"), ("late", "has no value at some steps")]
)
def test_concepts_that_cannot_be_fit_are_refused(fit, name, message):
    with pytest.raises(UsageError, match=message):
        fit(concepts=(name,))
