"""Pages and artefacts agree."""

import pytest

from analysis import results


@pytest.mark.parametrize("page", results.pages(), ids=lambda page: page.name)
def test_every_quoted_number_is_its_artefacts(page):
    text = page.read_text()
    assert results.refreshed(text) == text, f"{page.name} differs from its artefacts; run: make results"


def test_a_changed_artefact_changes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    (tmp_path / "a.json").write_text('{"score": {"mean": 7.251, "interval": [6, 8]}}')
    assert (
        results.refreshed("x <!--=a.json:score.mean|.1f-->0.0<!--/--> y")
        == "x <!--=a.json:score.mean|.1f-->7.3<!--/--> y"
    )
    assert (
        results.refreshed("<!--=a.json:score.interval.1-->0<!--/-->")
        == "<!--=a.json:score.interval.1-->8<!--/-->"
    )
    with pytest.raises(ValueError, match="no score.low"):
        results.refreshed("<!--=a.json:score.low-->1<!--/-->")
    with pytest.raises(ValueError, match="no artefact"):
        results.refreshed("<!--=b.json:score-->1<!--/-->")
