"""The scripts of interchange patching and edited levels: every flag has its effect, figures are drawn from
the numbers, and bad input is named.
"""

from dataclasses import replace

import pytest
import torch

from analysis import edited_levels_plotting, interchange_plotting
from analysis import edited_levels_precompute as edits
from analysis import interchange_precompute as interchange
from analysis.io.shared_args import PlotArgs
from common.runs import UsageError
from interpret.directions.directions import Directions, load_directions, save_directions
from tests.analysis.counterfactuals.runs import run_step
from tests.helpers.coinrun_store import WIDTH

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def interchange_args(world, directions, tmp_path_factory):
    return interchange.Args(
        world.agent_file, world.store.path, (directions,), num_scenes=3, frames=2, device="cpu",
        out_dir=tmp_path_factory.mktemp("interchange"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def interchange_numbers(interchange_args):
    return run_step(interchange, interchange_args, "interchange")


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
    assert run_step(interchange, asked, "interchange") != interchange_numbers


def test_only_scenes_with_the_hazard_asked_for_are_taken(interchange_args, monkeypatch):
    seen = []
    search = interchange.ForkPointSampler.search

    def watched(self, find, *given, **named):
        pairs, found = search(self, find, *given, **named)
        seen.append({one.kind for one in found})
        return pairs, found

    monkeypatch.setattr(interchange.ForkPointSampler, "search", watched)
    interchange.main(replace(interchange_args, new=True))
    interchange.main(replace(interchange_args, hazard="lava"))
    assert seen == [{"saw"}, {"lava"}]


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
    return run_step(edits, edit_args, "edited_levels")


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
    assert run_step(edits, replace(edit_args, **{flag: EDIT_FLAGS[flag]}), "edited_levels") != edit_numbers


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
def test_directions_of_another_width_or_agent_or_several_files_are_refused(
    request, directions, tmp_path, module
):
    args = request.getfixturevalue({"edits": "edit_args", "interchange": "interchange_args"}[module])
    script = {"edits": edits, "interchange": interchange}[module]
    wide = tmp_path / "wide.safetensors"
    axes = torch.eye(WIDTH + 1)[:2]
    save_directions(wide, Directions(axes, torch.zeros(2), axes.T, torch.zeros(WIDTH + 1), ("a", "b")))
    with pytest.raises(UsageError, match=f"width {WIDTH + 1}"):
        script.main(replace(args, direction_files=(wide,)))
    with pytest.raises(UsageError, match="takes one file here, not 2"):
        script.main(replace(args, direction_files=(directions, wide)))
    foreign = tmp_path / "foreign.safetensors"
    own = load_directions(directions)
    save_directions(foreign, replace(own, provenance=own.provenance | {"agent": "another"}))
    with pytest.raises(UsageError, match="was fit on agent another"):
        script.main(replace(args, direction_files=(foreign,)))
