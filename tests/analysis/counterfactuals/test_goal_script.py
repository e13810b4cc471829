"""The script of goal misgeneralisation: every flag has its effect, figures are drawn from the numbers, and
bad input is named.
"""

from dataclasses import replace

import pytest
import torch

from agents.actor_critic import load_agent, save_agent
from analysis import goal_misgeneralisation_plotting
from analysis import goal_misgeneralisation_precompute as goals
from analysis.io.shared_args import PlotArgs
from analysis.io.steps import read_part
from common.runs import UsageError
from tests.analysis.counterfactuals.runs import latest, run_step

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def goal_args(world, tmp_path_factory):
    return goals.Args(
        (world.agent_file,), ("a",), num_levels=3, steps=12, wait=2, num_paths=2, num_envs=4, device="cpu",
        out_dir=tmp_path_factory.mktemp("goals"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def goal_numbers(goal_args):
    return run_step(goals, goal_args, "goal_misgeneralisation")


GOAL_FLAGS = {
    "names": ("b",),
    "start_level": 400,
    "num_levels": 4,
    "min_length": 25,
    "steps": 5,
    "seed": 1,
}


@pytest.mark.parametrize("flag", GOAL_FLAGS)
def test_flags_of_goal_misgeneralisation(goal_args, goal_numbers, flag):
    asked = replace(goal_args, **{flag: GOAL_FLAGS[flag]})
    if flag in (
        "steps",
        "seed",
    ):  # outcomes of an untrained agent hardly depend on them; lengths and cells do
        goals.main(goal_args)
        before = latest(goal_args.out_dir, "goal_misgeneralisation")
        goals.main(asked)
        after = latest(goal_args.out_dir, "goal_misgeneralisation")
        part, name = ("runs_0", "end.length") if flag == "steps" else ("levels", "moved.cell")
        assert read_part(before, part)[name].tolist() != read_part(after, part)[name].tolist()
    else:
        assert run_step(goals, asked, "goal_misgeneralisation") != goal_numbers


def test_the_wait_at_the_wall_is_passed_on_and_paths_are_kept(goal_args, goal_numbers, monkeypatch):
    limits = []
    play = goals.play_coin_levels
    monkeypatch.setattr(goals, "play_coin_levels", lambda *given: limits.append(given[4]) or play(*given))
    goals.main(replace(goal_args, wait=7, num_paths=1))
    assert {(one.steps, one.wait) for one in limits} == {(12, 7)}
    assert len(read_part(latest(goal_args.out_dir, "goal_misgeneralisation"), "levels")["grid"]) == 1
    assert goal_numbers["levels"] == 3


def test_a_second_agent_is_compared_and_all_is_drawn(world, goal_args, tmp_path):
    agent, meta = load_agent(world.agent_file)
    with torch.no_grad():
        agent.policy_head.bias.zero_()
    other = tmp_path / "other.safetensors"
    save_agent(other, agent, meta | {"timesteps": 5})
    asked = replace(goal_args, agent_files=(world.agent_file, other), names=("a", "b"), out_dir=tmp_path)
    found = run_step(goals, asked, "goal_misgeneralisation")
    assert list(found["agents"]) == ["a", "b"]
    assert found["agents"]["b"]["trained_for"] == 5
    assert set(found["last_less"]) == {"a"}
    goal_misgeneralisation_plotting.main(
        PlotArgs(out_dir=tmp_path, results=tmp_path / "x.json", images=tmp_path)
    )
    for name in ("x.json", "goal_misgeneralisation.png", "goal_paths.png"):
        assert (tmp_path / name).stat().st_size > 500


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(names=("a", "b")), "1 agents have 2 names"),
        (dict(num_levels=1), "--num_levels is 1: give 2 or more"),
        (dict(min_length=70), "only 0 layouts with 70 columns"),
        (dict(agent_files=()), "--agent_files is empty"),
    ],
)
def test_bad_input_of_goal_misgeneralisation(goal_args, changed, message):
    with pytest.raises(UsageError, match=message):
        goals.main(replace(goal_args, **changed))


def test_agents_of_other_games_are_not_compared(world, goal_args, tmp_path):
    agent, meta = load_agent(world.agent_file)
    other = tmp_path / "hard.safetensors"
    save_agent(other, agent, {"env": meta["env"] | {"distribution_mode": "hard"}})
    asked = replace(goal_args, agent_files=(world.agent_file, other), names=("a", "b"))
    with pytest.raises(UsageError, match="another game than"):
        goals.main(asked)
