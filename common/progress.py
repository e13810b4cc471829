"""What a script shows while it works: its own lines, and progress bars with a rate and the time left.

On a terminal a bar is drawn ten times a second. In a log file it is a line within the first seconds, so that
rate and time left are known at once, and then one every half minute. Libraries' warnings are not shown.
"""

import logging
import sys
import warnings

from tqdm import tqdm

FIRST_SECONDS = 3.0
LOG_SECONDS = 30.0
LIBRARIES = (
    "torch",
    "sklearn",
    "umap",
    "pynndescent",
    "numba",
    "openTSNE",
    "matplotlib",
    "tensorboard",
    "stable_baselines3",
    "gym",
    "scipy",
)
"""Those whose warnings are addressed to programmers."""


class LinesAboveBars(logging.StreamHandler):
    """Writes log lines to stderr, above the progress bars that are there rather than into them."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def start_logging(level: int) -> None:
    """Sends lines of `level` and above to stderr, and leaves out warnings that libraries give of themselves,
    except at DEBUG.
    """
    logging.basicConfig(level=level, format="%(message)s", handlers=[LinesAboveBars()], force=True)
    if level > logging.DEBUG:
        for library in LIBRARIES:
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")


class LogBar(tqdm):
    """A bar in a log file: its first line with a rate comes after FIRST_SECONDS, the others every
    LOG_SECONDS.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **({"mininterval": FIRST_SECONDS, "maxinterval": FIRST_SECONDS} | options))

    def refresh(self, *args, **options):
        if self.n > self.initial:
            self.mininterval = LOG_SECONDS
            self.maxinterval = 2 * LOG_SECONDS
        return super().refresh(*args, **options)


def progress_bar(*args, **options) -> tqdm:
    """A tqdm bar with an interval that suits where it is written."""
    return (tqdm if sys.stderr.isatty() else LogBar)(*args, **options)


def not_shown(share: float) -> None:
    """In place of a bar: takes no notice of a finished share of the work."""
