"""Locks: the holder is named, and no lock outlives its process."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common import locks
from common.locks import Locked, held, hold
from common.runs import UsageError, open_run

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
exec(sys.argv[1])
print("ready", flush=True)
time.sleep(60)
"""


def another_process(statements: str) -> subprocess.Popen:
    """A process that has executed the statements and keeps what came of them."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, statements], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def holder(path: Path) -> subprocess.Popen:
    return another_process(f"from common.locks import hold; kept = hold(Path({str(path)!r}))")


def runner(parent: Path) -> subprocess.Popen:
    return another_process(
        f"from common.runs import open_run; kept = open_run(Path({str(parent)!r}), 'seed_0', {{'a': 1}})"
    )


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_the_holder_is_named_and_its_death_frees_the_lock(tmp_path, death):
    other = holder(tmp_path / "lock")
    with pytest.raises(Locked, match=f"process {other.pid} on "):
        hold(tmp_path / "lock")
    other.send_signal(death)
    other.wait()
    assert f"process {os.getpid()} on" in Path(hold(tmp_path / "lock").name).read_text()


def test_what_a_process_holds_it_may_take_again_until_it_lets_go(tmp_path):
    first = hold(tmp_path / "lock")
    assert hold(tmp_path / "lock") is first
    take = "import sys; from pathlib import Path; from common.locks import hold; hold(Path(sys.argv[1]))"
    command = [sys.executable, "-c", take, str(tmp_path / "lock")]
    assert "Locked" in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stderr
    del first
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


def test_a_lock_around_a_piece_of_work_goes_with_it(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), held(tmp_path / "lock"):
            assert (tmp_path / "lock").exists()
            raise KeyError
        assert not (tmp_path / "lock").exists()


def test_a_lock_taken_on_a_removed_file_does_not_count(tmp_path, monkeypatch):
    """The last holder removes the file after we have opened it: whoever comes next makes another, and both
    would go ahead.
    """
    import common.locks

    path = tmp_path / "lock"
    locked = []
    lock = common.locks._lock

    def late(file, name):
        if not locked:
            path.unlink()
        locked.append(file)
        lock(file, name)

    monkeypatch.setattr(common.locks, "_lock", late)
    kept = hold(path)
    assert len(locked) == 2
    assert os.fstat(kept.fileno()).st_ino == path.stat().st_ino


def test_where_files_cannot_be_locked_a_warning_says_so(tmp_path, monkeypatch, caplog):
    def refuse(*asked):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("common.locks.fcntl.flock", refuse)
    assert hold(tmp_path / "lock")
    assert "cannot be locked (Function not implemented)" in caplog.text


def test_a_run_that_is_being_written_is_refused(tmp_path):
    other = runner(tmp_path)
    with pytest.raises(
        UsageError, match=f"is being written by process {other.pid} on .*: wait for it, or stop it .* --new"
    ):
        open_run(tmp_path, "seed_0", {"a": 1})
    others = [open_run(tmp_path, "seed_0", {"a": 1}, new=True), open_run(tmp_path, "seed_0", {"a": 2})]
    assert len({run.dir for run in others}) == 2  # another run and another question go ahead meanwhile
    other.kill()
    other.wait()
    assert open_run(tmp_path, "seed_0", {"a": 1}).resumed


def test_a_finished_run_needs_no_lock(tmp_path):
    open_run(tmp_path, "seed_0", {"a": 1}).finish({})
    other = runner(tmp_path)
    assert open_run(tmp_path, "seed_0", {"a": 1}).done
    other.kill()
    other.wait()


def test_two_that_start_at_once_do_not_both_begin(tmp_path):
    """The same command, so nearly at once that neither finds the other's run when it looks: one has it, the
    others are refused.
    """
    begin = f"""
import sys, time
from pathlib import Path
from common.runs import UsageError, open_run
print("ready", flush=True)
sys.stdin.readline()
try:
    run = open_run(Path({str(tmp_path)!r}), "seed_0", {{"a": 1}})
    print("began", flush=True)
    time.sleep(3)
except UsageError as error:
    print(error)
"""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    processes = [subprocess.Popen([sys.executable, "-c", begin], cwd=ROOT, **pipes) for _ in range(3)]
    assert all(process.stdout.readline() == "ready\n" for process in processes)
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sorted(process.communicate()[0] for process in processes)
    assert said[-1] == "began\n"
    assert all("is being written by process" in line for line in said[:-1])
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [
        open_run(tmp_path, "seed_0", {"a": 1}).dir.name
    ]
    assert not list(tmp_path.glob(".*"))


def test_a_directory_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    """Another process makes the very directory between our look and our rename: we look again and find its
    run.
    """
    import common.runs

    begin = common.runs._begin
    raced = []

    def race(*asked):
        if not raced:
            raced.append(begin(*asked))
        return begin(*asked)

    monkeypatch.setattr(common.runs, "_begin", race)
    run = open_run(tmp_path, "seed_0", {"a": 1})
    assert raced
    assert run.resumed
    assert [path.name for path in tmp_path.iterdir()] == [run.dir.name]


def test_numbers_go_on_after_the_highest(tmp_path):
    dirs = [open_run(tmp_path, "run", {"a": 1}, new=True).dir for _ in range(3)]
    (tmp_path / f"{dirs[0].name}_kept").mkdir()  # the user's own
    for file in dirs[1].iterdir():
        file.unlink()
    dirs[1].rmdir()
    assert open_run(tmp_path, "run", {"a": 1}, new=True).dir.name == f"{dirs[0].name}_4"


def test_what_a_killed_process_began_is_removed_and_what_a_living_one_begins_stays(tmp_path):
    """Between making its directory and locking it, a process that lives must not lose it to another one's
    cleaning.
    """
    ended, living = (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)
    )
    ended.communicate(b"\n")
    name = open_run(tmp_path / "elsewhere", "seed_0", {"a": 1}).dir.name
    for process in (ended, living):
        begun = tmp_path / f".{name}.{process.pid}"
        begun.mkdir()
        (begun / "lock").touch()
    open_run(tmp_path, "seed_0", {"a": 1})
    assert [path.name for path in tmp_path.glob(".*")] == [f".{name}.{living.pid}"]
    living.communicate(b"\n")


def test_a_lock_without_a_name_is_waited_for(tmp_path):
    """As `remove_abandoned` holds one for a moment."""
    path = tmp_path / "lock"
    with open(path, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.1, other.close).start()
        assert hold(path).closed is False


def test_a_lock_that_stays_nameless_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "NAMELESS_SECONDS", 0.05)
    with open(tmp_path / "lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Locked, match="another process"):
            hold(tmp_path / "lock")
