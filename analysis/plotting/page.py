"""Self-contained HTML page: text, tables, figures and clips are embedded, nothing is loaded."""

import base64
import html
from pathlib import Path

from common.checkpoints import write_text

_STYLE = """
:root { --ink: #1d1f23; --quiet: #5c626b; --rule: #dfe2e6;
  --sans: "Helvetica Neue", Helvetica, Arial, sans-serif; }
* { box-sizing: border-box; }
body { font: 17px/1.55 Georgia, "Times New Roman", serif; color: var(--ink); background: #fff;
  max-width: 64rem; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1, h2 { font-family: var(--sans); line-height: 1.2; letter-spacing: -.01em; } h1 { font-size: 1.9rem;
  margin: 0 0 1rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .8rem; padding-top: 1.1rem; border-top: 1px solid var(--rule); }
p, li { max-width: 44rem; } figure { margin: 1.2rem 0; } figcaption, .note { color: var(--quiet);
  font: .85rem/1.45 var(--sans); max-width: 44rem; }
figcaption { margin-top: .4rem; } img, video { max-width: 100%; height: auto; display: block; } video {
  image-rendering: pixelated; background: #000; }
.clips, .row { display: flex; flex-wrap: wrap; gap: 1.4rem; margin: 1.4rem 0; align-items: flex-start; }
  .clips figure, .row figure { margin: 0; flex: 0 1 auto; min-width: 0; }
.clips figure { max-width: 38rem; } .row figure { flex: 1 1 21rem; max-width: 30rem; }
.scroll { overflow-x: auto; margin: 1.2rem 0; } .scroll img { min-width: 34rem; }
table { border-collapse: collapse; font-family: var(--sans); font-size: .85rem; }
th, td { padding: .4rem 1.1rem .4rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); font-variant-numeric: tabular-nums; }
th { color: var(--quiet); font-weight: 600; } a { color: #1f5c9e; }
@media (max-width: 40rem) { th, td { white-space: nowrap; } }
code, pre { font-size: .82rem; background: #f4f5f6; padding: .1rem .3rem; } pre { padding: .8rem 1rem;
  overflow-x: auto; line-height: 1.5; }
"""


_VIDEO = '<video autoplay loop muted playsinline controls src="{}"></video>'


class Page:
    """Collects parts in order; `write` writes them to one file."""

    def __init__(self, title: str):
        self.title = title
        self._parts = []

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, note: bool = False) -> None:
        self._parts.append(f"<p{' class=note' if note else ''}>{html.escape(text)}</p>")

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        def cells(row, tag):
            return "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row)

        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
        self._parts.append(f"<div class=scroll><table><tr>{cells(header, 'th')}</tr>{body}</table></div>")

    def listing(self, lines: list[str]) -> None:
        """Preformatted lines, such as commands."""
        self._parts.append(f"<pre>{html.escape(chr(10).join(lines))}</pre>")

    def link(self, address: str, words: str) -> None:
        """A link to a file next to the page."""
        self._parts.append(f'<p><a href="{html.escape(address)}">{html.escape(words)}</a></p>')

    def picture(self, path: Path, caption: str) -> None:
        """A figure at full width; on a narrow screen it keeps a legible size and scrolls."""
        image, caption = _image(path, caption), html.escape(caption)
        self._parts.append(
            f"<figure><div class=scroll>{image}</div><figcaption>{caption}</figcaption></figure>"
        )

    def row(self, pictures: list[tuple[Path, str]]) -> None:
        """Figures with captions, side by side if they fit."""
        figures = "".join(_figure(_image(path, caption), caption) for path, caption in pictures)
        self._parts.append(f"<div class=row>{figures}</div>")

    def clips(self, clips: list[tuple[Path, str]]) -> None:
        """mp4 clips with captions, side by side; they loop without sound."""
        figures = "".join(_figure(_VIDEO.format(_data_uri(path)), caption) for path, caption in clips)
        self._parts.append(f'<div class="clips">{figures}</div>')

    def write(self, path: Path) -> None:
        title = html.escape(self.title)
        view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
        style = f"<title>{title}</title><style>{_STYLE}</style>"
        head = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{view}{style}</head>'
        write_text(path, f"{head}<body><h1>{title}</h1>{''.join(self._parts)}</body></html>\n")


def _image(path: Path, caption: str) -> str:
    return f'<img alt="{html.escape(caption)}" src="{_data_uri(path)}">'


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _data_uri(path: Path) -> str:
    kind = {".png": "image/png", ".mp4": "video/mp4", ".svg": "image/svg+xml"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
