"""Removes the directories that this process created if its script is refused before writing anything."""

import shutil
from pathlib import Path

BOOKKEEPING = ("config.json", "manifest.json")
"""Files of every run directory from its creation, besides its locks."""
_begun: list[tuple[Path, Path]] = []


def first_missing(directory: Path) -> Path:
    """The topmost directory of the path that does not exist yet, else the directory itself."""
    return next(
        path for path in (*reversed(directory.parents), directory) if not path.exists() or path == directory
    )


def remember(directory: Path, first_made: Path) -> None:
    """Records that this process created the directory and its parents from `first_made` down."""
    _begun.append((directory, first_made))


def is_empty(directory: Path) -> bool:
    """Whether a run directory holds no finished file."""
    return all(
        file.name.startswith((".", "lock")) or file.name in BOOKKEEPING for file in directory.iterdir()
    )


def forget() -> None:
    """Forgets the directories recorded so far, so that they are kept."""
    _begun.clear()


def take_back() -> None:
    """Removes recorded directories without finished files, and the parents created for them."""
    while _begun:
        directory, first_made = _begun.pop()
        if not directory.exists() or not is_empty(directory):
            continue
        shutil.rmtree(directory)
        for parent in directory.parents:
            if not parent.is_relative_to(first_made) or any(parent.iterdir()):
                break
            parent.rmdir()
