"""Every reader of files takes hostile ones, and the guard finds what a careless reader would do."""

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.fuzz.__main__ import all_readers
from benchmarks.fuzz.guard import Reader, fuzz
from common.runs import UsageError

NAMES = (
    "store",
    "midt",
    "minari",
    "trajectory pickle",
    "agent",
    "world model",
    "decision transformer",
    "directions",
    "state dict",
    "hypothesis",
    "presets",
    "edits",
    "run",
    "name map",
    "log",
    "state bytes",
)
FEW = 12


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    return all_readers(tmp_path_factory.mktemp("fuzz") / "seeds")


def test_every_reader_is_fed(listed):
    assert tuple(listed) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_no_input_goes_uncaught(listed, tmp_path, name):
    counts = fuzz(listed[name], tmp_path / "input", 20_000, FEW, seed=0)
    assert counts["failures"] == []
    assert counts["inputs"] == counts["refused"] + counts["read"] == FEW


def refuse(place):
    raise UsageError("no")


CARELESS = {
    "KeyError": lambda place: {}["x"],
    "Forbidden: subprocess.Popen": lambda place: subprocess.run(["true"]),
    "Forbidden: os.system": lambda place: os.system("true"),
    "Forbidden: opens": lambda place: Path("/etc/passwd").read_text(),
    "MemoryError": lambda place: bytearray(2**33),
    "RecursionError": lambda place: CARELESS["RecursionError"](place),
}


@pytest.mark.parametrize("what", CARELESS)
def test_the_guard_finds_a_careless_reader(tmp_path, what):
    reader = Reader("careless", lambda place, draw: False, CARELESS[what])
    (failure,) = fuzz(reader, tmp_path, 0, 1, 0)["failures"]
    assert what in failure


def test_the_guard_counts_a_crash_and_goes_on(tmp_path):
    reader = Reader("crash", lambda place, draw: False, lambda place: os.abort())
    counts = fuzz(reader, tmp_path, 0, 3, 0)
    assert len(counts["failures"]) == counts["inputs"] == 3


def test_what_must_be_refused_and_is_read_fails(tmp_path):
    assert fuzz(Reader("lax", lambda *_: True, lambda place: 0), tmp_path, 0, 1, 0)["failures"]
    assert fuzz(Reader("strict", lambda *_: True, refuse), tmp_path, 0, 1, 0)["refused"] == 1
