"""The experiment with an edit, end to end on real CoinRun: the control arm, flags, resuming, and pictures."""

import json

import numpy as np
import pytest
import torch

from agents.actor_critic import load_agent
from analysis import interventions_plotting, interventions_precompute
from analysis.interventions import run as experiment_run
from analysis.interventions.experiment import Experiment, play_control
from analysis.interventions.run import Settings
from analysis.interventions.summary import prediction, summarize_causes
from common.checkpoints import load_checkpoint
from common.cli import parse
from common.runs import UsageError
from interpret.forks.fork_points import recording_seed
from interpret.forks.paired_outcomes import OUTCOMES
from interpret.forks.worlds import RealWorld
from interpret.interventions import nulls
from interpret.interventions.arms import FAMILIES, JUDGED_BY
from interpret.interventions.effects import EVENTS
from interpret.interventions.intervened import Intervened
from interpret.interventions.interventions import NO_INTERVENTIONS
from rollouts.states import replay_env

pytestmark = pytest.mark.usefixtures("float32")
FEW = 3


@pytest.fixture(autouse=True)
def few_nulls(monkeypatch):
    assert nulls.MIN_NULLS == 99
    monkeypatch.setattr(interventions_precompute, "MIN_NULLS", FEW)


def run(world, directions_file, out, words=""):
    edits = out.parent / "edits.json"
    edits.write_text(
        json.dumps({"edits": [{"kind": "add", "directions": [0], "values": [2.0], "mode": "state"}]})
    )
    common = f"--agent_file {world.agent_file} --data_dir {world.store.path} --scenes any --steps 6 "
    common += f"--num_fork_points 8 --num_nulls {FEW} --edits {edits} --direction_files {directions_file} "
    common += f"--batch_size 8 --strengths 0.5 1 --device cpu --num_threads 1 --out_dir {out} "
    args = parse(interventions_precompute.Args, "", (common + words).split())
    interventions_precompute.main(args)
    latest = out / "interventions_precomp" / "latest"
    return json.loads((latest / "numbers.json").read_text()), latest


@pytest.fixture(scope="module")
def base(world, directions_file, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interventions_precompute, "MIN_NULLS", FEW)
        out = tmp_path_factory.mktemp("real") / "out"
        return *run(world, directions_file, out), out


@pytest.fixture(scope="module")
def made(world, directions_file, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interventions_precompute, "MIN_NULLS", FEW)
        out = tmp_path_factory.mktemp("both") / "out"
        return *run(world, directions_file, out, f"--world_model_file {world.world_model_file}"), out


def test_several_jobs_make_the_step_of_one(world, directions_file, base, tmp_path):
    out = tmp_path / "out"
    for job in (1, 2):
        with pytest.raises(FileNotFoundError):
            run(world, directions_file, out, f"--job {job} 3")
    numbers, latest = run(world, directions_file, out, "--job 0 3")
    assert numbers["worlds"] == base[0]["worlds"]
    for name in (
        "real_control",
        "real_tested",
        *(f"real_{one.replace(' ', '_').replace('-', '_')}" for one in FAMILIES),
    ):
        one, other = (load_checkpoint(path / f"{name}.safetensors")[0] for path in (latest, base[1]))
        assert all(torch.equal(one[key].nan_to_num(7.0), other[key].nan_to_num(7.0)) for key in one)


def test_both_worlds_have_effects_nulls_and_checks(made):
    numbers, _, _ = made
    assert set(numbers["worlds"]) == {"real", "simulator"}
    for found in numbers["worlds"].values():
        assert [one["strength"] for one in found["strengths"]] == [0.5, 1]
        for one in found["strengths"]:
            assert sum(one["effects"][name][0] for name in OUTCOMES) == pytest.approx(0, abs=1e-9)
            assert set(one["effects"]) == set(EVENTS)
            assert len(one["manifold"]["drift"]) == 6
            assert one["manifold"]["drift"][0] > 0
        assert len(found["nulls"]["KL-matched"]["effects"]["death"]) > 0
        assert set(found["verdicts"]) == {"death", "coin"}
    real = numbers["worlds"]["real"]["nulls"]
    assert set(real) == set(FAMILIES)
    assert len(real["equal norm"]["effects"]["death"]) == FEW
    assert real["equal norm"]["matched"] == 1
    assert set(numbers["worlds"]["simulator"]["nulls"]) == set(JUDGED_BY)
    assert numbers["fork_points"] == 8
    assert numbers["asked"]["interventions"]["edits"][0]["kind"] == "add"
    assert {"r", "slope", "arms"} <= set(numbers["prediction"]["death"])
    assert len(numbers["lines"]) == 4


def test_the_control_arm_is_the_agent_and_that_under_no_edit_bit_for_bit(world):
    agent, _ = load_agent(world.agent_file)
    points = experiment_run.choose_points(Settings(scenes="any", num_fork_points=6), world.store, 1)
    env = replay_env(world.store, 6, 1)

    def play(policy):
        world_of = lambda _: RealWorld(env, policy)  # noqa: E731
        names, seed = world.store.manifest["action_names"], recording_seed(world.store)
        return play_control(Experiment(world_of, policy, names, points, 5, seed, 1, 6))

    plain, control = play(agent), play(Intervened(agent, NO_INTERVENTIONS))
    for name, column in plain.items():
        np.testing.assert_array_equal(column, control[name], err_msg=name)
    for i in range(len(points)):
        recorded = world.store.episode(points.episode[i])["action"][points.step[i] :][:5]
        np.testing.assert_array_equal(plain["action"][: len(recorded), i, 0], recorded)
        taken = plain["action"][plain["running"][:, i, 0], i, 0]
        for event, actions in (("jump", (2, 5, 8)), ("left", (0, 1, 2))):
            share = plain["outcomes"][EVENTS.index(event), i]
            assert share == pytest.approx(np.isin(taken, actions).mean())
    env.close()


def test_a_finished_run_is_read_and_an_unfinished_one_goes_on(base, world, directions_file, monkeypatch):
    numbers, latest, out = base
    monkeypatch.setattr(experiment_run, "play_tested", lambda *given: pytest.fail("played again"))
    assert run(world, directions_file, out)[0] == numbers
    (latest / "done.json").unlink()
    (latest / "numbers.json").unlink()
    (latest / "real_fitted.safetensors").unlink()
    assert run(world, directions_file, out)[0] == numbers


@pytest.mark.parametrize(
    "change",
    ["--steps 4", "--num_fork_points 5", "--draws 2", "--strengths 1", "--seed 1", "--part test"],
)
def test_every_flag_changes_the_numbers(world, directions_file, tmp_path, change, base):
    numbers, _ = run(world, directions_file, tmp_path / "out", change)
    assert numbers["worlds"]["real"] != base[0]["worlds"]["real"]


def test_without_a_world_model_the_game_alone_is_played(base, made):
    assert set(base[0]["worlds"]) == {"real"}
    assert "prediction" not in base[0]
    assert set(base[0]["worlds"]["real"]) == set(made[0]["worlds"]["real"])


def test_batches_change_nothing(world, directions_file, tmp_path, base):
    numbers, _ = run(world, directions_file, tmp_path / "out", "--batch_size 5")
    for name, (value, low, high) in numbers["worlds"]["real"]["control"].items():
        assert (value, low, high) == pytest.approx(base[0]["worlds"]["real"]["control"][name])


def test_pictures_are_drawn_from_the_numbers(made, tmp_path):
    _, latest, out = made
    args = interventions_plotting.Args(precomp_dir=latest, out_dir=out, results=tmp_path / "n.json")
    interventions_plotting.main(args)
    assert (out / "interventions_plots" / "interventions.png").stat().st_size > 10_000
    assert (tmp_path / "n.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num_nulls 2", "num_nulls is 2"),
        ("--strengths 0.5 2", "give 1"),
        ("--swap_directions_from 1 --swap_directions_to 2", "tests one edit"),
        ("--steps 0", "steps is 0"),
    ],
)
def test_impossible_flags_are_refused(world, directions_file, tmp_path, words, message):
    with pytest.raises(UsageError, match=message):
        run(world, directions_file, tmp_path / "out", words)


def test_causes_are_compared_arm_by_arm():
    causes = {"control": ["", "saw", "", "lava"], "tested": ["saw", "saw", "", ""]}
    found = summarize_causes(causes, 4, np.arange(4))
    assert found["saw"]["effect"][0] == pytest.approx(0.25)
    assert found["lava"]["effect"][0] == pytest.approx(-0.25)
    assert found["saw"]["control"] == pytest.approx(0.25)
    assert summarize_causes({"control": [""], "tested": [""]}, 1, np.arange(1)) == {}


def test_the_prediction_is_the_regression_of_simulated_on_real_effects():
    rng = np.random.default_rng(0)
    effect = rng.normal(size=12)

    def parts(scale, noise):
        outcomes = np.broadcast_to(scale * effect[:, None, None], (12, 3, 50)) + noise * rng.normal(
            size=(12, 3, 50)
        )
        arms = {"tested": {"outcomes": outcomes[:4]}, "control": {"outcomes": np.zeros((3, 50))}}
        return arms | {
            name: {"outcomes": outcomes[4 + 4 * i : 8 + 4 * i], "matched": np.ones(4, bool)}
            for i, name in enumerate(JUDGED_BY)
        }

    found = prediction(parts(1, 0.05), parts(0.5, 0.05), np.arange(50))
    assert found["death"]["slope"][0] == pytest.approx(0.5, abs=0.03)
    assert found["death"]["r"][0] > 0.95
    assert found["death"]["arms"] == 12
