"""Stopping a long run politely: finish the piece in hand, save, and leave."""

import signal


class StopSignal:
    """While entered, SIGTERM and SIGINT ask for a stop after the piece of work in progress instead of killing the run."""

    def __enter__(self):
        self.asked = False
        self._previous = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _ask(self, number, frame):
        self.asked = True

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
