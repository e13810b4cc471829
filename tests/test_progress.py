"""Progress bars and polite stops."""

import io
import os
import signal

import pytest

from common import progress
from common.stopping import StopSignal


@pytest.mark.parametrize("terminal, seconds", [(True, 0.1), (False, progress.LOG_SECONDS)])
def test_a_log_file_gets_few_lines(monkeypatch, terminal, seconds):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(progress.sys, "stderr", stream)
    with progress.progress_bar(range(3), file=stream) as bar:
        assert bar.mininterval == seconds and list(bar) == [0, 1, 2]


def test_a_stop_signal_asks_and_then_handlers_are_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) is before
