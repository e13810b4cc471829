"""A refused command leaves no run directory and no parents created for it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from common.cli import run_main
from common.errors import UsageError
from common.runs import open_run


def refused(main) -> None:
    with pytest.raises(SystemExit, match="error: not today"):
        run_main(main, SimpleNamespace())


def test_a_run_in_which_nothing_was_made_goes_with_its_parents(tmp_path):
    def main(args):
        run = open_run(tmp_path / "results" / "steps", "step", {"seed": 1})
        assert (run.dir / "config.json").exists()
        raise UsageError("not today")

    refused(main)
    assert not list(tmp_path.iterdir())
    (tmp_path / "results").mkdir()
    refused(main)
    assert list(tmp_path.iterdir()) == [tmp_path / "results"]


@pytest.mark.parametrize("name", ["part.safetensors", "done.json"])
def test_what_was_made_stays(tmp_path, name):
    def main(args):
        (open_run(tmp_path, "step", {"seed": 1}).dir / name).write_text("{}")
        raise UsageError("not today")

    refused(main)
    assert [file.name for file in tmp_path.rglob(name)] == [name]


def test_a_run_of_an_earlier_command_stays(tmp_path):
    def begin(seed: int) -> Path:
        return open_run(tmp_path, "step", {"seed": seed}).dir

    earlier = begin(1)

    def main(args):
        begin(1)  # found again
        begin(2)
        raise UsageError("not today")

    refused(main)
    assert list(tmp_path.iterdir()) == [earlier]


def test_a_bug_takes_nothing_back(tmp_path):
    def main(args):
        open_run(tmp_path, "step", {"seed": 1})
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run_main(main, SimpleNamespace())
    assert len(list(tmp_path.glob("*/config.json"))) == 1
