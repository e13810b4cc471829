"""Docs, help and docstrings use the field's words: no private term, no archaic turn of phrase."""

import ast
import re
import subprocess
from collections.abc import Iterator
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
QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"|“[^”]*”")


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of a module, its classes and functions, and those below attributes."""
    for node in ast.walk(ast.parse(source)):
        for child in getattr(node, "body", []) if isinstance(getattr(node, "body", None), list) else []:
            value = child.value if isinstance(child, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def banned_words(text: str) -> list[str]:
    """Banned words of a text, those in quotation marks or code left out."""
    return [match.group(0).lower() for match in BANNED.finditer(QUOTED.sub("", text))]


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\n") if name and Path(name) != Path(__file__)]


@pytest.mark.parametrize("path", tracked("*.py"), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_and_help_use_the_fields_words(path):
    assert [word for text in docstrings(path.read_text()) for word in banned_words(text)] == []


@pytest.mark.parametrize("path", tracked("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_use_the_fields_words(path):
    assert banned_words(path.read_text()) == []


@pytest.mark.parametrize(
    ("text", "found"), [("What h foretold", ["foretold"]), ("Beside it", ["beside"]), ("besides", [])]
)
def test_a_banned_word_is_found(text, found):
    assert banned_words(text) == found


def test_quotations_and_code_are_left_out():
    assert banned_words('the key `strangers`, once called "crowding"') == []


def test_docstrings_below_attributes_are_read():
    assert list(docstrings('"""a"""\nclass A:\n    x: int = 1\n    """b"""\n')) == ["a", "b"]
