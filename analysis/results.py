"""`make results`: writes every number that the README and docs quote, from the artefacts that hold them.

A page quotes a number as <!--=file:path-->text<!--/-->, where `file` is a JSON artefact below pretrained/ or
docs/ and `path` leads to the number through its keys, with an optional format after a bar:
<!--=a/b.json:mean|.2f-->7.90<!--/-->.
"""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.errors import UsageError


@dataclass
class Args:
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from common.checkpoints import write_text

ROOT = Path(__file__).parents[1]
_QUOTE = re.compile(r"<!--=([^:>|]+):([^>|]+?)(?:\|([^>]+?))?-->(.*?)<!--/-->", re.DOTALL)


def pages() -> list[Path]:
    """The README and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def quoted(file: str, path: str, form: str | None) -> str:
    """The number that a quotation asks for, formatted. Raises ValueError where the artefact or the key is
    missing.
    """
    artefact = ROOT / file
    if not artefact.exists():
        raise ValueError(f"no artefact {file}")
    value = json.loads(artefact.read_text())
    for key in path.split("."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{file} has no {path} (at {key!r})") from error
    return format(value, form or "")


def refreshed(text: str) -> str:
    """The page with every quoted number as its artefact has it."""

    def replace(match):
        file, path, form, _ = match.groups()
        begin = match.group(0).split("-->")[0] + "-->"
        return begin + quoted(file, path, form) + "<!--/-->"

    return _QUOTE.sub(replace, text)


def main(args: Args) -> None:
    try:
        for page in pages():
            before = page.read_text()
            after = refreshed(before)
            if after != before:
                write_text(page, after)
            logging.info(
                "%s: %d numbers%s",
                page.relative_to(ROOT),
                len(_QUOTE.findall(after)),
                ", rewritten" if after != before else "",
            )
    except ValueError as error:
        raise UsageError(f"{error}; make the artefact with the command that its page names") from error


if __name__ == "__main__":
    run_main(main, ARGS)
