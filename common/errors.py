"""Errors that a user can fix. Imports nothing, so that command lines are parsed at once."""


class UsageError(ValueError):
    """The request cannot be met; the message says why and how to fix it, in one line."""


class BadCheckpoint(ValueError):
    """The file is not a complete checkpoint of the expected kind."""


def one_line(message: object) -> str:
    """The message with control characters escaped, so that it prints on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message))
