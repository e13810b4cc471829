"""Pages and artefacts agree."""

import pytest

from analysis import results


@pytest.mark.parametrize("page", results.pages(), ids=lambda page: page.name)
def test_every_quoted_number_is_its_artefacts(page):
    text = page.read_text()
    assert results.refreshed(text) == text, f"{page.name} differs from its artefacts; run: make results"


def test_a_changed_artefact_changes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    (tmp_path / "a.json").write_text('{"score": {"mean": 7.251}}')
    assert results.refreshed("x <!--=a.json:score.mean|.1f-->0.0<!--/--> y") == "x <!--=a.json:score.mean|.1f-->7.3<!--/--> y"
    with pytest.raises(ValueError, match="no score.low"):
        results.refreshed("<!--=a.json:score.low-->1<!--/-->")
    with pytest.raises(ValueError, match="no artefact"):
        results.refreshed("<!--=b.json:score-->1<!--/-->")
