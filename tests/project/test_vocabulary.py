"""Pages and source files use the field's words: no private term, no archaic turn of phrase."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHAIC = (
    "foretell",
    "foretells",
    "foretold",
    "mend",
    "mended",
    "mends",
    "told",
    "beside",
    "on show",
    "anew",
    "so many",
    "the way out",
    "comes back",
    "come back",
    "what it is made of",
    "by heart",
    "lived through",
)
"""Turns of phrase that a reader has to translate."""
PRIVATE = (
    "yardstick",
    "yardsticks",
    "crowding",
    "blind run",
    "blind runs",
    "free run",
    "free runs",
    "repainted",
    "strangers",
    "pasts",
    "relive",
    "of_first",
    "begin_with",
    "check_kin",
    "fatal_share",
    "moved_cells",
    "map memory",
)
"""Words of our own for things that have a name in the field."""
BANNED = re.compile(rf"\b({'|'.join(ARCHAIC + PRIVATE)})\b", re.IGNORECASE)
CODE = re.compile(r"`[^`\n]*`")
QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”")


def banned_words(text: str) -> list[str]:
    """Banned words of a text, those in backticks left out."""
    return [match.group(0).lower() for match in BANNED.finditer(CODE.sub("", text))]


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\n") if name]
    return [path for path in paths if path != Path(__file__)]


@pytest.mark.parametrize("path", tracked("*.py"), ids=lambda path: str(path.relative_to(ROOT)))
def test_source_files_use_the_fields_words(path):
    """Names, comments, docstrings, help and messages alike."""
    assert banned_words(path.read_text()) == []


@pytest.mark.parametrize("path", tracked("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_use_the_fields_words_outside_quotations(path):
    assert banned_words(QUOTED.sub("", path.read_text())) == []


@pytest.mark.parametrize(
    ("text", "found"), [("What h foretold", ["foretold"]), ("Beside it", ["beside"]), ("besides", [])]
)
def test_a_banned_word_is_found(text, found):
    assert banned_words(text) == found


def test_code_is_left_out_and_quotations_on_pages():
    assert banned_words("the key `strangers`") == []
    assert banned_words(QUOTED.sub("", 'once called "crowding"')) == []
