"""How every script starts and fails: flags from a dataclass, logging to the terminal, one clear line instead of a traceback for bad input.

A script reads its command line before its slow imports, so that --help and a mistake are answered at once:

    '''What the script does, in a line.'''

    from dataclasses import dataclass
    from common.cli import parse, run_main       # these import neither torch nor numpy, and what stands above them does not either

    @dataclass
    class Args:
        ...

    if __name__ == "__main__":
        ARGS = parse(Args, __doc__)

    from agents.actor_critic import load_agent   # everything that the work needs

    def main(args: Args) -> None:
        ...

    if __name__ == "__main__":
        run_main(main, ARGS)
"""

import difflib
import errno
import itertools
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

from tyro import _errors as refusals  # not public: requirements.txt pins tyro, and tests/test_command_line.py holds every message

from common.errors import BadCheckpoint, UsageError, one_line
from common.flags import flag_names, read_flags, spelled
from common.fresh import forget, take_back

USER_ERRORS = (UsageError, BadCheckpoint, FloatingPointError)
"""What the user can mend: a demand that cannot be met, a file that is not what it should be, a training that diverged."""
_NO_ROOM = "nothing half-written was kept: free some space or choose another place, then run the same command again"
_NO_PATH = "check the path, and give another"
_ADVICE = dict.fromkeys((errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT), _NO_ROOM)
_ADVICE |= dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG), _NO_PATH)


def parse(args_type: type, description: str = "", words: Sequence[str] | None = None):
    """The words (default: of the command line) as an args_type. A mistake in them ends in one line on stderr and exit code 2."""
    given = sys.argv[1:] if words is None else words

    def refuse(message: str) -> None:
        print(f"error: {one_line(message)}", file=sys.stderr)
        sys.exit(2)

    def explain(event) -> None:
        message = _refusal(event, args_type, given)
        if message:  # a kind of mistake that our flags do not have is left to tyro
            refuse(f"{message}; --help lists the flags")

    with _until_the_reader_leaves(), refusals.on_parse_error(explain):
        args = read_flags(args_type, description, given)
    try:
        check_common(args)
    except UsageError as error:
        refuse(str(error))
    return args


def run_main(main: Callable, args) -> None:
    """Calls main(args). What the user can mend ends in one line on stderr and exit code 1; what is our bug keeps its traceback.

    SIGINT (Ctrl-C), SIGTERM and SIGHUP end in one line too, and in the exit code that a shell expects of them: 130, 143, 129.
    """
    from common.progress import start_logging  # brings tqdm, which --help does not wait for

    start_logging(getattr(args, "log_level", logging.INFO))
    forget()
    with StopOnSignal("the same command" + (" without --new" if getattr(args, "new", False) else "")) as stop:
        try:
            with _quiet_threads(), _until_the_reader_leaves():
                main(args)
        except BaseException as error:
            line, stopped = _advice(error), stop.asked or isinstance(error, KeyboardInterrupt)
            if line is None and not stopped:
                raise
            logging.debug("traceback", exc_info=True)
            if stopped:
                stop.tell()
                stop.leave()
            take_back()
            sys.exit(f"error: {line}")


def _advice(error: BaseException) -> str | None:
    """What the user can mend, in one line; None for anything else."""
    if isinstance(error, USER_ERRORS):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in _ADVICE:
        where = f" ({error.filename})" if error.filename else ""  # a failed write does not know its file
        return f"{one_line(error.strerror + where)}; {_ADVICE[error.errno]}"
    if _out_of_memory(error):
        return "this machine has not enough memory for the sizes that were asked for: ask for fewer, or for less at a time, such as a smaller --batch_size"
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Whether numpy, or PyTorch on the CPU or on a GPU, was refused memory. PyTorch is not imported for it."""
    by_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or isinstance(error, RuntimeError) and by_torch


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Threads that fail as the main thread may, of a full disk, say, print no traceback beside its line."""
    hook = threading.excepthook

    def told(failure) -> None:
        if _advice(failure.exc_value) is None:
            hook(failure)

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = hook


@contextmanager
def _until_the_reader_leaves():
    """A reader that has seen enough (`| head`) ends the script without a word, with the exit code that a shell expects."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def check_common(args) -> None:
    """Raises UsageError for what no script can do: a flag that is NaN, too few threads, a seed out of range, a name that cannot be a directory's."""
    for flag, given in vars(args).items():
        if given != given:
            raise UsageError(f"--{flag} is nan: give a number")
    for flag, least in (("num_threads", 1), ("gpu_device", 0)):
        given = getattr(args, flag, least)
        if given < least:
            raise UsageError(f"--{flag} is {given}: give {least} or more")
    if not 0 <= getattr(args, "seed", 0) <= 2147483647:
        raise UsageError(f"--seed is {args.seed}: give a seed from 0 to 2147483647")
    for flag in ("exp_name", "gen_mod_exp_name"):
        given = getattr(args, flag, "test")
        if not (given.isprintable() and given.strip() and Path(given).parts):
            raise UsageError(f"--{flag} is {given!r}: give a name of printable characters, which becomes a directory")
        if Path(given).is_absolute() or ".." in Path(given).parts:
            raise UsageError(f"--{flag} is {given}, which leads out of the place for results: give a name, and the place with another flag")


def _refusal(event, args_type: type, words: Sequence[str]) -> str | None:
    """What is wrong with the command line, in one line, or None for an event that is not known here."""
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
        return f"{_name(event.argument)} takes {event.argument.lowered.metavar}, not {_given(event.argument, words) or 'nothing'}"
    return None


def _given(argument, words: Sequence[str]) -> str:
    """The words that the command line gives a flag, the last time that it stands there."""
    names, given = {spelled(name) for name in argument.lowered.name_or_flags}, []
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if spelled(flag) in names:
            given = [value] if equals else list(itertools.takewhile(lambda w: not w.startswith("--"), words[i + 1 :]))
    return " ".join(map(repr, given))


def _name(argument) -> str:
    """A flag as the documentation spells it."""
    return argument.lowered.metavar if argument.is_positional() else spelled(argument.lowered.name_or_flags[0])


