"""How every script starts and fails: logging to the terminal, and one clear line instead of a traceback for bad input."""

import errno
import logging
import sys
from collections.abc import Callable

from common.checkpoints import BadCheckpoint
from common.runs import UsageError

USER_ERRORS = (UsageError, BadCheckpoint, ValueError, FileNotFoundError, FloatingPointError)


def run_script(main: Callable, args) -> None:
    """Calls main(args). What the user can mend ends in one line on stderr and exit code 1; what is our bug keeps its traceback."""
    logging.basicConfig(level=getattr(args, "log_level", logging.INFO), format="%(message)s", force=True)
    try:
        main(args)
    except USER_ERRORS as error:
        logging.debug("traceback", exc_info=True)
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        advice = "nothing half-written was kept: free some space or choose another place, then run the same command again"
        sys.exit(f"error: {error.strerror} ({error.filename}); {advice}")
