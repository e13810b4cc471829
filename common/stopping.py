"""Stopping a long run: politely, after the piece in hand is saved; or by Ctrl-C at once, without that it is ever lost."""

import logging
import signal
import sys

RETRY_SECONDS = 0.01


class StopSignal:
    """While entered, SIGTERM and SIGINT ask for a stop after the piece of work in progress instead of killing the run.

    A second Ctrl-C does not wait for it.
    """

    def __enter__(self):
        self.asked = False
        self._previous = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _ask(self, number, frame):
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        logging.info("stopping after the piece of work in hand; Ctrl-C once more stops at once, without it")

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class Interruptible:
    """While entered, a KeyboardInterrupt that falls into a destructor is raised again a moment later.

    Python can only print and forget what a destructor raises, and the games' C interface frees memory at every step: a Ctrl-C
    often falls just there.
    """

    def __enter__(self):
        self._hook, sys.unraisablehook = sys.unraisablehook, self._forgotten
        self._handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
        return self

    def _forgotten(self, unraisable):
        if unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        else:
            self._hook(unraisable)

    def __exit__(self, *exception):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        sys.unraisablehook = self._hook
