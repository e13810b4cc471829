"""Registered hypotheses: only committed, unaltered files are tested, and each direction once."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

import confirm
from agents.actor_critic import load_agent
from analysis.interventions.recognition import Recognition
from analysis.interventions.registry import OPENED
from common.cli import parse
from common.runs import UsageError, file_id
from interpret.directions.directions import load_directions
from interpret.interventions.arms import NORM_MATCHED
from interpret.interventions.edit import Edit
from interpret.interventions.effects import holm
from interpret.interventions.nulls import StateSample, changed_states, kl_measure, norm_measure
from interpret.interventions.shared_nulls import norm_null_arms, shared_null_arms

pytestmark = pytest.mark.usefixtures("float32")
NULLS = 39


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
        "kl": 0.05,
        "n": 6,
        "null_points": 2,
        "num_nulls": NULLS,
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
    (one,) = found["hypotheses"]
    assert one["worlds"]["real"]["verdict"] == "too few to say"
    assert found["fork_points"] == one["worlds"]["real"]["layouts"] == 6
    assert len(found["worlds"]["real"]["nulls"]["KL-matched"]["effects"]["jump"]) == NULLS
    (entry,) = [json.loads(line) for line in (repository / OPENED).read_text().splitlines()]
    assert entry["directions"] == [f"{load_directions(directions_file).id}/0"]
    assert entry["id"] == file_id(path)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True)
    assert entry["commit"] == one["commit"] == commit.stdout.strip()
    run(path, world)  # the same one again
    assert len((repository / OPENED).read_text().splitlines()) == 1
    path.unlink()
    other = write(repository, world, directions_file, "other.yaml", change="fall")
    with pytest.raises(UsageError, match=r"h.yaml has opened the sealed levels"):
        run(other, world)


def run(path, world, *more):
    store = world.store.path
    words = " ".join(map(str, (path, *more)))
    words += f" --agent_file {world.agent_file} --data_dir {store} --num_threads 1 "
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


def test_a_folder_is_one_family_and_shares_its_nulls(repository, world, directions_file):
    edit = {"kind": "collapse", "directions": [1], "mode": "state"}
    first = write(repository, world, directions_file)
    second = write(repository, world, directions_file, "i.yaml", edit=edit, event="jump")
    with pytest.raises(UsageError, match=r"i.yaml is in the same folder"):
        run(first, world)
    run(first, world, second)
    found = json.loads((repository / "out/confirm_precomp/latest/numbers.json").read_text())
    p = [one["worlds"]["real"]["p"] for one in found["hypotheses"]]
    adjusted = [one["worlds"]["real"]["p_holm"] for one in found["hypotheses"]]
    assert adjusted == pytest.approx(holm(p))
    assert len(found["worlds"]["real"]["nulls"]["fitted"]["effects"]["jump"]) <= 4  # six less the two tested
    assert found["shared"]["null_points"] == 2


def test_null_directions_of_a_family_leave_all_tested_scores_alone(world, directions_file):
    agent, directions = load_agent(world.agent_file)[0], load_directions(directions_file)
    states = torch.tanh(torch.randn(200, directions.width, generator=torch.Generator().manual_seed(0)))
    sample = StateSample(states.roll(1, 0), states)
    edits = [Edit("add", (one,), values=(sign,), mode="state") for one, sign in ((0, 1.0), (2, -1.0))]
    arms = shared_null_arms(edits, directions, agent, sample, 8, 0, 0.05)
    assert {arm.family for arm in arms} == {"KL-matched", "fitted"}
    measure = kl_measure(agent, sample)
    for arm in arms:
        (edit,) = arm.interventions.edits
        own = arm.interventions.sets[edit.direction_set]
        after = changed_states(edit, own, sample)
        if arm.matched:
            assert measure(edit, own) == pytest.approx(0.05, rel=1e-3)
        moved = (directions.scores(after) - directions.scores(states)).abs().amax(0)
        if arm.family == "KL-matched":
            assert moved[[0, 2]].max() < 1e-4
            assert moved[[1, 3, 4, 5]].max() > 1e-3  # the others are not spared
        else:
            assert edit.touched[0] in (1, 3, 4, 5)


@pytest.mark.parametrize("family", NORM_MATCHED)
def test_null_edits_of_equal_norm_move_the_state_as_far_and_no_tested_score(world, directions_file, family):
    directions = load_directions(directions_file)
    states = torch.tanh(torch.randn(400, directions.width, generator=torch.Generator().manual_seed(0)))
    states *= torch.linspace(0.1, 1, directions.width)
    sample = StateSample(states.roll(1, 0), states)
    edits = [Edit("add", (one,), values=(sign,), mode="state") for one, sign in ((0, 1.0), (2, -1.0))]
    measure = norm_measure(sample)
    lengths = []
    for strength in (0.1, 0.3):
        tested = replace(edits[1], strength=strength)
        arms = norm_null_arms(tested, edits, directions, sample, 8, 0)
        assert [arm.family for arm in arms] == [one for one in NORM_MATCHED for _ in range(8)]
        lengths.append(measure(tested, directions))
        for arm in (one for one in arms if one.family == family):
            (edit,) = arm.interventions.edits
            own = arm.interventions.sets[edit.direction_set]
            assert measure(edit, own) == pytest.approx(lengths[-1], rel=1e-3)
            change = directions.scores(changed_states(edit, own, sample)) - directions.scores(states)
            assert change[:, [0, 2]].abs().max() < 1e-4
            assert change[:, [1, 3, 4, 5]].abs().max() > 1e-3
    assert lengths[1] == pytest.approx(3 * lengths[0], rel=1e-3)


def test_null_edits_from_the_covariance_are_the_kl_matched_directions(world, directions_file):
    agent, directions = load_agent(world.agent_file)[0], load_directions(directions_file)
    states = torch.tanh(torch.randn(200, directions.width, generator=torch.Generator().manual_seed(0)))
    sample = StateSample(states.roll(1, 0), states)
    edits = [Edit("add", (0,), values=(1.0,), mode="state", strength=0.2)]
    own = norm_null_arms(edits[0], edits, directions, sample, 4, 0)
    shared = shared_null_arms([replace(edits[0], strength=1.0)], directions, agent, sample, 4, 0, 0.05)

    def columns(arms, family):
        bound = [arm.interventions for arm in arms if arm.family == family]
        return torch.cat([one.sets[one.edits[0].direction_set].write for one in bound], 1)

    torch.testing.assert_close(columns(own, "covariance"), columns(shared, "KL-matched"))
    assert not torch.allclose(columns(own, "equal norm"), columns(own, "covariance"))


def test_the_simulator_is_corrected_for_its_errors_and_nulls_of_equal_norm_decide_nothing(
    repository, world, directions_file
):
    run(write(repository, world, directions_file), world, "--world_model_file", world.world_model_file)
    found = json.loads((repository / "out/confirm_precomp/latest/numbers.json").read_text())
    (one,) = found["hypotheses"]
    real, simulator = one["worlds"]["real"], one["worlds"]["simulator"]
    assert set(real["nulls"]) == {"KL-matched", "fitted", *NORM_MATCHED}
    assert set(simulator["nulls"]) == {"KL-matched", "fitted"}
    assert real["p"] == max(real["p_flips"], real["nulls"]["KL-matched"]["p"])
    assert set(simulator["corrected"]) == set(found["worlds"]["simulator"]["corrected"]) == {"death", "coin"}
    rows = found["worlds"]["simulator"]["recognised"]
    assert sum(row["forks"] for row in rows.values()) == found["fork_points"]
    for row in (one for one in rows.values() if one["forks"]):
        assert sum(row[name][0] for name in rows) == pytest.approx(1)


def test_recognition_reads_the_real_runs_and_corrects_by_their_errors():
    rng = np.random.default_rng(0)
    died = rng.random(400) < 0.4
    actual = np.stack([died, 0 * died, ~died, died, died]).astype(float)
    seen = actual.copy()
    seen[0], seen[2] = 0.5 * died + 0.1 * ~died, 0.5 * died + 0.9 * ~died
    actual[1, :20], actual[2, :20], actual[0, :20] = 1, 0, 0
    seen[1, :20], seen[2, :20], seen[0, :20] = 1, 0, 0
    found = Recognition(actual, seen, np.arange(400))
    assert found.summary()["death"]["death"] == pytest.approx([0.5] * 3)
    assert found.summary()["none"]["death"] == pytest.approx([0.1] * 3)
    change = np.zeros((5, 400))
    change[0], change[2] = -0.04, 0.04
    assert found.corrected(change)["death"] == pytest.approx([-0.1] * 3)  # 0.04 / (0.5 - 0.1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(n=5), "differ in n"),
        (dict(kl=0.2), "differ in kl"),
        (dict(edit={"kind": "collapse", "directions": [1]}), "more than their directions"),
        (dict(num_nulls=20), "differ in num_nulls"),
    ],
    ids=str,
)
def test_hypotheses_that_cannot_share_nulls_are_refused(repository, world, directions_file, changed, message):
    edit = {"kind": "collapse", "directions": [1], "mode": "state"}
    paths = (
        write(repository, world, directions_file),
        write(repository, world, directions_file, "i.yaml", **({"edit": edit} | changed)),
    )
    with pytest.raises(UsageError, match=message):
        run(paths[0], world, paths[1])
    assert not (repository / OPENED).exists()


def test_too_few_nulls_for_holm_are_refused(repository, world, directions_file):
    path = write(repository, world, directions_file, num_nulls=18)
    with pytest.raises(UsageError, match="1 hypotheses need 19"):
        run(path, world)
