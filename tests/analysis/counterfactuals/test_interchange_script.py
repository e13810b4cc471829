"""The script of interchange patching: every flag has its effect, and the figure is drawn from the numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis import interchange_plotting
from analysis import interchange_precompute as interchange
from analysis.io.shared_args import PlotArgs
from analysis.io.steps import read_numbers
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


def test_interchange_patching_is_drawn(interchange_args, interchange_numbers, tmp_path):
    interchange.main(interchange_args)
    assert interchange_numbers["sites"][:5] == ["state", "encoder", "a", "b", "c"]
    assert interchange_numbers["restored"]["value"]["own"]["state"][-1][0] == pytest.approx(1)
    interchange_plotting.main(PlotArgs(out_dir=interchange_args.out_dir, images=tmp_path))
    assert (tmp_path / "interchange.png").stat().st_size > 500
