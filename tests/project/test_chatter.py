"""Scripts hide libraries' warnings and print log lines above progress bars."""

import io
import logging
import subprocess
import sys
import warnings

import pytest

from common.progress import LinesAboveBars, progress_bar, start_logging

pytestmark = pytest.mark.usefixtures("restored_logging")


def test_a_log_line_does_not_share_a_line_with_a_bar(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logger = logging.Logger("own")
    logger.addHandler(LinesAboveBars())
    with progress_bar(range(3), file=stream, mininterval=0) as bar:
        for i in bar:
            logger.info("line %d", i)
    lines = stream.getvalue().replace("\r", "\n").split("\n")
    assert [line for line in lines if "line" in line] == [f"line {i}" for i in range(3)]


def warned(library: str) -> list[str]:
    """The warnings of a module with this name that are shown."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        start_logging(logging.getLogger("test").getEffectiveLevel())
        warnings.warn_explicit("odd", UserWarning, f"{library}.py", 1, module=library)
    return [str(warning.message) for warning in seen]


@pytest.mark.parametrize(
    ("library", "level", "shown"),
    [
        ("umap.umap_", logging.INFO, []),
        ("sklearn", logging.INFO, []),
        ("interpret.directions.ica", logging.INFO, ["odd"]),
        ("sklearning", logging.INFO, ["odd"]),
        ("umap.umap_", logging.DEBUG, ["odd"]),
    ],
)
def test_warnings_of_libraries_are_shown_to_those_who_debug(library, level, shown):
    logging.getLogger("test").setLevel(level)
    assert warned(library) == shown


@pytest.mark.slow
def test_importing_what_the_scripts_import_prints_nothing():
    modules = (
        "train, record, render, evaluate, train_gen_model, benchmarks.training, analysis.real_check,"
        " analysis.hidden_analysis_precompute"
    )
    ended = subprocess.run([sys.executable, "-c", f"import {modules}"], capture_output=True, text=True)
    assert ended.returncode == 0
    assert ended.stdout == ""
    assert ended.stderr == ""
