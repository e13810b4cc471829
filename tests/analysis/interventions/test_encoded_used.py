"""Encoded against used: planted directions fall into the quadrant that they belong to."""

import json

import numpy as np
import pytest
import torch

from analysis import concepts_precompute, encoded_used_plotting, encoded_used_precompute, scene_bank
from analysis.encoded_used_precompute import rows_of, summarize_quadrants
from analysis.interventions import scene_effects
from analysis.interventions.scene_effects import SceneExperiment, null_pushes, pushed, scene_points
from analysis.io.shared_args import PlotArgs
from common.checkpoints import load_checkpoint
from common.cli import parse
from common.runs import UsageError
from interpret.forks.worlds import RealWorld
from interpret.interventions.intervened import Intervened
from interpret.interventions.nulls import StateSample, kl_measure
from rollouts.scene_bank import WITH, SceneBank
from tests.helpers.ledge_world import BUTTON, PIT, LedgeAgent, LedgeEnv, planted, points_of

pytestmark = pytest.mark.usefixtures("float32")
KL = 0.05
NAMES = ("walk", "up", "walk-b", "up-b")
FEW = 3


@pytest.fixture(scope="module")
def ledge():
    """The planted game, the agent's states in it, and its directions."""
    agent = LedgeAgent()
    points = points_of(300)
    env = LedgeEnv(64)
    experiment = SceneExperiment(lambda policy: RealWorld(env, policy), agent, points, NAMES, 8, 0, 64)
    control = experiment.play(agent, states=True)
    sample = StateSample(*(torch.from_numpy(control[name]) for name in ("before", "after")))
    return experiment, control["outcomes"], sample, planted(agent)


def changes(ledge, signs) -> np.ndarray:
    """Mean change [K, 4] of the outcomes under the push of each planted direction."""
    experiment, control, sample, directions = ledge
    pushes = pushed(directions, signs, experiment.agent, sample, KL)
    played = scene_effects.play_pushes(experiment, pushes[:2], None, "test")
    return (played["outcomes"] - control).mean(2)


def test_pushing_the_used_direction_acts_and_the_unused_one_does_not(ledge):
    death, _, jump, _ = changes(ledge, [1.0] * 6).T
    assert death[PIT] < -0.1
    assert jump[PIT] > 0.1
    assert abs(death[BUTTON]) < 0.07


def test_the_sign_of_a_push_is_its_own(ledge):
    signs = [-1.0] + [1.0] * 5
    assert changes(ledge, signs)[PIT, 0] > 0.3


def test_a_mutant_that_pushes_the_next_direction_is_caught(ledge, monkeypatch):
    edit = scene_effects.Edit
    monkeypatch.setattr(
        scene_effects, "Edit", lambda kind, one, **values: edit(kind, ((one[0] + 1) % 6,), **values)
    )
    assert abs(changes(ledge, [1.0] * 6)[PIT, 0]) < 0.07


def test_all_pushes_move_the_policy_as_far(ledge):
    experiment, _, sample, directions = ledge
    measure = kl_measure(experiment.agent, sample)
    pushes = pushed(directions, [1.0] * 6, experiment.agent, sample, KL)[:2]
    pushes += null_pushes(directions, experiment.agent, sample, KL, 5, 0)
    for interventions, is_matched in pushes:
        (edit,) = interventions.edits
        assert is_matched
        assert measure(edit, interventions.sets[edit.direction_set]) == pytest.approx(KL, rel=1e-3)


def test_states_are_those_after_the_observation(ledge):
    experiment, _, sample, _ = ledge
    assert len(sample.before) == len(sample.after)
    pushed_states = experiment.play(
        Intervened(experiment.agent, pushed(ledge[3], [1.0] * 6, experiment.agent, sample, KL)[0][0]), True
    )
    assert len(pushed_states["after"]) > 0


def planted_rows() -> list[dict]:
    """Two directions, of which the first responds and the second acts, and a third that does both."""
    rng = np.random.default_rng(0)
    move = np.array([1.0, 0.0, -1.0]) + 0.01 * rng.normal(size=(101, 3))
    lead = np.abs(move) - 0.3
    rival = {"rival": np.zeros(3, int), "n": np.array(50), "smallest": np.array(0.1)}
    moved = {"saw_ahead/move": move, "saw_ahead/lead": lead} | {f"saw_ahead/{k}": v for k, v in rival.items()}
    control = np.full((4, 60), 0.2)
    tested = np.stack([control, control + 0.3, control - 0.15]) + 0.02 * rng.normal(size=(3, 4, 60))
    null = control + 0.02 * rng.normal(size=(39, 4, 60))
    part = {
        "control": control,
        "tested": tested,
        "null": null,
        "beyond": np.zeros(3),
        "layout": np.arange(60),
    }
    return rows_of("saw", moved, part, ["responds", "acts", "both"])


def test_planted_pairs_fall_into_their_quadrants():
    rows = planted_rows()
    assert [row["encoded"] for row in rows] == [True, False, True]
    assert [row["effects"]["death"]["used"] for row in rows] == [False, True, True]
    assert rows[2]["sign"] == -1
    assert rows[2]["response"][0] == pytest.approx(1, abs=0.05)
    assert rows[1]["effects"]["coin"]["effect"][0] == pytest.approx(0.3, abs=0.02)
    counts = summarize_quadrants(rows)["death"]
    assert counts == {"encoded and used": 1, "encoded": 1, "used": 1, "neither": 0, "unlike real states": 0}
    rows[1]["beyond"] = 0.2
    assert summarize_quadrants(rows)["death"]["unlike real states"] == 1


def test_an_effect_as_large_as_that_of_null_directions_is_not_use():
    rng = np.random.default_rng(1)
    rows = planted_rows()
    assert rows[1]["effects"]["death"]["used"]
    wide = rng.normal(size=(39, 1, 1)) + np.zeros((39, 4, 60))
    part = {
        "control": np.zeros((4, 60)), "tested": np.full((1, 4, 60), 0.3), "null": wide,
        "beyond": np.zeros(1), "layout": np.arange(60),
    }  # fmt: skip
    moved = {f"saw_ahead/{name}": np.full((101, 1), 1.0) for name in ("move", "lead")} | {
        "saw_ahead/rival": np.zeros(1, int), "saw_ahead/n": np.array(5), "saw_ahead/smallest": np.array(0.1)
    }  # fmt: skip
    assert not rows_of("saw", moved, part, ["one"])[0]["effects"]["death"]["used"]


@pytest.fixture(scope="module")
def bank(world, tmp_path_factory):
    """Scenes made from the small store."""
    out = tmp_path_factory.mktemp("bank") / "out"
    store = f"--data_dir {world.store.path} --out_dir {out}"
    concepts_precompute.main(parse(concepts_precompute.Args, "", store.split()))
    words = f"{store} --num_scenes 24 --kinds saw coin --distances 2 3 --heights 0 --per_layout 4"
    scene_bank.main(parse(scene_bank.Args, "", words.split()))
    return out / "scene_bank_precomp" / "latest"


def test_scenes_are_forked_with_their_object_and_the_recorded_memory(bank, world):
    made = SceneBank.open(bank)
    kind = made.about["kinds"].index("coin")
    points = scene_points(made, world.store, kind, 100)
    assert (
        len(points)
        == ((made.columns["kind"] == kind) & made.columns["shown"] & made.columns["survives"][:, WITH]).sum()
    )
    for i in range(len(points)):
        hidden = world.store.episode(int(points.episode[i]))["hidden"][points.step[i]]
        np.testing.assert_array_equal(points.hidden[i].numpy(), hidden)
        (row,) = [k for k in range(len(made)) if made.states[k][WITH].data == points.snapshots[i].data]
        np.testing.assert_array_equal(points.frames[0, i], made.frames[row, WITH])


def run(world, directions_file, bank, out, words=""):
    common = f"--agent_file {world.agent_file} --data_dir {world.store.path} --scenes_dir {bank} --steps 3 "
    common += f"--direction_files {directions_file} --num_scenes 4 --num_nulls {FEW} --batch_size 8 "
    common += f"--num_threads 1 --device cpu --out_dir {out} "
    encoded_used_precompute.main(parse(encoded_used_precompute.Args, "", (common + words).split()))
    latest = (out / "encoded_used_precomp" / "latest").resolve()
    return json.loads((latest / "numbers.json").read_text()), out


@pytest.fixture(scope="module", autouse=True)
def small_limits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoded_used_precompute, "MIN_NULLS", FEW)
        patch.setattr(encoded_used_precompute, "LEAST_SCENES", 2)
        yield


@pytest.fixture(scope="module")
def base(world, directions_file, bank, tmp_path_factory):
    return run(world, directions_file, bank, tmp_path_factory.mktemp("pairs") / "out")


def test_every_direction_and_kind_is_a_pair_and_is_drawn(base):
    numbers, out = base
    assert set(numbers["scenes"]) == {"saw", "coin"}
    assert len(numbers["rows"]) == 2 * 6
    assert sum(numbers["quadrants"]["death"].values()) <= len(numbers["rows"])
    encoded_used_plotting.main(parse(PlotArgs, "", ["--out_dir", str(out), "--images", str(out / "images")]))
    assert (out / "images" / "encoded_used.png").stat().st_size > 20_000


def played(out) -> dict[str, torch.Tensor]:
    """Everything that the run played: outcomes of all arms by kind."""
    latest = (out / "encoded_used_precomp" / "latest").resolve()
    parts = {path.stem: load_checkpoint(path)[0] for path in latest.glob("*.safetensors")}
    return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}


@pytest.mark.parametrize("words", ["--kl 2", "--num_scenes 2", "--steps 40", "--num_nulls 5", "--seed 1"])
def test_every_flag_changes_what_is_played(base, world, directions_file, bank, tmp_path, words):
    run(world, directions_file, bank, tmp_path / "out", words)
    one, other = played(base[1]), played(tmp_path / "out")
    assert one.keys() == other.keys()
    assert any(
        one[name].shape != other[name].shape or not torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [("--kl 0", "above 0"), ("--num_nulls 1", "num_nulls"), ("--num_scenes 1", "num_scenes")],
)
def test_impossible_flags_are_refused(world, directions_file, bank, tmp_path, words, message):
    with pytest.raises(UsageError, match=message):
        run(world, directions_file, bank, tmp_path / "out", words)
