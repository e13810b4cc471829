"""Interruption by signals: what is saved, the message, and the exit code."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from common.cli import run_main
from common.csv_log import CsvLog
from common.stopping import (
    SIGNALS,
    StopOnSignal,
    Stopped,
    is_script,
    report_on_stop,
    saving_on_stop,
    uninterrupted,
)

ROOT = Path(__file__).parents[2]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)


def stopped(main, capsys, **flags) -> tuple[int, str]:
    """Exit code and stderr of a main that a signal stops."""
    with pytest.raises(SystemExit) as ended:
        run_main(main, SimpleNamespace(log_level=logging.INFO, **flags))
    return ended.value.code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def hang_up_is_not_ignored():
    """Under nohup the tests' own process ignores SIGHUP; here it has its default action."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_script_with_its_code_and_one_line(number, capsys):
    before = [signal.getsignal(one) for one in SIGNALS]
    said = f"interrupted by {number.name}: it left nothing half-written; run the same command again\n"
    assert stopped(lambda args: send(number), capsys) == (CODES[number], said)
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_sighup_that_nohup_ignores_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run_main(lambda args: send(signal.SIGHUP), SimpleNamespace())
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_work_in_progress_is_saved_once_and_the_innermost_speaks(capsys):
    saved = []

    def main(args):
        report_on_stop(lambda: "the run is there")
        with (
            saving_on_stop(lambda: saved.append("outer") or "outer"),
            saving_on_stop(lambda: saved.append("inner") or "step 3 is saved"),
        ):
            send(signal.SIGTERM)

    assert stopped(main, capsys) == (
        143,
        "interrupted by SIGTERM: step 3 is saved; the same command goes on from there\n",
    )
    assert saved == ["inner", "outer"]


def test_the_way_on_leaves_out_the_flag_that_starts_another_run(capsys):
    def main(args):
        report_on_stop(lambda: "a part is kept")
        send(signal.SIGINT)

    said = "interrupted by SIGINT: a part is kept; the same command without --new goes on from there\n"
    assert stopped(main, capsys, new=True) == (130, said)


def test_a_process_that_others_speak_for_says_nothing(capsys):
    def main(args):
        with saving_on_stop(lambda: None):
            send(signal.SIGTERM)

    assert stopped(main, capsys) == (143, "")


def test_a_save_that_fails_is_said(capsys):
    def full():
        raise OSError(28, "No space left on device")

    def main(args):
        with saving_on_stop(full):
            send(signal.SIGTERM)

    code, said = stopped(main, capsys)
    assert code == 143
    assert (
        "could not be saved (No space left on device), what was saved before is kept; the same command"
        in said
    )


def test_what_fails_after_a_stop_fails_of_it(capsys):
    """A stop that was swallowed, and then another process that has left: still a stop, and the state is
    saved.
    """

    def main(args):
        with saving_on_stop(lambda: "saved"):
            try:
                send(signal.SIGTERM)
            except KeyboardInterrupt:
                raise RuntimeError("connection closed by peer") from None

    assert stopped(main, capsys) == (
        143,
        "interrupted by SIGTERM: saved; the same command goes on from there\n",
    )


def test_a_stop_waits_for_the_end_of_what_must_be_whole():
    done = []
    with StopOnSignal(), pytest.raises(Stopped):
        with uninterrupted():
            send(signal.SIGTERM)
            with uninterrupted():
                done.append("inner")
            done.append("outer")
        done.append("after")
    assert done == ["inner", "outer"]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_just_after_the_first_does_not_disturb_the_save(second, capsys):
    def save():
        send(second)
        return "saved"

    def main(args):
        with saving_on_stop(save):
            send(signal.SIGINT)

    assert stopped(main, capsys) == (
        130,
        "interrupted by SIGINT: saved; the same command goes on from there\n",
    )


class Freed:
    """Raises in its destructor, where Python forgets it."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


def wait_after_freeing(error) -> None:
    Freed(error)
    time.sleep(0.3)


def test_ctrl_c_in_a_destructor_is_not_lost(capsys):
    before = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    with StopOnSignal(), pytest.raises(KeyboardInterrupt):
        wait_after_freeing(KeyboardInterrupt())
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == before
    assert not capsys.readouterr().err


def test_other_errors_in_a_destructor_are_told_as_ever(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(unraisable.exc_type))
    with StopOnSignal():
        wait_after_freeing(ValueError())
    wait_after_freeing(KeyboardInterrupt())  # as it is without
    assert reported == [ValueError, KeyboardInterrupt]


def test_a_thread_that_fails_of_a_full_disk_prints_no_traceback_beside_the_line(
    tmp_path, monkeypatch, capsys
):
    """TensorBoard writes in a thread of its own; the main thread hears of its failure at the next row."""

    def full(self, data):
        raise OSError(28, "No space left on device")

    def main(args):
        log = CsvLog(tmp_path / "log.csv", ["step", "wall_time"], 0)
        monkeypatch.setattr(RecordWriter, "write", full)
        log.write({"step": 1, "wall_time": 0.5})

    with pytest.raises(
        SystemExit, match="^error: No space left on device; nothing half-written was kept: free some space"
    ):
        run_main(main, SimpleNamespace())
    assert capsys.readouterr().err == ""


def test_other_failures_of_threads_are_told_as_ever(monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: reported.append(failure.exc_type))

    def main(args):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    run_main(main, SimpleNamespace())
    assert reported == [ZeroDivisionError]


HEADER = """
import hashlib, sys, time
from pathlib import Path
from types import SimpleNamespace
import common.stopping as stopping
from common.cli import run_main
from common.stopping import saving_on_stop, uninterrupted
def ready(): print("ready", flush=True)
"""


def script(body: str, *words: str) -> subprocess.Popen:
    """A process that runs the body and has said that it is ready."""
    command = [sys.executable, "-c", HEADER + body, *words]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_call_that_holds_python_up_does_not_hold_the_stop_up():
    """The watching thread saves, says so and ends the process, while the main thread is in C for minutes."""
    process = script("""
stopping.GRACE_SECONDS = 0.2
def main(args):
    with saving_on_stop(lambda: "step 3 is saved"):
        ready()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
run_main(main, SimpleNamespace())
""")
    time.sleep(0.1)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 143
    assert said == "interrupted by SIGTERM: step 3 is saved; the same command goes on from there\n"
    assert time.monotonic() - begun < 10


def test_an_insisting_ctrl_c_does_not_wait_for_the_save():
    process = script("""
stopping.INSIST_SECONDS = 0.1
def save():
    ready()
    time.sleep(60)
def main(args):
    with saving_on_stop(save):
        ready()
        time.sleep(60)
run_main(main, SimpleNamespace())
""")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert said == "stopped at once, without saving: what was saved before is kept\n"


def test_a_signal_while_a_script_imports_its_modules_is_one_line(tmp_path):
    """tyro takes a moment; here it takes longer, and says when it begins."""
    (tmp_path / "tyro.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    process = subprocess.Popen([sys.executable, "train.py"], cwd=ROOT, env=environment, **pipes)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "interrupted by SIGINT: the same command goes on from there\n"
    assert process.returncode == 130
    assert not is_script()
