"""Progress bars, polite stops and impolite ones."""

import io
import os
import signal
import sys
import time

import pytest

from common import progress
from common.stopping import Interruptible, StopSignal


@pytest.mark.parametrize("terminal, seconds", [(True, 0.1), (False, progress.LOG_SECONDS)])
def test_a_log_file_gets_few_lines(monkeypatch, terminal, seconds):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(progress.sys, "stderr", stream)
    with progress.progress_bar(range(3), file=stream) as bar:
        assert bar.mininterval == seconds and list(bar) == [0, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_asks_and_then_handlers_are_as_before(number, caplog):
    caplog.set_level("INFO")
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked and "stopping after the piece of work in hand" in caplog.text
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler may insist
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), StopSignal():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
    assert signal.getsignal(signal.SIGINT) is before


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
    with Interruptible(), pytest.raises(KeyboardInterrupt):
        wait_after_freeing(KeyboardInterrupt())
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == before and not capsys.readouterr().err


def test_other_errors_in_a_destructor_are_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    with Interruptible():
        wait_after_freeing(ValueError())
    wait_after_freeing(KeyboardInterrupt())  # as it is without
    assert told == [ValueError, KeyboardInterrupt]
