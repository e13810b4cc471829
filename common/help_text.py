"""Layout of --help: paragraphs filled to the width of the terminal, and examples left as they are written."""

import inspect
import textwrap


class LaidOut(str):
    """Text whose line breaks are final."""


def one_line_paragraphs(text: str) -> str:
    """The text with one line per paragraph. Indented lines, such as commands to copy, keep their breaks."""
    if isinstance(text, LaidOut):
        return text
    joined: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        line = line.rstrip()
        goes_on = joined and joined[-1] and line and not (_is_example(line) or _is_example(joined[-1]))
        if goes_on:
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    return "\n".join(joined)


def lay_out(text: str, width: int) -> LaidOut:
    """The text with its paragraphs filled to lines of at most `width` columns; a flag is never broken."""
    lines = one_line_paragraphs(text).splitlines()
    return LaidOut("\n".join(line if _is_example(line) else _filled(line, width) for line in lines))


def _is_example(line: str) -> bool:
    return line.startswith(" ")


def _filled(line: str, width: int) -> str:
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
