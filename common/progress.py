"""Progress bars: rate and time left on a terminal; in a log file, a line every half minute rather than ten a second."""

import sys

from tqdm import tqdm

LOG_SECONDS = 30.0


def progress_bar(*args, **options) -> tqdm:
    """A tqdm bar with an interval that suits where it is written."""
    seconds = {} if sys.stderr.isatty() else {"mininterval": LOG_SECONDS, "maxinterval": 2 * LOG_SECONDS}
    return tqdm(*args, **(seconds | options))
