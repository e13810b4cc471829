"""Which paths are URLs: those of stores on other file systems. Imports nothing slow."""

import re

URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)")
"""A URL, of whose slashes pathlib may have left one."""
LOCAL = "file"


def is_elsewhere(path: object) -> bool:
    """Whether a path is the URL of another file system than this machine's, even once it was made a Path."""
    url = URL.fullmatch(str(path))
    return url is not None and url[1] != LOCAL
