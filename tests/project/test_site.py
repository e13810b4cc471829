"""The documentation builds as a site without warnings, complete and without network access."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: `make docs` into a temporary folder."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_warnings(site):
    assert (site / "index.html").exists()


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site):
    loads = re.compile(
        r"""(?:<script[^>]*src|<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href|<img[^>]*src)=["']?https?://"""
    )
    assert not [page.name for page in site.rglob("*.html") if loads.search(page.read_text())]


@pytest.mark.slow
def test_templates_and_artefacts_are_not_part_of_the_site(site):
    assert not (site / "templates").exists()
    assert not (site / "results").exists()


@pytest.mark.slow
def test_the_api_shows_the_public_functions(site):
    page = (site / "api" / "index.html").read_text()
    assert "load_simulator" in page
    assert "run_with_cache" in page


def test_every_image_is_listed_among_the_figures():
    page = (DOCS / "figures.md").read_text()
    assert not [path.name for path in (DOCS / "images").iterdir() if path.name not in page]


def test_the_training_curve_is_that_of_the_shipped_agent():
    shown, shipped = DOCS / "images/training_curve.png", ROOT / "pretrained/coinrun_easy_200/plot_for_fig.png"
    assert shown.read_bytes() == shipped.read_bytes()


def test_every_artefact_is_listed_among_the_results():
    page = (DOCS / "figures.md").read_text()
    assert not [path.name for path in (DOCS / "results").iterdir() if path.name not in page]


def test_the_glossary_has_one_line_per_term():
    rows = [line for line in (DOCS / "glossary.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 50
    assert all(line.endswith(" |") and line.count(" | ") == 1 for line in rows)
