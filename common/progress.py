"""What a script shows while it works: its own lines, and progress bars with a rate and the time left.

On a terminal a bar is drawn ten times a second, in a log file it is a line every half minute. Libraries' warnings are not shown.
"""

import logging
import sys
import warnings

from tqdm import tqdm

LOG_SECONDS = 30.0
LIBRARIES = ("torch", "sklearn", "umap", "pynndescent", "numba", "openTSNE", "matplotlib", "tensorboard", "stable_baselines3", "gym", "scipy")
"""Those whose warnings are addressed to programmers."""


class LinesAboveBars(logging.StreamHandler):
    """Writes log lines to stderr, above the progress bars that are there rather than into them."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def start_logging(level: int) -> None:
    """Sends lines of `level` and above to stderr, and leaves out warnings that libraries give of themselves, except at DEBUG."""
    logging.basicConfig(level=level, format="%(message)s", handlers=[LinesAboveBars()], force=True)
    if level > logging.DEBUG:
        for library in LIBRARIES:
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")


def progress_bar(*args, **options) -> tqdm:
    """A tqdm bar with an interval that suits where it is written."""
    seconds = {} if sys.stderr.isatty() else {"mininterval": LOG_SECONDS, "maxinterval": 2 * LOG_SECONDS}
    return tqdm(*args, **(seconds | options))
