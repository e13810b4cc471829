"""Errors that the user can fix. They stand here, in a module that imports nothing, so that a command line can
be read at once.
"""


class UsageError(ValueError):
    """What was asked cannot be done; the message says why and the way out, in one line."""


class BadCheckpoint(ValueError):
    """The file is not a whole checkpoint of the kind that was asked for."""


def one_line(message: object) -> str:
    r"""The message with every control character written as its escape: a name with a newline in it prints as
    "\n".
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message))
