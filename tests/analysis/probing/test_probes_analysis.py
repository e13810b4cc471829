"""Probes, tuning and emergence on a small world: every number from artefacts, nothing done twice, every flag
felt, and clear errors.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from agents.actor_critic import load_agent, save_agent
from analysis import (
    emergence_plotting,
    emergence_precompute,
    probes_plotting,
    probes_precompute,
    tuning_plotting,
    tuning_precompute,
)
from analysis.io.shared_args import PlotArgs
from analysis.io.steps import read_numbers, read_part
from analysis.probing import frame_baseline
from analysis.probing.dataset import (
    FOLDS,
    check_finite,
    encoder_features,
    nuisance_features,
    open_probe_dataset,
    probe_targets,
    reduce_dimension,
)
from analysis.probing.store_concepts import check_store as concepts_check
from analysis.probing.store_concepts import load_concepts
from common.precision import Precision
from common.runs import UsageError, key_of
from interpret.directions.directions import load_directions
from interpret.probing.recurrence import rerun_core, states_before
from rollouts.store import Rollouts
from tests.helpers.probe_world import EPISODES, WIDTH, World, write_world
from tests.helpers.toy_world import SIZE, toy_agent

pytestmark = pytest.mark.usefixtures("float32")

FLOAT32 = Precision("fp32", "fp32")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes_precompute, "check_concepts", lambda store: None)  # the toy world has concepts
        yield write_world(tmp_path_factory.mktemp("probes"))


def probe_args(world: World, **changed) -> probes_precompute.Args:
    asked = dict(
        world_model_file=world.world_model_file,
        sites=("encoder.stages.0",),
        epochs=1,
        out_dir=world.root,
        device="cpu",
    )
    return probes_precompute.Args(world.agent_file, world.store.path, **(asked | changed))


@pytest.fixture(scope="module")
def probed(world):
    probes_precompute.main(probe_args(world))
    return (world.root / "probes_precomp" / "latest").resolve()


def tuning_args(world: World, **changed) -> tuning_precompute.Args:
    asked = dict(data_dir=world.store.path, clips=2, out_dir=world.root, device="cpu")
    return tuning_precompute.Args(world.agent_file, world.scenes, **(asked | changed))


@pytest.fixture(scope="module")
def tuned(world, probed):
    tuning_precompute.main(tuning_args(world))
    return (world.root / "tuning_precomp" / "latest").resolve()


@pytest.fixture(scope="module")
def dataset(world):
    return open_probe_dataset(world.store, EPISODES, 0, world.root)


def test_a_study_divides_layouts_and_knows_its_steps(world, dataset):
    store = world.store
    assert len(dataset.rows) == store.num_steps
    assert np.array_equal(dataset.column("action"), store.steps("action"))
    assert all(len(np.unique(dataset.folds[dataset.groups == g])) == 1 for g in np.unique(dataset.groups))
    assert dataset.folds.max() == FOLDS - 1
    part = open_probe_dataset(store, 140, 0, world.root)
    assert len(part.episodes) == 140
    assert np.array_equal(part.column("obs"), store.steps("obs")[part.rows])
    assert np.array_equal(part.time, store.step_table()[part.rows, 1])
    assert not np.array_equal(open_probe_dataset(store, 140, 1, world.root).episodes, part.episodes)
    concepts = load_concepts(store, world.root)
    truth = probe_targets(concepts)
    ends = [name for name in truth.names if name.startswith("end_")]
    assert np.array_equal(
        truth.truth[:, [truth.names.index(name) for name in ends]].argmax(1), concepts["end"]
    )
    assert dataset.rare["end_time"] == 0
    assert "x" in dataset.targets.names


def test_nuisances_are_the_step_the_place_and_the_last_actions(dataset):
    x = np.arange(len(dataset.rows), dtype=np.float32)
    found = nuisance_features(dataset, x)
    action = dataset.column("action")
    begin = dataset.first_step[dataset.length.argmax()]
    row = begin + 5
    assert found[row, 0] == 5
    assert found[row, 1] == row
    assert found[row, 2:].reshape(4, -1).argmax(1).tolist() == [action[row - back] for back in (1, 2, 3, 4)]
    opening = found[begin : begin + 4, 2:].reshape(4, 4, -1).sum(-1)
    assert np.array_equal(opening, np.tri(4, 4, -1))  # of the actions that this episode has had, no more


def test_the_agent_lives_through_its_recording_again(world, dataset):
    agent = load_agent(world.agent_file)[0]
    features = encoder_features(agent, dataset, ("encoder",), "cpu", lambda n: None)["encoder"]
    again = rerun_core(agent.core, features, dataset.first_step, dataset.length)
    hidden = dataset.column("hidden_after")
    np.testing.assert_allclose(again, hidden, atol=1e-4)
    np.testing.assert_allclose(states_before(hidden, dataset.first_step), dataset.column("hidden"), atol=0)
    shuffled = rerun_core(agent.core, features[::-1].copy(), dataset.first_step, dataset.length)
    assert np.abs(shuffled - hidden).max() > 0.01


def test_wide_states_are_narrowed_and_bad_ones_refused():
    wide = np.random.default_rng(0).normal(size=(500, 400)).astype(np.float32)
    assert reduce_dimension(wide, 0).shape == (500, 384)
    assert reduce_dimension(wide[:, :9], 0).shape == (500, 9)
    wide[7, 3] = np.nan
    with pytest.raises(
        UsageError,
        match="^the hidden states of here holds NaN or infinity at 1 of 500 steps, the first at step 7",
    ):
        check_finite(wide, "the hidden states of here")


def test_every_reader_stands_beside_its_baselines(world, probed):
    found = read_numbers(probed)
    readers = {
        "hidden",
        "frame and memory",
        "encoder",
        "encoder.stages.0",
        "latent",
        "environment state",
        "environment state 8 on",
    }
    assert found["readers"].keys() == readers
    assert found["episodes"] == EPISODES
    entry = found["readers"]["hidden"]["x"]
    assert entry["measure"] == "R2"
    assert entry["baselines"].keys() == set(found["baselines"])
    best = max(one["value"] for one in entry["baselines"].values())
    assert entry["gain"]["value"] == pytest.approx(entry["value"]["value"] - best)
    assert entry["best_baseline"] == "nuisances"
    assert entry["gain"]["value"] < 0
    assert not entry["beyond"]
    assert "encoder" not in found["readers"]["encoder"]["x"]["baselines"]
    assert found["readers"]["latent"]["x"]["value"]["n"] < entry["value"]["n"]
    for name, entry in found["readers"]["hidden"].items():
        assert not entry["decodable"] or entry["value"]["low"] > (
            0.5 if entry["measure"] == "AUROC" else 0
        ), name
    both = found["readers"]["frame and memory"]["vx"]["value"]["value"]
    encoder = found["readers"]["encoder"]["vx"]["value"]["value"]
    assert found["memory"]["vx"]["value"] == pytest.approx(both - encoder)


def test_the_directions_are_those_of_decodable_concepts_with_their_stability(world, probed):
    found = load_directions(probed / "directions.safetensors")
    readers = read_numbers(probed)["readers"]["hidden"]
    assert 1 <= len(found) <= WIDTH // 2
    assert all(readers[name]["decodable"] for name in found.names)
    assert len(found.provenance["stability"]["median"]) == len(found)
    assert found.provenance["store"] == world.store.id


def test_the_same_command_does_nothing_and_flags_are_felt(world, probed, monkeypatch):
    made = []
    monkeypatch.setattr(probes_precompute, "score_reader", lambda *words: made.append(words[1]))
    probes_precompute.main(probe_args(world))
    assert made == []
    (probed / "done.json").unlink()
    probes_precompute.main(probe_args(world))  # its parts are there
    assert made == []
    assert (probed / "done.json").exists()
    changes = {}, {"sites": ()}, {"num_episodes": 50}, {"epochs": 2}, {"seed": 1}
    assert len(
        {key_of(probes_precompute.settings(probe_args(world, **change))) for change in changes}
    ) == len(changes)


def test_training_longer_changes_what_frames_show(dataset, world):
    out = world.root / "frames"
    once, twice = (
        frame_baseline.frame_baseline(dataset, EPISODES, epochs, 0, out, False, FLOAT32) for epochs in (1, 2)
    )
    assert once.shape == dataset.targets.truth.shape
    assert np.isfinite(once).all()
    assert not np.array_equal(once, twice)
    assert np.array_equal(frame_baseline.frame_baseline(dataset, EPISODES, 1, 0, out, False, FLOAT32), once)
    assert not np.array_equal(
        frame_baseline.frame_baseline(dataset, EPISODES, 1, 1, out, False, FLOAT32), once
    )


def test_marks_stand_beside_their_numbers(world, tuned):
    found = read_numbers(tuned)
    scenes = read_part(tuned, "scenes")
    assert len(found["table"]) % len(found["names"]) == 0
    assert scenes["scores"].shape == (found["pairs"], 2, len(found["names"]))
    assert found["pairs_shown"] == scenes["shown"].sum()
    own = {entry["direction"]: entry for entry in found["table"] if entry["direction"] == entry["concept"]}
    readers = read_numbers((world.root / "probes_precomp" / "latest").resolve())["readers"]["hidden"]
    for name, entry in own.items():
        assert entry["value"] == readers[name]["value"]
        assert entry["decodable"]
        assert entry["gain"] == readers[name]["gain"]
    assert all(
        entry["responds"] is None for entry in found["table"] if entry["concept"] in ("x", "vx", "support")
    )
    moved = [entry for entry in found["table"] if entry["responds"] is not None]
    assert moved
    assert all(
        entry["rival"] in found["kinds"] and entry["move"]["n"] <= found["pairs_shown"] for entry in moved
    )
    assert all(entry["lead"]["low"] > 0 for entry in moved if entry["responds"])
    assert read_part(tuned, "clips")["frames"].shape == (len(found["names"]), 3, 2, 4, SIZE, SIZE, 3)


def test_clips_end_in_the_moments_that_they_are_about(world, dataset):
    scores = np.arange(len(dataset.rows), dtype=np.float64)[:, None]
    clips = tuning_precompute.extract_clips(dataset, scores, 2)
    obs = dataset.column("obs")
    assert np.array_equal(clips[0, 0, 0, -1], obs[-1])
    assert np.array_equal(clips[0, 0, 0, 0], obs[-1 - min(9, dataset.time[-1])])
    assert np.array_equal(clips[0, 2, 0, 0], obs[0])  # nothing before an episode begins


def test_pictures_come_from_artefacts_alone(world, tuned, probed, tmp_path, monkeypatch):
    monkeypatch.setattr(Rollouts, "open", None)
    names = read_numbers(tuned)["names"]
    probes_plotting.main(PlotArgs(probed, tmp_path / "r.json", tmp_path / "images", tmp_path))
    one = tuple(names[:1])
    tuning_plotting.main(
        tuning_plotting.Args(tuned, tmp_path / "t.json", tmp_path / "images", tmp_path, rows=one, cards=one)
    )
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "probes.png",
        "probes_readers.png",
        "tuning.png",
        "marks.png",
    }
    assert [path.name for path in (tmp_path / "tuning_plots").rglob("card_*")] == [f"card_{names[0]}.png"]
    assert json.loads((tmp_path / "r.json").read_text())["steps"]
    assert "own" in json.loads((tmp_path / "t.json").read_text())
    with pytest.raises(UsageError, match="no direction 'wings'; these were measured: "):
        tuning_plotting.main(tuning_plotting.Args(tuned, out_dir=tmp_path, rows=("wings",)))


def write_run(path, steps) -> None:
    """Checkpoints of one agent; all but the first are shifted a little."""
    (path / "checkpoints").mkdir(parents=True)
    for step in steps:
        agent = toy_agent()
        agent.core.cell.bias_ih.data += 0.1 * (step > 0)
        save_agent(path / "checkpoints" / f"model_{step}.safetensors", agent, {"env": {"env_name": "toy"}})


def test_checkpoints_are_counted_through_runs_and_tell_when_a_concept_appears(world, probed, tmp_path):
    write_run(tmp_path / "a", (0, 10, 20)), write_run(tmp_path / "b", (0, 5))
    runs = (tmp_path / "a", tmp_path / "b")
    assert list(emergence_precompute.checkpoints_of(runs, 1)) == [0, 10, 20, 25]
    assert list(emergence_precompute.checkpoints_of(runs, 2)) == [0, 20, 25]
    with pytest.raises(UsageError, match="holds no checkpoints"):
        emergence_precompute.checkpoints_of((tmp_path,), 1)
    asked = dict(
        data_dir=world.store.path,
        every=3,
        num_episodes=140,
        frame_episodes=1500,
        epochs=1,
        out_dir=world.root,
        device="cpu",
    )
    emergence_precompute.main(emergence_precompute.Args(runs, world.scenes, **asked))
    directory = (world.root / "emergence_precomp" / "latest").resolve()
    found = read_numbers(directory)
    assert [one["steps"] for one in found["checkpoints"]] == [0, 25]
    assert found["episodes"] == 140
    begun = [entry["learned"]["value"] for entry in found["checkpoints"][0]["concepts"].values()]
    assert set(begun) <= {0, None}
    assert {path.name for path in directory.glob("steps_*")} == {
        "steps_000000000.safetensors",
        "steps_000000025.safetensors",
    }
    emergence_plotting.main(PlotArgs(directory, tmp_path / "e.json", tmp_path, tmp_path))
    assert (tmp_path / "emergence.png").exists()
    assert "appears" in json.loads((tmp_path / "e.json").read_text())


def test_a_concept_appears_where_it_stays():
    def checkpoint(steps, decodable, low, responds):
        return {
            "steps": steps,
            "concepts": {"saw": {"decodable": decodable, "learned": {"low": low}, "responds": responds}},
        }

    history = [
        checkpoint(0, True, 0, False),
        checkpoint(1, True, 0.1, True),
        checkpoint(2, False, 0.1, False),
    ]
    history.append(checkpoint(3, True, 0.2, None))
    assert emergence_precompute.appears(history, "saw") == {"learned": 3, "responds": None}
    history[2] = checkpoint(2, True, 0.1, True)
    history[3] = checkpoint(3, True, 0.2, True)
    assert emergence_precompute.appears(history, "saw") == {"learned": 1, "responds": 1}


def test_mistakes_are_said_in_one_line(world, probed, tmp_path):
    with pytest.raises(UsageError, match="--epochs is 0: give 1 or more"):
        probes_precompute.main(probe_args(world, epochs=0))
    with pytest.raises(
        UsageError, match=r"--num_episodes 8 shows \d+ layouts? of .* need 36: give a larger number"
    ):
        open_probe_dataset(world.store, 8, 0, world.root)
    with pytest.raises(UsageError, match="only coinrun has"):
        open_probe_dataset(world.store, EPISODES, 0, tmp_path)
    other = toy_agent()
    other.core.cell.bias_ih.data += 1
    save_agent(tmp_path / "other.safetensors", other, {"env": {"env_name": "toy"}})
    with pytest.raises(UsageError, match="was recorded by another agent"):
        probes_precompute.main(replace(probe_args(world), agent_file=tmp_path / "other.safetensors"))
    with pytest.raises(UsageError, match="no finished artefacts at .*probes_precompute"):
        tuning_precompute.main(tuning_args(world, out_dir=tmp_path))
    with pytest.raises(UsageError, match="--clips is 0"):
        tuning_precompute.main(tuning_args(world, clips=0))
    with pytest.raises(UsageError, match="no scene bank in"):
        tuning_precompute.open_bank(tmp_path, world.store.id)
    with pytest.raises(UsageError, match="were made from store .*, not elsewhere"):
        tuning_precompute.open_bank(world.scenes, "elsewhere")
    with pytest.raises(UsageError, match="are of store .* and agent .*, not another and one"):
        tuning_precompute.find_probes(tuning_args(world), "another", "one")
    narrow = load_directions(probed / "directions.safetensors").within(range(WIDTH), WIDTH + 1)
    with pytest.raises(UsageError, match="width 9, and hidden states have 8"):
        tuning_precompute.check_directions(narrow, WIDTH, tmp_path)
    with pytest.raises(UsageError, match="none of the scenes is from an episode that is shown"):
        emergence_precompute.within(tuning_precompute.open_bank(world.scenes, world.store.id), np.array([-1]))


def test_what_cannot_be_had_is_refused_before_work_begins(world, probed, tmp_path):
    for name in ("concepts_precomp", "scene_bank_precomp"):
        if (world.root / name).exists():
            (tmp_path / name).symlink_to(world.root / name)
    there = sorted(tmp_path.iterdir())

    def refused(main, args, message):
        with pytest.raises(UsageError, match=message):
            main(args)
        assert sorted(tmp_path.iterdir()) == there

    refused(
        probes_precompute.main,
        probe_args(world, num_episodes=0, epochs=0, out_dir=tmp_path),
        "--num_episodes is 0: give 1 or more; --epochs is 0",
    )
    refused(
        probes_precompute.main,
        probe_args(world, num_episodes=1, out_dir=tmp_path),
        "--num_episodes 1 shows 1 layout of .* record more",
    )
    refused(
        probes_precompute.main,
        probe_args(world, sites=("core",), out_dir=tmp_path),
        "--sites names core, and the encoder has: encoder",
    )
    write_run(tmp_path / "run", (0,))
    there = sorted(tmp_path.iterdir())
    runs = emergence_precompute.Args(
        (tmp_path / "run",),
        world.scenes,
        world.store.path,
        num_episodes=1,
        frame_episodes=10,
        out_dir=tmp_path,
    )
    refused(emergence_precompute.main, runs, "--num_episodes 1 shows 1 layout of ")
    refused(
        emergence_precompute.main,
        replace(runs, every=0, epochs=0),
        "--every is 0: give 1 or more; --epochs is 0",
    )
    refused(emergence_precompute.main, replace(runs, scenes_dir=tmp_path), "no scene bank")


def test_episodes_beyond_the_store_are_lowered(world, probed):
    assert json.loads((probed / "config.json").read_text())["num_episodes"] == EPISODES


def test_probes_without_directions_stand_and_tuning_says_why(world, probed, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("analysis.probes_precompute.cached_directions", lambda run, name, fit: fit())

    def refuse():
        raise UsageError("no concept can be read")

    assert probes_precompute.try_directions(None, refuse) == "no concept can be read"
    assert "left out: no concept" in caplog.text
    bare = tmp_path / "bare"
    shutil.copytree(probed, bare)
    (bare / "directions.safetensors").unlink()
    (bare / "numbers.json").write_text(
        json.dumps(read_numbers(probed) | {"no_directions": "no concept can be read"})
    )
    (bare / "checksums.json").unlink()
    with pytest.raises(UsageError, match="left no directions .no concept can be read.: give --directions"):
        tuning_precompute.main(tuning_args(world, probes_dir=bare))


def test_a_game_without_concepts_is_refused(world):
    with pytest.raises(UsageError, match="'toy' has no concepts: only coinrun has"):
        concepts_check(world.store)


def test_stale_probes_are_refused(world, probed, monkeypatch):
    monkeypatch.setattr(tuning_precompute, "CONCEPTS_VERSION", 99)
    with pytest.raises(UsageError, match="stale: concepts have since changed"):
        tuning_precompute.find_probes(tuning_args(world), world.store.id, read_numbers(probed)["agent"])
    monkeypatch.setattr(probes_plotting, "VERSION", 0)
    with pytest.raises(UsageError, match="is stale: it is of version 3"):
        probes_plotting.main(PlotArgs(probed))
