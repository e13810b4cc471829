"""The harness of faults finds what a careless script loses, and nothing in a careful one."""

import json
import random
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks.faults import fork_server, outcomes, stops
from benchmarks.faults.__main__ import Args, kills_of, write
from benchmarks.faults.damage import _damage
from benchmarks.faults.fork_server import run
from benchmarks.faults.injections import Counter, counting, full_disk, kill_at, nothing, torn_write
from benchmarks.faults.kills import kill_often, reference
from benchmarks.faults.scripts import COMMANDS, KINDS, Script, all_scripts, needed
from benchmarks.faults.tally import Tally
from common.errors import UsageError

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from pathlib import Path
from common.checkpoints import write_text
out = Path(sys.argv[1])
try:
    for i in range(4):
        path, text = out / f"{i}.json", json.dumps(list(range(200)))
        if not path.exists() or not CAREFUL:
            WRITE
except OSError as error:
    sys.exit(f"error: {error}")
"""
CAREFUL = "write_text(path, text)"
IN_PLACE = (
    'file = open(path, "w"); file.write(text[:300]); file.flush(); file.write(text[300:]); file.close()'
)
SILENT = "write_text(path, text) if i < 3 else None"
"""Forgets its last file if it finds earlier ones: see `writer`."""


def writer(tmp_path, write: str, careful: bool = True) -> Script:
    (tmp_path / "writer.py").write_text(PROGRAM.replace("WRITE", write).replace("CAREFUL", str(careful)))
    return Script("writer", "json", lambda out: [str(tmp_path / "writer.py"), str(out)], lambda out: None)


def tallied(tmp_path, script: Script, kills: int = 9):
    expected = reference(script, tmp_path / "reference")
    return kill_often(script, expected, tmp_path / "runs", kills, 5, random.Random(0))


def test_atomic_writes_survive_every_fault(tmp_path):
    tally = tallied(tmp_path, writer(tmp_path, CAREFUL))
    assert tally.total == 9
    assert (
        min(tally.kills["operation"], tally.kills["torn"]) > 0
    )  # it is over before a timer of the processor
    assert sum(tally.refusals.values()) == sum(tally.endings.values()) >= 2
    assert tally.findings == []


def test_files_written_in_place_are_found_damaged_and_lost(tmp_path):
    tally = tallied(tmp_path, writer(tmp_path, IN_PLACE, careful=False))
    assert tally.damaged > 0
    assert tally.lost_files > 0


def test_a_resume_that_forgets_a_file_is_wrong(tmp_path):
    script = writer(tmp_path, CAREFUL)
    expected = reference(script, tmp_path / "reference")
    forgetful = writer(tmp_path, SILENT)
    assert kill_often(forgetful, expected, tmp_path / "runs", 5, 5, random.Random(0)).wrong > 0


def test_a_script_that_fails_at_once_is_an_error_and_not_endless(tmp_path):
    expected = reference(writer(tmp_path, CAREFUL), tmp_path / "reference")
    failing = writer(tmp_path, 'sys.exit("error: no")')
    with pytest.raises(UsageError, match="writer ends before it can be killed"):
        kill_often(failing, expected, tmp_path / "runs", 5, 5, random.Random(0))


def test_two_runs_that_differ_are_no_reference(tmp_path):
    with pytest.raises(UsageError, match="two uninterrupted runs of writer differ"):
        reference(writer(tmp_path, "write_text(path, json.dumps(id(path)) + str(out))"), tmp_path / "r")


def test_operations_are_counted_and_hit(tmp_path):
    words = writer(tmp_path, CAREFUL).command(tmp_path / "out")
    (tmp_path / "out").mkdir()
    counter = Counter()
    assert run(words, tmp_path / "out", counting(counter)).code == 0
    assert counter.value >= 8  # a temporary file and a rename for each of four
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    assert run(words, tmp_path / "out", kill_at(1)).code == -signal.SIGKILL
    assert list((tmp_path / "out").iterdir()) == []
    assert run(words, tmp_path / "out", torn_write(1, 100)).code == -signal.SIGXFSZ
    assert [file.stat().st_size for file in (tmp_path / "out").iterdir()] == [100]
    ended = run(words, tmp_path / "out", full_disk(1))
    assert (ended.code, ended.said[:6]) == (1, "error:")
    assert run(words, tmp_path / "out", nothing).code == 0


STOPPABLE = """
import os, sys, time
from pathlib import Path
from common.cli import run_main
from common.stopping import saving_on_stop
def main(out):
    with saving_on_stop(lambda: SAID):
        for _ in range(500):
            try:
                time.sleep(0.02)
            except KeyboardInterrupt:
                RAISE
run_main(main, Path(sys.argv[1]))
"""
SAYS_SHARDS = 'f"3 of 5 shards are whole in {out}"'


@pytest.mark.parametrize(
    ("said", "on_stop", "shards", "finding"),
    [
        (SAYS_SHARDS, "raise", 3, None),
        (SAYS_SHARDS, "raise", 2, "untrue"),
        ('"all is well"', "raise", 0, "untrue"),
        ('""', "print('Traceback'); raise", 0, "unclear"),
        ('""', "os._exit(7)", 0, "unclear"),
        ('""', "time.sleep(3); raise", 0, "late"),
    ],
)
def test_a_stop_is_soon_clear_and_true(tmp_path, monkeypatch, said, on_stop, shards, finding):
    monkeypatch.setattr(stops, "LIMIT_SECONDS", 2.0)
    (tmp_path / "out").mkdir()
    for i in range(shards):
        (tmp_path / "out" / f"shard_{i}.json").write_text("{}")
    monkeypatch.setattr(stops, "Committed", lambda out: Unread())
    program = tmp_path / "stoppable.py"
    program.write_text(STOPPABLE.replace("SAID", said).replace("RAISE", on_stop))
    tally = Tally()
    words = [str(program), str(tmp_path / "out")]
    assert stops.stop_once(words, tmp_path / "out", "SIGTERM", 1.0, tally)
    assert tally.stops == {"SIGINT": 0, "SIGTERM": 1}
    counts = {name: getattr(tally, name) for name in ("unclear", "late", "untrue")}
    assert [name for name, count in counts.items() if count] == ([finding] if finding else []), tally.findings


def test_a_script_that_has_ended_is_not_asked(tmp_path):
    (tmp_path / "short.py").write_text("")
    assert not stops.stop_once([str(tmp_path / "short.py")], tmp_path, "SIGINT", 60.0, tally := Tally())
    assert sum(tally.stops.values()) == 0


class Unread:
    """Stands in for what a directory holds: its shards are empty here."""

    def compare(self, tally) -> None:
        pass


@pytest.mark.parametrize(("reads", "bad"), [("all", 0), ("half", 1)])
def test_damage_that_a_reader_does_not_see_is_counted(tmp_path, reads, bad):
    (tmp_path / "x").write_bytes(bytes(100))

    def read(folder) -> str:
        data = (folder / "x").read_bytes()
        if len(data) != 100 or (reads == "all" and any(data)):
            raise UsageError("damaged")
        return str(data)

    found = _damage(tmp_path / "x", tmp_path, read, 20, random.Random(0))
    assert found["refused"] == (20 if not bad else 10)
    assert (found["read_as_good"] > 0) == bad
    assert found["failed"] == 0


def test_every_script_reads_the_results_of_earlier_ones(tmp_path):
    listed = list(all_scripts(tmp_path / "agent", tmp_path))
    assert len(listed) == len(set(listed)) == sum(len(COMMANDS[kind]) for kind in KINDS)
    for place, name in enumerate(listed):
        assert needed([name]) <= {*listed[: place + 1]}, name
    assert needed(["migrate"]) == {"migrate", "record"}
    assert needed(["encoded_used_plotting"]) >= {
        "encoded_used_precompute",
        "scene_bank",
        "concepts",
        "episodes",
    }


def writers() -> set[str]:
    """Modules of scripts that users start, by the path of their files."""
    folders = (".", "agents", "analysis", "decision", "generative", "rollouts")
    paths = [path for folder in folders for path in (ROOT / folder).glob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in paths
        if "    run_main(" in path.read_text()
    }


def test_every_script_is_killed_or_named_as_left_out(tmp_path):
    killed = {script.module for script in all_scripts(tmp_path, tmp_path).values() if script.kind != "made"}
    left_out = set(COMMANDS["left_out"])
    assert killed | left_out == writers()
    assert not killed & left_out
    page = (ROOT / "docs/templates/robustness.md").read_text()
    assert [name for name in left_out if f"`{name}`" not in page] == []


def test_commands_are_spelled_with_what_earlier_scripts_made(tmp_path):
    made = tmp_path / "train_gen_model" / "run"
    made.mkdir(parents=True)
    for number in (1, 2):
        (made / f"model_{number:06d}.safetensors").touch()
    out = tmp_path / "with space" / "out"
    listed = all_scripts(tmp_path / "agent", tmp_path)
    words = listed["generative_publish"].command(out)
    assert words == ["-m", "generative.publish", "--runs", str(made), "--out_dir", str(out)]
    words = listed["record_gen_samples"].command(out)
    assert words[words.index("--world_model_file") + 1] == str(made / "model_000002.safetensors")


def test_flags_choose_scripts_and_kills(tmp_path):
    listed = all_scripts(tmp_path, tmp_path)
    everything = kills_of(Args(kills=9, few_kills=2), listed)
    assert everything["compact"] == 9
    assert everything["memory_plotting"] == 2
    assert not everything.keys() & COMMANDS["made"].keys()
    assert kills_of(Args(scripts=("migrate", "scene_bank")), listed) == {"migrate": 14, "scene_bank": 3}
    assert not kills_of(Args(kills=0), listed).keys() & COMMANDS["resumed"].keys()
    with pytest.raises(UsageError, match="no script 'x' to kill; choose from: .*compact"):
        kills_of(Args(scripts=("x",)), listed)


def test_rows_that_are_kept_name_their_own_commit(tmp_path, monkeypatch):
    out = tmp_path / "faults.json"
    for commit, rows in (("a", {"x": {"total": 3}, "y": {"total": 4}}), ("b", {"y": {"total": 5}})):
        monkeypatch.setattr(
            "benchmarks.faults.__main__.manifest", lambda: {"git": {"commit": commit}, "command": ["z"]}
        )
        write(out, "scripts", rows)
    found = json.loads(out.read_text())
    assert found["scripts"] == {"x": {"total": 3, "commit": "a"}, "y": {"total": 5, "commit": "b"}}
    assert found["all"] == {"scripts": {"total": 8}}
    assert found["manifest"] == {"git": {"commit": "b"}}


def test_the_results_of_an_earlier_script_lie_where_a_plot_draws(tmp_path):
    (tmp_path / "record/data/test").mkdir(parents=True)
    (tmp_path / "record/data/test/manifest.json").write_text('{"schema": 2, "sha256": "x", "kind": "store"}')
    (tmp_path / "out").mkdir()
    all_scripts(tmp_path, tmp_path)["migrate"].prepare(tmp_path / "out")
    found = json.loads((tmp_path / "out/data/test/manifest.json").read_text())
    assert found == {"schema": 1, "kind": "store"}


@pytest.mark.parametrize(("script", "unclear"), [("convert.py", 0), ("other.py", 1)])
def test_only_convert_may_refuse_what_is_finished(tmp_path, monkeypatch, script, unclear):
    monkeypatch.setattr(fork_server, "ROOT", tmp_path)
    (tmp_path / script).write_text("import sys; sys.exit('error: x is there already')")
    assert not stops.stop_once([script], tmp_path, "SIGINT", 60.0, tally := Tally())
    assert tally.unclear == unclear
    (tmp_path / script).write_text("import sys, time; time.sleep(0.5); sys.exit('error: x is there already')")
    monkeypatch.setattr(stops.os, "kill", lambda process, number: None)  # it arrives too late
    assert stops.stop_once([script], tmp_path, "SIGINT", 0.1, tally := Tally())
    assert tally.unclear == unclear


@pytest.mark.parametrize("name", ["x.h5", "x.hdf5"])
def test_hdf5_is_compared_by_its_arrays(tmp_path, name):
    def content(folder: str, pieces: list[list[int]]) -> str:
        (tmp_path / folder).mkdir()
        with h5py.File(tmp_path / folder / name, "w", track_order=True) as file:
            made = file.create_group("g").create_dataset(
                "frames", len(pieces), dtype=h5py.vlen_dtype(np.uint8)
            )
            made[:] = np.array([np.array(piece, np.uint8) for piece in pieces], object)
            file.create_dataset("plain", data=np.arange(3), track_times=folder == "b")
        return outcomes.contents(tmp_path / folder)[name]

    pieces = [[1, 2], [3, 4, 5]]
    assert content("a", pieces) == content("b", pieces)
    assert content("c", [[1, 2], [3, 4, 6]]) != content("d", pieces)
