"""Progress bars."""

import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common import progress

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("terminal", "seconds"), [(True, 0.1), (False, progress.FIRST_SECONDS)])
def test_a_log_file_gets_few_lines(monkeypatch, terminal, seconds):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(progress.sys, "stderr", stream)
    with progress.progress_bar(range(3), file=stream) as bar:
        assert bar.mininterval == seconds
        assert list(bar) == [0, 1, 2]


def lines(stream: io.StringIO) -> list[str]:
    return [line for line in stream.getvalue().split("\r") if line.strip()]


def test_a_log_file_shows_the_rate_within_the_first_seconds_and_then_seldom(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress.sys, "stderr", stream)
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.05)
    with progress.progress_bar(total=50, file=stream, unit="step") as bar:
        for _ in range(25):
            time.sleep(0.01)
            bar.update()
        assert len(lines(stream)) == 2  # nothing done yet, and the first rate with the time left
        assert "step/s" in lines(stream)[1]
        assert "?" not in lines(stream)[1]


def test_a_bar_that_is_iterated_over_does_so_too(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress.sys, "stderr", stream)
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.05)
    for _ in progress.progress_bar(range(25), file=stream):
        time.sleep(0.01)
    assert len(lines(stream)) == 3  # and the last


KILLED_WHILE_DRAWING = """
import os, signal
from tqdm import tqdm
from common.progress import progress_bar
list(progress_bar(range(4)))
process = os.fork()
if process == 0:
    tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(process, 0)
print(sum(progress_bar(range(4))))
"""


def test_a_fork_that_is_killed_while_it_draws_a_bar_does_not_hold_up_others():
    words = [sys.executable, "-c", KILLED_WHILE_DRAWING]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "6\n", ended.stderr


class FullDisk(io.StringIO):
    full = False

    def write(self, text):
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_that_cannot_be_drawn_does_not_hold_up_those_of_other_threads(monkeypatch, terminal):
    stream = FullDisk()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(progress.sys, "stderr", stream)
    bar = progress.progress_bar(total=3, file=stream)
    stream.full = True
    with pytest.raises(OSError, match="No space left"):
        bar.refresh()
    stream.full = False
    other = threading.Thread(target=lambda: list(progress.progress_bar(range(3), file=stream)), daemon=True)
    other.start()
    other.join(10)
    assert not other.is_alive()
    bar.close()


def test_a_bar_need_not_wait_for_one_that_is_being_drawn():
    """As tqdm's own: `lock_args` are those of the lock."""
    bar = progress.progress_bar(total=3, file=io.StringIO())
    held, drawn = threading.Event(), threading.Event()

    def draw():
        with bar.get_lock():
            held.set()
            drawn.wait(10)

    other = threading.Thread(target=draw, daemon=True)
    other.start()
    assert held.wait(10)
    assert bar.refresh(lock_args=(False,)) is False
    drawn.set()
    other.join(10)
    assert bar.refresh(lock_args=(False,)) is True
    bar.close()
