"""One self-contained HTML page: text, tables, pictures and clips, all embedded, nothing fetched."""

import base64
import html
from pathlib import Path

from common.checkpoints import write_text

_STYLE = """
body { font: 16px/1.5 Georgia, serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1, h2 { font-family: Helvetica, Arial, sans-serif; line-height: 1.2; } h1 { font-size: 1.9rem; } h2 { font-size: 1.25rem; margin-top: 2.4rem; }
figure { margin: 1.2rem 0; } figcaption, .note { color: #555; font-size: .9rem; }
img, video { max-width: 100%; } video { image-rendering: pixelated; background: #000; }
.clips { display: flex; flex-wrap: wrap; gap: 1rem; } .clips figure { margin: 0; }
table { border-collapse: collapse; font-family: Helvetica, Arial, sans-serif; font-size: .9rem; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
code { font-size: .85rem; background: #f4f4f2; padding: .1rem .3rem; }
"""


_VIDEO = '<video autoplay loop muted playsinline controls src="{}"></video>'


class Page:
    """Collects parts in order; `write` puts them into one file."""

    def __init__(self, title: str):
        self.title, self._parts = title, []

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, note: bool = False) -> None:
        self._parts.append(f"<p{' class=note' if note else ''}>{html.escape(text)}</p>")

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        def cells(row, tag):
            return "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row)

        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
        self._parts.append(f"<table><tr>{cells(header, 'th')}</tr>{body}</table>")

    def link(self, address: str, words: str) -> None:
        """A link to a file beside the page."""
        self._parts.append(f'<p><a href="{html.escape(address)}">{html.escape(words)}</a></p>')

    def picture(self, path: Path, caption: str) -> None:
        self._parts.append(_figure(f'<img alt="{html.escape(caption)}" src="{_data_uri(path)}">', caption))

    def clips(self, clips: list[tuple[Path, str]]) -> None:
        """Clips side by side, each an mp4 file with its caption; they play in a loop without sound."""
        figures = "".join(_figure(_VIDEO.format(_data_uri(path)), caption) for path, caption in clips)
        self._parts.append(f'<div class="clips">{figures}</div>')

    def write(self, path: Path) -> None:
        title = html.escape(self.title)
        head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
        write_text(path, f"{head}<body><h1>{title}</h1>{''.join(self._parts)}</body></html>\n")


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _data_uri(path: Path) -> str:
    kind = {".png": "image/png", ".mp4": "video/mp4", ".svg": "image/svg+xml"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
