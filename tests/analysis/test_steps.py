"""A step is computed once, again with --new, and a plot finds the latest finished run."""

import os

import numpy as np
import pytest

from analysis.io.artefacts import cached_part
from analysis.io.steps import find_step, finish_step, open_step, read_numbers, read_part
from common.runs import UsageError

COMMAND = "python analysis/thing_precompute.py"


def made(tmp_path, number: int = 1, new: bool = False, inputs=("a",), version: int = 1):
    run = open_step(tmp_path, "thing", version, {"number": number}, {"data_dir": inputs[0]}, new)
    if not run.done:
        cached_part(run, "arrays", lambda: {"x": np.full(2, number)})
        finish_step(run, {"number": number})
    return run


def test_the_same_step_is_resumed_and_new_makes_another(tmp_path):
    first = made(tmp_path)
    assert made(tmp_path).dir == first.dir
    assert made(tmp_path).done
    others = [
        made(tmp_path, 2),
        made(tmp_path, inputs=("b",)),
        made(tmp_path, version=2),
        made(tmp_path, new=True),
    ]
    assert len({run.dir for run in others} | {first.dir}) == 5
    assert find_step(tmp_path, "thing", 1, COMMAND) == others[-1].dir.resolve(), (
        "the latest is the last one finished"
    )
    assert read_numbers(find_step(tmp_path, "thing", 1, COMMAND, first.dir)) == {"number": 1}
    assert read_part(others[0].dir, "arrays")["x"].tolist() == [2, 2]


def test_missing_unfinished_stale_and_damaged_artefacts_name_the_command(tmp_path):
    with pytest.raises(UsageError, match=COMMAND):
        find_step(tmp_path, "thing", 1, COMMAND)
    begun = open_step(tmp_path, "thing", 1, {}, {})
    with pytest.raises(UsageError, match="no finished artefacts"):
        find_step(tmp_path, "thing", 1, COMMAND, begun.dir)
    run = made(tmp_path)
    with pytest.raises(UsageError, match="stale: it is of version 1"):
        find_step(tmp_path, "thing", 2, COMMAND)
    with pytest.raises(UsageError, match="holds artefacts of the step thing, not other"):
        find_step(tmp_path, "other", 1, COMMAND, (tmp_path / "thing_precomp" / "latest"))
    (run.dir / "arrays.safetensors").write_bytes(b"no")
    (run.dir / "numbers.json").write_text("{")
    for read in (
        lambda: read_part(run.dir, "arrays"),
        lambda: read_part(run.dir, "other"),
        lambda: read_numbers(run.dir),
    ):
        with pytest.raises(UsageError, match="--new"):
            read()


def test_a_link_that_a_killed_process_left_is_removed_and_a_fresh_one_stays(tmp_path):
    run = open_step(tmp_path, "thing", 1, {}, {})
    for name in ("old", "fresh"):
        (run.dir.parent / f".latest.{name}").symlink_to(run.dir.name)
    os.utime(run.dir.parent / ".latest.old", (0, 0), follow_symlinks=False)
    finish_step(run, {})
    assert sorted(path.name for path in run.dir.parent.glob(".*")) == [".latest.fresh"]
