"""Registered hypotheses: only committed, unaltered files are tested, and each direction once."""

import json
import subprocess

import pytest
import yaml

import confirm
from analysis.interventions.registry import OPENED
from common.cli import parse
from common.runs import UsageError, file_id
from interpret.directions.directions import load_directions

pytestmark = pytest.mark.usefixtures("float32")
FEW = 3


@pytest.fixture(autouse=True)
def few_nulls(monkeypatch):
    monkeypatch.setattr(confirm, "MIN_NULLS", FEW)


@pytest.fixture
def repository(tmp_path):
    for words in (["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "a"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def write(repository, world, directions_file, name="h.yaml", commit=True, **changed):
    fields = {
        "sentence": "it dies more",
        "agent": file_id(world.agent_file),
        "directions": load_directions(directions_file).id,
        "edit": {"kind": "collapse", "directions": [0], "mode": "state"},
        "scenes": "any",
        "steps": 5,
        "event": "death",
        "change": "rise",
        "smallest_effect": 0.5,
        "n": 6,
        "levels": [10_000, 5000],
    }
    (repository / name).write_text(yaml.safe_dump(fields | changed))
    if commit:
        subprocess.run(["git", "add", name], cwd=repository, check=True)
        subprocess.run(["git", "commit", "-qm", "register"], cwd=repository, check=True)
    return repository / name


def test_a_registered_hypothesis_is_tested_and_its_opening_logged(repository, world, directions_file):
    path = write(repository, world, directions_file)
    run(path, world)
    found = json.loads((repository / "out/confirm_precomp/latest/numbers.json").read_text())
    effect = found["worlds"]["real"]["strengths"][0]["effects"]["death"]
    assert found["verdicts"]["real"] == ("refuted" if effect[2] < 0.5 else "undecided")
    assert found["fork_points"] == 6
    (entry,) = [json.loads(line) for line in (repository / OPENED).read_text().splitlines()]
    assert entry["directions"] == [f"{load_directions(directions_file).id}/0"]
    assert entry["id"] == file_id(path)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True)
    assert entry["commit"] == found["commit"] == commit.stdout.strip()
    run(path, world)  # the same one again
    assert len((repository / OPENED).read_text().splitlines()) == 1
    other = write(repository, world, directions_file, "other.yaml", change="fall")
    with pytest.raises(UsageError, match=r"h.yaml has opened the sealed levels"):
        run(other, world)


def run(path, world):
    store = world.store.path
    words = f"{path} --agent_file {world.agent_file} --data_dir {store} --num_nulls {FEW} --num_threads 1 "
    words += f"--direction_files {store.parent / 'directions.safetensors'} --out_dir {path.parent / 'out'} "
    confirm.main(parse(confirm.Args, "", (words + "--device cpu --batch_size 6").split()))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(commit=False), "not registered"),
        (dict(agent="other"), "is about agent other"),
        (dict(directions="0123"), "none of --direction_files"),
        (dict(levels=[20_000, 100]), "record them with record.py --start_level 20000"),
        (dict(n=4000), "4000 are needed"),
    ],
    ids=str,
)
def test_what_cannot_be_confirmed_is_refused(repository, world, directions_file, changed, message):
    path = write(repository, world, directions_file, **changed)
    with pytest.raises(UsageError, match=message):
        run(path, world)
    assert (repository / OPENED).exists() == ("n" in changed)


def test_an_altered_hypothesis_is_refused(repository, world, directions_file):
    path = write(repository, world, directions_file)
    path.write_text(path.read_text().replace("rise", "fall"))
    with pytest.raises(UsageError, match="altered since its commit"):
        run(path, world)
    assert not (repository / OPENED).exists()
