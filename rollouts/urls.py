"""Which paths are URLs: those of stores on other file systems. Imports nothing slow."""

import re

_NAME = r"[A-Za-z][\w+.-]+"
URL = re.compile(rf"((?:{_NAME}::)*{_NAME}):(?:/+(.*)|$)")
"""A URL, of whose slashes pathlib may have left one, or none at its end: file system and place."""
LOCAL = "file"


def is_elsewhere(path: object) -> bool:
    """Whether a path is the URL of another file system than this machine's, even once it was made a Path."""
    url = URL.fullmatch(str(path))
    return url is not None and url[1] != LOCAL
