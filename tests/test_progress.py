"""Progress bars."""

import io

import pytest

from common import progress


@pytest.mark.parametrize("terminal, seconds", [(True, 0.1), (False, progress.LOG_SECONDS)])
def test_a_log_file_gets_few_lines(monkeypatch, terminal, seconds):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(progress.sys, "stderr", stream)
    with progress.progress_bar(range(3), file=stream) as bar:
        assert bar.mininterval == seconds and list(bar) == [0, 1, 2]
