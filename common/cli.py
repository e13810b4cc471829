"""Entry point of every script: flags from a dataclass, logging, and one line in place of a traceback.

A script parses its command line before its slow imports, so that --help and mistakes are answered at once:

    '''What the script does, in a line.'''

    from dataclasses import dataclass
    from common.cli import parse, run_main  # imports neither torch nor numpy

    @dataclass
    class Args:
        ...

    if __name__ == "__main__":
        ARGS = parse(Args, __doc__)

    from agents.actor_critic import load_agent  # slow imports

    def main(args: Args) -> None:
        ...

    if __name__ == "__main__":
        run_main(main, ARGS)
"""

import difflib
import errno
import itertools
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.stopping import StopOnSignal, end_on_signal, is_script

if is_script():
    end_on_signal()  # the slow imports come next, tyro's among them

# not public: requirements.txt pins tyro, and tests/project/test_command_line.py checks every message
from tyro import _errors as refusals

from common.errors import BadCheckpoint, UsageError, one_line
from common.flags import flag_names, read_flags, script_words, spelled
from common.fresh import forget, take_back
from common.launcher import (
    LAUNCHING,
    Launch,
    check_script,
    commands,
    read_and_written,
    split_launcher,
)
from common.shared_flags import ALONE, Job

USER_ERRORS = (UsageError, BadCheckpoint, FloatingPointError)
"""Errors that the user can fix: an impossible request, an invalid file, a diverged training."""
_NO_ROOM = (
    "nothing half-written was kept: free some space or choose another place, then run the same command again"
)
_NO_RIGHT = "change its permissions or choose another place, then run the same command again"
_NO_PATH = "check the path, and give another"
_ADVICE = dict.fromkeys((errno.ENOSPC, errno.EFBIG, errno.EDQUOT), _NO_ROOM)
_ADVICE |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _NO_RIGHT)
_ADVICE |= dict.fromkeys(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP), _NO_PATH
)


def parse(args_type: type, description: str = "", words: Sequence[str] | None = None):
    """Parses the command line (or `words`) into an args_type; a mistake prints one line and exits with code
    2.

    With --launcher on the command line the script is submitted to a cluster, and this process ends.
    """
    given = sys.argv[1:] if words is None else words
    own, launcher = split_launcher(given) if words is None else (given, None)
    if launcher is None:
        return _read(args_type, description, own)
    launch = _read(Launch, LAUNCHING, [*launcher, *(["--help"] if "--help" in own or "-h" in own else [])])
    with _refused():
        launch.check()
        check_script(launch, script_words())
        each = commands(args_type, launch, own)
    jobs = [_read(args_type, description, one) for one in each]
    read, written = read_and_written(args_type, jobs, each[0])
    known = {"flags": vars(jobs[0]), "read": read, "written": written}
    text = json.dumps(known, default=lambda value: getattr(value, "__dict__", None) or str(value))
    submit = [sys.executable, "-m", "slurm.submit", *launcher, "--", text, *script_words(), *own]
    os.execv(sys.executable, submit)


def _read(args_type: type, description: str, given: Sequence[str]):
    """Parses words into an args_type; a mistake prints one line and exits with code 2."""

    def explain(event) -> None:
        message = _refusal(event, args_type, given)
        if message:  # a kind of mistake that our flags do not have is left to tyro
            _refuse(f"{message}{'' if message.endswith('?') else ';'} --help lists the flags")

    with _until_the_reader_leaves(), refusals.on_parse_error(explain):
        args = read_flags(args_type, description, given)
    with _refused():
        check_common(args)
    return args


def _refuse(message: str) -> None:
    print(f"error: {one_line(message)}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def _refused() -> Iterator[None]:
    """A UsageError in the body prints one line and exits with code 2."""
    try:
        yield
    except UsageError as error:
        _refuse(str(error))


def run_main(main: Callable, args) -> None:
    """Calls main(args). Errors that the user can fix print one line and exit with code 1; bugs keep their
    traceback.

    SIGINT (Ctrl-C), SIGTERM and SIGHUP print one line and exit with 130, 143 and 129, as shells expect.
    """
    from common.progress import start_logging  # brings tqdm, which --help does not wait for

    start_logging(getattr(args, "log_level", logging.INFO))
    forget()
    with StopOnSignal("the same command" + (" without --new" if getattr(args, "new", False) else "")) as stop:
        try:
            with _quiet_threads(), _until_the_reader_leaves():
                main(args)
        except BaseException as error:
            line = _advice(error)
            stopped = stop.asked or isinstance(error, KeyboardInterrupt)
            if line is None and not stopped:
                raise
            logging.debug("traceback", exc_info=True)
            if stopped:
                stop.tell()
                stop.leave()
            take_back()
            sys.exit(f"error: {line}")


def _advice(error: BaseException) -> str | None:
    """One line for an error that the user can fix; None for any other."""
    if isinstance(error, USER_ERRORS):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in _ADVICE:
        where = f" ({error.filename})" if error.filename else ""  # a failed write does not know its file
        return f"{one_line(error.strerror + where)}; {_ADVICE[error.errno]}"
    if _out_of_memory(error):
        return (
            "this machine has not enough memory for the sizes that were asked for: ask for fewer, or"
            " for less at a time, such as a smaller --batch_size"
        )
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Whether numpy or PyTorch (CPU or GPU) ran out of memory; does not import PyTorch."""
    by_torch = type(
        error
    ).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and by_torch)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Suppresses tracebacks of threads that fail with an error that the main thread reports, such as a full
    disk.
    """
    hook = threading.excepthook

    def report_bugs_only(failure) -> None:
        if _advice(failure.exc_value) is None:
            hook(failure)

    threading.excepthook = report_bugs_only
    try:
        yield
    finally:
        threading.excepthook = hook


@contextmanager
def _until_the_reader_leaves():
    """Exits silently, with the code that shells expect, if the reader of stdout closes it (`| head`)."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def check_common(args) -> None:
    """Raises UsageError for values that no script accepts: NaN, too few threads, a seed out of range, a name
    that cannot be a directory's.
    """
    for flag, given in vars(args).items():
        if given != given:
            raise UsageError(f"--{flag} is nan: give a number")
    if getattr(args, "num_threads", 1) < 1:
        raise UsageError(f"--num_threads is {args.num_threads}: give 1 or more")
    if not 0 <= getattr(args, "seed", 0) <= 2147483647:
        raise UsageError(f"--seed is {args.seed}: give a seed from 0 to 2147483647")
    job = Job(*getattr(args, "job", ALONE))
    job.check()
    if job.count > 1 and getattr(args, "new", False):
        raise UsageError(
            f"--new would start a run for each of {job.count} jobs: give another --out_dir, or leave one out"
        )
    for flag in ("exp_name", "gen_mod_exp_name"):
        given = getattr(args, flag, "test")
        if not (given.isprintable() and given.strip() and Path(given).parts):
            raise UsageError(
                f"--{flag} is {given!r}: give a name of printable characters, which becomes a directory"
            )
        if Path(given).is_absolute() or ".." in Path(given).parts:
            raise UsageError(
                f"--{flag} is {given}, which leads out of the place for results: give a name, and"
                " the place with another flag"
            )


def _refusal(event, args_type: type, words: Sequence[str]) -> str | None:
    """The mistake in a command line as one line; None for events that are left to tyro."""
    flags = flag_names(args_type)
    for flag in (word.split("=")[0] for word in words if word.startswith("--")):
        if spelled(flag) not in flags:  # before all else: it may be why another one is missing
            nearest = difflib.get_close_matches(spelled(flag), flags, n=1)
            return f"unknown flag {flag}" + (f", did you mean {nearest[0]}?" if nearest else "")
    if isinstance(event, refusals.UnrecognizedArgs):
        return f"unexpected {event.tokens[0]!r}"
    if isinstance(event, refusals.MissingArgs):
        return f"{', '.join(_name(missing.arg) for missing in event.missing_arguments)} must be given"
    if isinstance(event, refusals.BadValue) and event.argument.is_positional():
        return f"{_name(event.argument)} must be given"
    if isinstance(event, refusals.InvalidChoice):
        return f"{_name(event.argument)} takes {', '.join(event.choices)}, not {event.value!r}"
    if isinstance(event, (refusals.BadValue, refusals.InstantiationFailure)) and event.argument is not None:
        return (
            f"{_name(event.argument)} takes {event.argument.lowered.metavar}, not"
            f" {_given(event.argument, words) or 'nothing'}"
        )
    return None


def _given(argument, words: Sequence[str]) -> str:
    """The words given for a flag, at its last occurrence."""
    names = {spelled(name) for name in argument.lowered.name_or_flags}
    given = []
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if spelled(flag) in names:
            given = (
                [value]
                if equals
                else list(itertools.takewhile(lambda w: not w.startswith("--"), words[i + 1 :]))
            )
    return " ".join(map(repr, given))


def _name(argument) -> str:
    """A flag as spelled in the documentation, not its alias."""
    return (
        argument.lowered.metavar if argument.is_positional() else spelled(argument.lowered.name_or_flags[-1])
    )
