"""Runs a script inside an HTML file in headless Chromium and reads what it returns.

The file is shown in frames of a given width inside another page, since a window is never narrower than 500
pixels. Each script posts its result to the outer page, whose text Chromium prints.
"""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
HEIGHT = 900
TIME_MS = 20_000
"""Virtual time, which passes as fast as the page allows."""
_SCRIPT = """<script>
(async () => {
  let result;
  try {
    result = await (async () => { %s })();
  } catch (error) {
    result = {error: error.stack || String(error)};
  }
  parent.postMessage({name: %s, result}, "*");
})();
</script>
"""
_OUTER = """<!doctype html><meta charset="utf-8"><style>body { margin: 0 } iframe { border: 0 }</style>
<pre id="results"></pre>
<script>
const results = {};
addEventListener("message", ({data}) => {
  results[data.name] = data.result;
  document.getElementById("results").textContent = JSON.stringify(results);
});
</script>
"""


def find_chromium() -> str | None:
    """Path of Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def run_scripts(page: Path, scripts: Mapping[str, tuple[int, str]], folder: Path) -> dict:
    """What each script returns, by its name.

    Args:
        page: the HTML file; copies of it, each with a script at its end, are shown next to each other.
        scripts: {name: (width of the frame, body of an async function that returns plain data)}.
        folder: for temporary files.
    """
    outer = _OUTER
    for name, (width, body) in scripts.items():
        copy = folder / f"{name}.html"
        copy.write_text(page.read_text() + _SCRIPT % (body, json.dumps(name)))
        outer += f'<iframe src="{copy.name}" style="width: {width}px; height: {HEIGHT}px"></iframe>\n'
    (folder / "outer.html").write_text(outer)
    words = [
        find_chromium(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        f"--virtual-time-budget={TIME_MS}",
        "--window-size=1400,900",
        "--dump-dom",
        (folder / "outer.html").as_uri(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=True)
    results = json.loads(
        html.unescape(re.search(r'<pre id="results">(.*?)</pre>', done.stdout, re.DOTALL)[1])
    )
    assert results.keys() == scripts.keys(), "a script did not finish"
    return results
