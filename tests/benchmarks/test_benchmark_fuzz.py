"""Every reader of files takes hostile ones, and the guard finds what a careless reader would do."""

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.fuzz.__main__ import all_readers
from benchmarks.fuzz.guard import Reader, fuzz
from common.runs import UsageError
from rollouts.formats.apart import read_apart

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
    assert counts["inputs"] == counts["refused"] + counts["ended"] + counts["read"] == FEW


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


@pytest.mark.parametrize("what", ["Forbidden: os.system", "Forbidden: opens", "MemoryError"])
def test_the_guard_watches_the_process_of_a_reader(tmp_path, what):
    reader = Reader("apart", lambda place, draw: False, apart(CARELESS[what]), apart=True)
    (failure,) = fuzz(reader, tmp_path, 0, 1, 0)["failures"]
    assert what in failure


def test_a_process_of_a_reader_may_start_no_other(tmp_path):
    read = apart(lambda place: os.fork() or os._exit(0))
    assert (
        "Forbidden: os.fork"
        in fuzz(Reader("apart", lambda *_: False, read, True), tmp_path, 0, 1, 0)["failures"][0]
    )
    counts = fuzz(
        Reader("apart", lambda *_: False, apart(lambda place: os._exit(1)), True), tmp_path, 0, 2, 0
    )
    assert counts["ended"] == counts["inputs"] == 2


def apart(do):
    return lambda place: read_apart(lambda: do(place), "it")


def test_the_guard_counts_a_crash_and_goes_on(tmp_path):
    reader = Reader("crash", lambda place, draw: False, lambda place: os.abort())
    counts = fuzz(reader, tmp_path, 0, 3, 0)
    assert len(counts["failures"]) == counts["inputs"] == 3


def test_a_process_that_never_reads_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.fuzz.guard._Watch", None)
    with pytest.raises(RuntimeError, match="ends before it reads anything"):
        fuzz(Reader("none", lambda *_: False, refuse), tmp_path, 0, 2, 0)


def test_what_must_be_refused_and_is_read_fails(tmp_path):
    assert fuzz(Reader("lax", lambda *_: True, lambda place: 0), tmp_path, 0, 1, 0)["failures"]
    assert fuzz(Reader("strict", lambda *_: True, refuse), tmp_path, 0, 1, 0)["refused"] == 1
