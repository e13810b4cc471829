"""Files and directories that a script is to read: whether they are there before its jobs are submitted.

A word with an asterisk stands for a result of earlier jobs, and URLs are not looked up.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rollouts.urls import URL, is_elsewhere

LACKS = "lacks: "
WRITES = "writes to: "
"""Beginnings of the lines in which a dry run says what is not there yet, and where results go."""


def lacking(read: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Flags and paths {flag: paths} to read that do not exist."""
    return [(flag, path) for flag, paths in read.items() for path in paths if not _may_be_there(path)]


def _may_be_there(path: str) -> bool:
    if "*" in path or is_elsewhere(path):
        return True
    url = URL.fullmatch(path)
    return os.path.exists(f"/{url[2] or ''}" if url else path)


def report(lacks: Sequence[tuple[str, str]], written: Sequence[str]) -> list[str]:
    """Lines of a dry run on what is not there yet, and on where the script writes."""
    lines = [f"{LACKS}{shlex.join(pair)}" for pair in lacks]
    return lines + [f"{WRITES}{shlex.join(written)}"] * bool(written)


def read_report(said: str) -> tuple[list[tuple[str, str]], list[str]]:
    """What `report` said in the lines of a dry run."""
    lines = said.splitlines()
    lacks = [shlex.split(line.removeprefix(LACKS)) for line in lines if line.startswith(LACKS)]
    written = [shlex.split(line.removeprefix(WRITES)) for line in lines if line.startswith(WRITES)]
    return [(flag, path) for flag, path in lacks], [path for paths in written for path in paths]


def is_inside(path: str, place: str) -> bool:
    """Whether a path is a place or lies in it."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(place))
