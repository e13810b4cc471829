"""Graceful interruption: SIGINT (Ctrl-C), SIGTERM and SIGHUP end a run within seconds, after its state is
saved.

`StopOnSignal` is entered once per script (common/cli.py) and raises `Stopped` in the main thread. Work with
state to save, or finished pieces to report, runs inside `saving_on_stop`. A call into C can block Python's
signal handlers for minutes, so a thread watches as well: after GRACE_SECONDS it saves the state and ends the
process itself.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 5.0
"""Time that the main thread has to end before the watching thread ends the process."""
LAST_SECONDS = 60.0
"""Time that saving may take after that."""
INSIST_SECONDS = 1.0
"""A second Ctrl-C within this time counts as the first, delivered by terminal and parent process."""
RETRY_SECONDS = 0.01
SAVE_SECONDS = 60.0
"""Interval at which a training saves the state that it resumes from, whatever its steps."""


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class WayOn(str):
    """What is kept and how to go on, where it is not by the same command."""


class _Keeper:
    """Calls `save` once, from whichever thread comes first, and caches the answer."""

    def __init__(self, save: Callable[[], str | None]):
        self._save = save
        self._answer = []

    def __call__(self) -> str | None:
        with _lock:
            if not self._answer:
                self._answer.append(self._try())
            return self._answer[0]

    def _try(self) -> str | None:
        try:
            return self._save()
        except OSError as error:
            return f"the state at hand could not be saved ({error.strerror}), what was saved before is kept"


@dataclass
class _Process:
    """State of this process's interruption.

    Attributes:
        keepers: of the work in progress, innermost last.
        answers: of the keepers that a stop has called.
        report: message about what else is kept.
        held: number of running `uninterrupted` bodies.
        asked: the signal that asked for a stop.
        pending: the signal that waits for `uninterrupted` bodies to end.
    """

    keepers: list[_Keeper] = field(default_factory=list)
    answers: list[str | None] = field(default_factory=list)
    report: Callable[[], str | None] = str
    held: int = 0
    asked: int | None = None
    pending: int | None = None


_lock = threading.RLock()
"""Held while keepers' state changes, and while one saves."""
_process = _Process()


@contextmanager
def saving_on_stop(save: Callable[[], str | None]) -> Iterator[None]:
    """Calls `save`, from any thread, if a stop occurs inside; it writes the current state and returns what is
    kept.

    An empty answer means that nothing is kept; None suppresses the message. A WayOn says how to go on.
    """
    keeper = _Keeper(save)
    _process.keepers.append(keeper)
    try:
        yield
    except BaseException as error:
        # what fails after a stop, fails of it: another process may have left
        if _process.asked is not None or isinstance(error, KeyboardInterrupt):
            _process.answers.append(keeper())
        raise
    finally:
        _process.keepers.remove(keeper)


def report_on_stop(kept: Callable[[], str | None]) -> None:
    """Sets the message of a stop outside `saving_on_stop`."""
    _process.report = kept


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays a stop until the body ends; for short changes that must be complete."""
    with _lock:
        _process.held += 1
        try:
            yield
        finally:
            _process.held -= 1
    _raise_pending()


def _raise_pending() -> None:
    if not _process.held:
        stop_if_asked()


def asked_by() -> int | None:
    """The signal that asked this process to stop; None where none did."""
    return _process.asked


def stop_by(number: int) -> None:
    """Stops this process as if it had heard the signal, unless it has heard one. Raises Stopped."""
    _process.asked = number if _process.asked is None else _process.asked
    raise Stopped(number)


def stop_if_asked() -> None:
    """Raises a stop that an `uninterrupted` body delays: a point in a long one at which it may end."""
    if _process.pending is not None:
        number, _process.pending = _process.pending, None
        raise Stopped(number)


def is_script() -> bool:
    """Whether this process runs a script of this project, not a test, notebook or program of the user's."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    return (
        main is not None and ROOT in Path(main).resolve().parents and "site-packages" not in Path(main).parts
    )


def end_on_signal() -> None:
    """Makes signals end the process at once with a message and exit code, for the time of slow imports."""

    def end(number: int, frame) -> None:
        os.write(
            2, f"interrupted by {signal.Signals(number).name}: the same command goes on from there\n".encode()
        )
        os._exit(128 + number)

    for number in _heard():
        signal.signal(number, end)


def _heard() -> list[int]:
    """Signals that stop this process; an ignored SIGHUP (nohup) stays ignored."""
    return [
        number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]


class StopOnSignal:
    """Raises Stopped at the first SIGINT, SIGTERM or SIGHUP, once no `uninterrupted` body runs.

    Later signals have no effect, except that a repeated Ctrl-C does not wait for a save. Python swallows
    exceptions in destructors, and the games' C interface frees memory at every step: a Stopped that is lost
    there is raised again a moment later.

    Args:
        again: command with which the user resumes, for the message.
    """

    def __init__(self, again: str = "the same command"):
        self.again = again
        self._asked_at = 0.0
        self._has_told = False

    def __enter__(self):
        vars(_process).update(vars(_Process()))
        self._over = threading.Event()
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._asked) for number in _heard()}
        self._handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, lambda *_: self._raise())
        self._hook, sys.unraisablehook = sys.unraisablehook, self._forgotten
        return self

    def __exit__(self, *exception):
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = self._hook
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._over.set()
        os.close(self._writer)

    def _asked(self, number: int, frame) -> None:
        if _process.asked is None:
            _process.asked = number
            self._asked_at = time.monotonic()
            self._raise()
        elif number == signal.SIGINT and time.monotonic() - self._asked_at > INSIST_SECONDS:
            os.write(2, b"stopped at once, without saving: what was saved before is kept\n")
            os._exit(self.exit_code)

    def _raise(self) -> None:
        _process.pending = self.number
        _raise_pending()

    def _forgotten(self, unraisable) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        else:
            self._hook(unraisable)

    @property
    def asked(self) -> bool:
        """Whether a stop was requested."""
        return _process.asked is not None

    @property
    def number(self) -> int:
        """The signal that requested the stop; SIGINT for a KeyboardInterrupt of another origin."""
        return signal.SIGINT if _process.asked is None else _process.asked

    @property
    def exit_code(self) -> int:
        """Exit code that shells expect of a process that a signal ended."""
        return 128 + self.number

    def tell(self) -> None:
        """Prints on stderr, once, what is kept and how to resume; saves first if that was not done."""
        with _lock:
            kept = _process.answers[0] if _process.answers else [_process.report, *_process.keepers][-1]()
            if kept is None or self._has_told:
                return
            self._has_told = True
            outcome = f"it left nothing half-written; run {self.again} again"
            if kept:
                outcome = kept if isinstance(kept, WayOn) else f"{kept}; {self.again} goes on from there"
            print(
                f"interrupted by {signal.Signals(self.number).name}: {outcome}", file=sys.stderr, flush=True
            )

    def leave(self) -> None:
        """Exits with the signal's code; a script skips the seconds that Python takes to free modules."""
        if is_script():
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(self.exit_code)
        sys.exit(self.exit_code)

    def _watch(self, reader: int) -> None:
        """Waits for a signal in a thread that calls into C do not block."""
        while (heard := os.read(reader, 1)) and heard[0] not in SIGNALS:
            continue
        if heard and not self._over.wait(GRACE_SECONDS):
            _process.asked = self.number if self.asked else heard[0]
            threading.Thread(target=self._end, daemon=True).start()
            if not self._over.wait(LAST_SECONDS):
                os._exit(self.exit_code)
        os.close(reader)  # not earlier: each later signal is written to it

    def _end(self) -> None:
        with _lock:
            self.tell()
            if not self._over.is_set():
                os._exit(self.exit_code)


class SaveClock:
    """Whether the state that a run resumes from is due for saving: SAVE_SECONDS after the last time."""

    def __init__(self):
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._saved >= SAVE_SECONDS

    def reset(self) -> None:
        self._saved = time.monotonic()
