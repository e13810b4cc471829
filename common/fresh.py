"""Directories that this process has begun. A script that is then refused takes back those in which nothing
was made.
"""

import shutil
from pathlib import Path

BOOKKEEPING = ("config.json", "manifest.json", "lock")
"""What a run's directory holds from its beginning."""
_begun: list[tuple[Path, Path]] = []


def first_missing(directory: Path) -> Path:
    """The highest of the directory and its parents that is not there yet."""
    return next(
        path for path in (*reversed(directory.parents), directory) if not path.exists() or path == directory
    )


def remember(directory: Path, first_made: Path) -> None:
    """Notes that this process made the directory, and its parents from first_made on."""
    _begun.append((directory, first_made))


def is_empty(directory: Path) -> bool:
    """Whether a run's directory holds no finished file."""
    return all(file.name.startswith(".") or file.name in BOOKKEEPING for file in directory.iterdir())


def forget() -> None:
    """Leaves everything that was begun before this moment as it is."""
    _begun.clear()


def take_back() -> None:
    """Removes the directories that this process began and that hold no finished file, and the parents that it
    made for them.
    """
    while _begun:
        directory, first_made = _begun.pop()
        if not directory.exists() or not is_empty(directory):
            continue
        shutil.rmtree(directory)
        for parent in directory.parents:
            if not parent.is_relative_to(first_made) or any(parent.iterdir()):
                break
            parent.rmdir()
