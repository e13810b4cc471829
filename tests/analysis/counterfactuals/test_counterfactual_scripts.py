"""The scripts of goal misgeneralisation, interchange patching and edited levels: every flag has its effect,
the figures are drawn from the numbers, and bad input is named.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents.actor_critic import load_agent, save_agent
from analysis import edited_levels_plotting, goal_misgeneralisation_plotting, interchange_plotting
from analysis import edited_levels_precompute as edits
from analysis import goal_misgeneralisation_precompute as goals
from analysis import interchange_precompute as interchange
from analysis.io.shared_args import PlotArgs
from analysis.io.steps import read_numbers, read_part
from common.runs import UsageError
from interpret.directions.directions import Directions, save_directions
from tests.helpers.coinrun_store import WIDTH, write_world

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def directions(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("directions") / "axes.safetensors"
    axes = torch.eye(WIDTH)[:3]
    save_directions(path, Directions(axes, torch.zeros(3), axes.T, torch.zeros(WIDTH), ("a", "b", "c")))
    return path


def latest(out_dir: Path, step: str) -> Path:
    return (out_dir / f"{step}_precomp" / "latest").resolve()


def run(module, args, step: str) -> dict:
    module.main(args)
    found = read_numbers(latest(args.out_dir, step))
    return {name: value for name, value in found.items() if name not in ("asked", "inputs")}


@pytest.fixture(scope="module")
def goal_args(world, tmp_path_factory):
    return goals.Args(
        (world.agent_file,), ("a",), num_levels=3, steps=12, wait=2, num_paths=2, num_envs=4, device="cpu",
        out_dir=tmp_path_factory.mktemp("goals"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def goal_numbers(goal_args):
    return run(goals, goal_args, "goal_misgeneralisation")


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
        assert run(goals, asked, "goal_misgeneralisation") != goal_numbers


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
    found = run(goals, asked, "goal_misgeneralisation")
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


@pytest.fixture(scope="module")
def interchange_args(world, directions, tmp_path_factory):
    return interchange.Args(
        world.agent_file, world.store.path, (directions,), num_scenes=3, frames=2, device="cpu",
        out_dir=tmp_path_factory.mktemp("interchange"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def interchange_numbers(interchange_args):
    return run(interchange, interchange_args, "interchange")


INTERCHANGE_FLAGS = {
    "direction_files": (),
    "num_directions": 1,
    "part": "train",
    "num_scenes": 2,
    "frames": 3,
    "seed": 3,
}


@pytest.mark.parametrize("flag", INTERCHANGE_FLAGS)
def test_flags_of_interchange_patching(interchange_args, interchange_numbers, flag):
    asked = replace(interchange_args, **{flag: INTERCHANGE_FLAGS[flag]})
    assert run(interchange, asked, "interchange") != interchange_numbers


def test_only_scenes_with_the_hazard_asked_for_are_taken(interchange_args, monkeypatch):
    seen = []
    search = interchange.ForkPointSampler.search

    def watched(self, find, *given, **named):
        pairs, found = search(self, find, *given, **named)
        seen.append({one.kind for one in found})
        return pairs, found

    monkeypatch.setattr(interchange.ForkPointSampler, "search", watched)
    interchange.main(replace(interchange_args, new=True))
    assert seen == [{"saw"}]
    with pytest.raises(UsageError, match="no lava ahead"):
        interchange.main(replace(interchange_args, hazard="lava"))


def test_interchange_patching_is_drawn(interchange_args, interchange_numbers, tmp_path):
    interchange.main(interchange_args)
    assert interchange_numbers["sites"][:5] == ["state", "encoder", "a", "b", "c"]
    assert interchange_numbers["restored"]["value"]["own"]["state"][-1][0] == pytest.approx(1)
    interchange_plotting.main(PlotArgs(out_dir=interchange_args.out_dir, images=tmp_path))
    assert (tmp_path / "interchange.png").stat().st_size > 500


@pytest.fixture(scope="module")
def edit_args(world, directions, tmp_path_factory):
    return edits.Args(
        world.agent_file, world.store.path, (directions,), ("crate_added",), num_states=4, steps=4, draws=1,
        num_envs=8, device="cpu", out_dir=tmp_path_factory.mktemp("edits"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def edit_numbers(edit_args):
    return run(edits, edit_args, "edited_levels")


EDIT_FLAGS = {
    "direction_files": (),
    "level_edits": ("crate_added", "saw_removed"),
    "part": "train",
    "num_states": 3,
    "steps": 12,
    "draws": 3,
    "seed": 3,
}


@pytest.mark.parametrize("flag", EDIT_FLAGS)
def test_flags_of_edited_levels(edit_args, edit_numbers, flag):
    assert run(edits, replace(edit_args, **{flag: EDIT_FLAGS[flag]}), "edited_levels") != edit_numbers


def test_edited_levels_are_drawn(edit_args, edit_numbers, tmp_path):
    edits.main(edit_args)
    assert edit_numbers["edits"]["crate_added"]["pixels"]["edit"] > 0
    edited_levels_plotting.main(PlotArgs(out_dir=edit_args.out_dir, images=tmp_path))
    assert (tmp_path / "edited_levels.png").stat().st_size > 500


@pytest.mark.parametrize(
    ("module", "changed", "message"),
    [
        ("edits", dict(level_edits=("wall_added",)), "no edit 'wall_added': choose from saw_removed"),
        ("edits", dict(level_edits=()), "no edit"),
        ("edits", dict(num_states=1), "--num_states is 1"),
        ("interchange", dict(num_scenes=1), "--num_scenes is 1"),
        ("interchange", dict(frames=0), "--frames is 0"),
    ],
)
def test_bad_input_is_named(request, module, changed, message):
    args = request.getfixturevalue({"edits": "edit_args", "interchange": "interchange_args"}[module])
    script = {"edits": edits, "interchange": interchange}[module]
    with pytest.raises(UsageError, match=message):
        script.main(replace(args, **changed))


@pytest.mark.parametrize("module", ["edits", "interchange"])
def test_directions_of_another_width_or_several_files_are_refused(request, directions, tmp_path, module):
    args = request.getfixturevalue({"edits": "edit_args", "interchange": "interchange_args"}[module])
    script = {"edits": edits, "interchange": interchange}[module]
    wide = tmp_path / "wide.safetensors"
    axes = torch.eye(WIDTH + 1)[:2]
    save_directions(wide, Directions(axes, torch.zeros(2), axes.T, torch.zeros(WIDTH + 1), ("a", "b")))
    with pytest.raises(UsageError, match=f"width {WIDTH + 1}"):
        script.main(replace(args, direction_files=(wide,)))
    with pytest.raises(UsageError, match="takes one file here, not 2"):
        script.main(replace(args, direction_files=(directions, wide)))
