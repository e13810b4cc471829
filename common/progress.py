"""Logging and progress bars of scripts.

On a terminal a bar is drawn ten times a second. In a log file it prints a line within seconds, so that rate
and remaining time are known at once, and then one every half minute. Library warnings are hidden.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Sequence

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
"""Libraries whose warnings address programmers."""

tqdm.set_lock(threading.RLock())  # its own is shared with forks, and stays locked when one is killed


class LinesAboveBars(logging.StreamHandler):
    """Writes log lines to stderr above the active progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def start_logging(level: int) -> None:
    """Logs lines of `level` and above to stderr; hides library warnings except at DEBUG."""
    logging.basicConfig(level=level, format="%(message)s", handlers=[LinesAboveBars()], force=True)
    # openTSNE logs the details of every fit
    logging.getLogger("openTSNE").setLevel(logging.WARNING if level > logging.DEBUG else logging.NOTSET)
    if level > logging.DEBUG:
        for library in LIBRARIES:
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")


class Bar(tqdm):
    """Progress bar that releases its lock when it cannot be drawn, as on a full disk or at a stop.

    tqdm's keeps it, and a bar in another thread would wait for ever.
    """

    def refresh(self, nolock: bool = False, lock_args: Sequence | None = None) -> bool | None:
        if nolock:
            return super().refresh(nolock=True)
        if not self._lock.acquire(*(lock_args or ())):
            return False
        try:
            return super().refresh(nolock=True)
        finally:
            self._lock.release()


class LogBar(Bar):
    """Progress bar for log files: first line after FIRST_SECONDS, then one every LOG_SECONDS."""

    def __init__(self, *args, **options):
        super().__init__(*args, **({"mininterval": FIRST_SECONDS, "maxinterval": FIRST_SECONDS} | options))

    def refresh(self, *args, **options):
        if self.n > self.initial:
            self.mininterval = LOG_SECONDS
            self.maxinterval = 2 * LOG_SECONDS
        return super().refresh(*args, **options)


def progress_bar(*args, **options) -> tqdm:
    """A tqdm bar with an update interval that suits a terminal or a log file."""
    return (Bar if sys.stderr.isatty() else LogBar)(*args, **options)


def not_shown(share: float) -> None:
    """Progress callback that ignores its argument, the finished share of the work."""
